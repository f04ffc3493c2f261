"""How a workload's data gets in and out: its channels and outputs, of one S3 server."""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock

from emulator.data.cache.overlay import can_hold_layers
from emulator.data.inputs import (
    Sources,
    StagedChannel,
    Staging,
    check_input,
    refuse_unsupported,
    stage,
)
from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.data.objectstore.retry import PATIENCE
from emulator.data.objectstore.transfer import in_parallel
from emulator.data.outputs.artifacts import OutputRoots, upload_outputs
from emulator.model.errors import (
    FAILURE_REASON_LIMIT,
    ApiError,
    ClientError,
    InternalServerError,
    JobError,
    ValidationError,
)
from emulator.model.plan import RuntimeTraits
from emulator.model.workload import ChannelSpec, S3Uri, WorkloadSpec
from emulator.workloads.plan.layout import depth_of
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.context import Instances, StagedInputs
from emulator.workloads.run.directories import has_files
from emulator.workloads.transfers.local_fallback import keep, new_place
from emulator.workloads.transfers.reports import Meter, Reports

_CHANNELS_AT_ONCE = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Inputs:
    """Inputs (see context.py) from S3, and from directories that stand for file systems."""

    sources: Sources
    monotonic: Callable[[], float] = time.monotonic

    def check(self, spec: WorkloadSpec) -> None:
        for channel in spec.channels:
            refuse_unsupported(channel)
        check_input(
            self.sources.store,
            spec.channels,
            spec.role_arn,
            spec.scope.region,
            self.sources.file_systems,
        )

    def stage(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        traits: RuntimeTraits,
        say: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> StagedInputs:
        sources = replace(
            self.sources,
            overlays=traits.overlays and _has_place(traits, instances),
            engine=traits.engine,
            sees_mounts=traits.sees_mounts,
        )
        total = _Total(Meter(self.monotonic, say))
        ready: list[StagedChannel] = []

        def stage_one(channel: ChannelSpec, stopping: Callable[[], bool]) -> None:
            ready.append(
                stage(
                    Staging(
                        channel,
                        spec.hosts,
                        {host: dirs.at(channel.path) for host, dirs in instances.items()},
                        {host: dirs.layers for host, dirs in instances.items()},
                        sources,
                        total.of(channel.name),
                        stopping,
                        depth_of(instances, posixpath.dirname(channel.path)),
                    )
                )
            )

        try:
            in_parallel(stage_one, spec.channels, cancelled, threads=_CHANNELS_AT_ONCE)
        except BaseException:
            _close(ready)
            _release(ready)
            raise
        _log.debug("%s: %s", spec.label, ready)
        return _staged(spec, ready)


def _has_place(traits: RuntimeTraits, instances: Instances) -> bool:
    """An engine mounts layers without having tried it before."""
    places = [dirs.root for dirs in instances.values()]
    return not traits.engine or can_hold_layers(places[0])


def _staged(spec: WorkloadSpec, ready: Sequence[StagedChannel]) -> StagedInputs:
    return StagedInputs(
        mounts={
            host.name: tuple(each.mounts[host.name] for each in ready if host.name in each.mounts)
            for host in spec.hosts
        },
        close=partial(_close, ready),
        release=partial(_release, ready),
        trouble=lambda: next((error for each in ready if (error := each.trouble())), None),
    )


def _close(ready: Sequence[StagedChannel]) -> None:
    for each in ready:
        each.close()


def _release(ready: Sequence[StagedChannel]) -> None:
    for each in ready:
        each.release()


class _Total:
    """Adds up the progress of channels that come at the same time."""

    def __init__(self, tell: Callable[[int, int], None]):
        self._tell = tell
        self._parts: dict[str, tuple[int, int]] = {}
        self._lock = Lock()

    def of(self, name: str) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            with self._lock:
                self._parts[name] = (done, total)
                sums = [sum(each) for each in zip(*self._parts.values(), strict=True)]
            self._tell(sums[0], sums[1])

        return progress


@dataclass(frozen=True)
class S3Outputs:
    """Outputs (see context.py) to S3."""

    store: ObjectStore
    reports: Reports
    kept: Path
    """What S3 does not take in the end is moved below it."""
    patience: float = PATIENCE
    clock: Clock = field(default_factory=Clock)

    def check(self, spec: WorkloadSpec) -> None:
        """The service's words for it are not known; the form is that of missing input."""
        for uri in (*spec.output_uris, *(str(saved.target) for saved in spec.saved)):
            if problem := self.store.key_problem(S3Uri.parse(uri).join("x").key):
                raise ValidationError(f'"{uri}" cannot be used. {problem}')
        for uri in spec.output_uris:
            self._check_bucket(spec, uri)

    def _check_bucket(self, spec: WorkloadSpec, uri: str) -> None:
        bucket = S3Uri.parse(uri).bucket
        try:
            missing = not self.store.bucket_exists(bucket)
        except StoreError as error:
            if error.transient:
                raise ApiError(str(error), code="ServiceUnavailable", status=503) from error
            missing = True
        if missing:
            raise ValidationError(
                f'The S3 output path "{uri}" cannot be used. Please ensure that the '
                f"bucket exists in the selected region ({spec.scope.region}), and that the role "
                f'"{spec.role_arn}" has "s3:PutObject" permissions on bucket "{bucket}".'
            )

    def upload(self, spec: WorkloadSpec, instances: Instances) -> None:
        roots = [
            OutputRoots(
                output,
                [dirs.at(output.path) for dirs in instances.values()],
                depth_of(instances, output.path),
            )
            for output in spec.outputs
        ]
        meter = Meter(self.reports.monotonic, lambda pace: self._tell(spec, pace))
        try:
            uploaded = upload_outputs(spec.label, roots, self.store, meter, self.patience)
        except JobError as error:
            raise self._keep(spec, instances, error) from error
        finally:
            if meter.said:
                self.reports.status(spec, spec.words.uploading)
        for warning in uploaded.warnings:
            self.reports.line(spec, f"Uploading: {warning}")

    def keep(self, spec: WorkloadSpec, instances: Instances) -> None:
        if any(has_files(spec, dirs) for dirs in instances.values()):
            place = self._move(spec, instances)
            self.reports.line(spec, f"{spec.kind.outputs} are kept in {place}.")

    def _tell(self, spec: WorkloadSpec, pace: str) -> None:
        told = f"{spec.words.uploading}: {pace}"
        self.reports.status(spec, told)
        self.reports.line(spec, told)

    def _keep(self, spec: WorkloadSpec, instances: Instances, error: JobError) -> JobError:
        """Move the outputs to where they outlive the job, and say where that is."""
        kind = ClientError if isinstance(error, ClientError) else InternalServerError
        reason = str(error).removeprefix(f"{kind.prefix}: ")
        try:
            where = f"{spec.kind.outputs} are kept in {self._move(spec, instances)}."
        except OSError as trouble:
            where = f"{spec.kind.outputs} are not kept: {trouble}."
        self.reports.line(spec, f"{error}. {where}")
        told = f"{reason}. {where}"
        return kind(told if len(told) < FAILURE_REASON_LIMIT - len(kind.prefix) else reason)

    def _move(self, spec: WorkloadSpec, instances: Instances) -> Path:
        """Move the outputs to a place of their own; raises OSError."""
        place = new_place(self.kept, spec, self.clock.now())
        for output in spec.outputs:
            roots = {host: dirs.at(output.path) for host, dirs in instances.items()}
            keep(place, output.name, roots, depth_of(instances, output.path))
        return place
