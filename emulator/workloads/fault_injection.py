"""Slow and failing S3 for the emulator's own transfers: the seeded faults before the real ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from emulator.data.objectstore.objects import Cancelled
from emulator.model.errors import SLOW_DOWN, InternalServerError
from emulator.model.faults import Chance, Kind
from emulator.model.plan import RuntimeTraits
from emulator.model.workload import S3Uri, WorkloadSpec
from emulator.workloads.fault_book import FaultBook
from emulator.workloads.run.context import Inputs, Instances, Outputs, StagedInputs

_TRIES = 4
_SLICE_SECONDS = 0.1


@dataclass(frozen=True)
class DisturbedInputs:
    """Inputs whose downloads meet the seeded faults of S3: one chance a channel and try."""

    inner: Inputs
    book: FaultBook
    sleep: Callable[[float], None] = time.sleep

    def check(self, spec: WorkloadSpec) -> None:
        self.inner.check(spec)

    def stage(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        traits: RuntimeTraits,
        say: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> StagedInputs:
        for channel in spec.channels:
            if channel.s3:
                bucket = S3Uri.parse(channel.s3["S3Uri"]).bucket
                _meet(self.book, bucket, "Data download failed", self.sleep, cancelled)
        return self.inner.stage(spec, instances, traits, say, cancelled)


@dataclass(frozen=True)
class DisturbedOutputs:
    """Outputs whose upload meets the seeded faults of S3."""

    inner: Outputs
    book: FaultBook
    sleep: Callable[[float], None] = time.sleep

    def check(self, spec: WorkloadSpec) -> None:
        self.inner.check(spec)

    def upload(self, spec: WorkloadSpec, instances: Instances) -> None:
        for bucket in dict.fromkeys(output.target.bucket for output in spec.outputs):
            _meet(self.book, bucket, "Artifact upload failed", self.sleep, lambda: False)
        self.inner.upload(spec, instances)

    def keep(self, spec: WorkloadSpec, instances: Instances) -> None:
        self.inner.keep(spec, instances)


def _meet(
    book: FaultBook,
    bucket: str,
    what: str,
    sleep: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> None:
    """Lose the seeded time; a 503 is tried again, as the real transfers do."""
    for attempt in range(_TRIES):
        if slow := book.strike(Chance(Kind.SLOW_S3, bucket=bucket)):
            _lose(slow.seconds, sleep, cancelled)
        if not book.strike(Chance(Kind.SLOW_DOWN, bucket=bucket)):
            return
        _lose(0.2 * 2**attempt, sleep, cancelled)
    raise InternalServerError(f"{what}:SlowDown (503): {SLOW_DOWN}")


def _lose(seconds: float, sleep: Callable[[float], None], cancelled: Callable[[], bool]) -> None:
    while seconds > 0:
        if cancelled():
            raise Cancelled("a slow transfer")
        sleep(min(seconds, _SLICE_SECONDS))
        seconds -= _SLICE_SECONDS
