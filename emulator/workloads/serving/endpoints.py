"""All endpoints: takes them in, changes and deletes them, and goes on with those there are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from emulator.drivers.base import Lasting
from emulator.model.errors import ApiError, ValidationError
from emulator.model.hosting import Deployment, Endpoint, EndpointStatus, LiveVariant
from emulator.model.scope import Scope
from emulator.placement.leases import Lease
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.serving.context import ServingContext
from emulator.workloads.serving.endpoint_run import EndpointRun, Surviving, number_of, numbered
from emulator.workloads.serving.instance_spec import InstanceSpec
from emulator.workloads.serving.routes import Routes
from emulator.workloads.serving.store import InstanceRow, endpoint_row

_SHUTDOWN_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Endpoints:
    """Any thread may use it."""

    def __init__(self, context: ServingContext):
        self._context = context
        self._lock = threading.Lock()
        self._runs: dict[tuple[Scope, str], EndpointRun] = {}
        self._closing = False
        self._leaves = context.leaves_instances

    @property
    def routes(self) -> Routes:
        """The ways to the instances that serve."""
        return self._context.routes

    def create(self, endpoint: Endpoint) -> Endpoint:
        """Take an endpoint in: its status is Creating, and it has a pending deployment.

        Raises ValidationError where the name is taken.
        """
        if endpoint.pending is not None:
            endpoint = replace(endpoint, pending=numbered(endpoint.pending, 1))
        with self._lock:
            if self._closing:
                raise ApiError(
                    "The emulator is shutting down.", code="ServiceUnavailable", status=503
                )
            self._context.store.create(endpoint_row(endpoint))
            # Clients look for it before the endpoint is in service, and may wait for ever.
            self._context.logs.make_group(endpoint.scope, endpoint.log_group)
            self._start(endpoint.scope, endpoint.name)
        return endpoint

    def update(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        """Bring up another deployment, which then takes the place of the one that serves.

        Raises ValidationError for an unknown endpoint and one that is in progress.
        """

        def step(row: Endpoint) -> Endpoint:
            _refuse_in_progress(row)
            now = self._context.clock.now()
            # Instances of an update that failed may still end: a number is never used again.
            number = max((number_of(row.current) if row.current else 0) + 1, int(now * 1000))
            return replace(
                row,
                status=EndpointStatus.UPDATING,
                pending=numbered(deployment, number),
                pending_since=now,
                failure_reason=None,
                modified=now,
            )

        return self._changed(scope, name, step)

    def set_capacities(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        """The same models with other weights and numbers of instances. Raises as `update`."""

        def step(row: Endpoint) -> Endpoint:
            _refuse_in_progress(row)
            number = number_of(row.current) if row.current else 1
            return replace(
                row,
                status=EndpointStatus.UPDATING,
                current=numbered(deployment, number),
                failure_reason=None,
                modified=self._context.clock.now(),
            )

        return self._changed(scope, name, step)

    def delete(self, scope: Scope, name: str) -> None:
        """Let it finish its requests and forget it.

        The service refuses this while the endpoint is Creating, which may take half an hour
        there. Here it is allowed, as waiting would help nobody. Raises ValidationError for an
        unknown endpoint and one that is being updated.
        """

        def step(row: Endpoint) -> Endpoint:
            if row.status is not EndpointStatus.CREATING:
                _refuse_in_progress(row, failed_too=False)
            now = self._context.clock.now()
            return replace(row, status=EndpointStatus.DELETING, modified=now)

        self._changed(scope, name, step)

    def live(self, scope: Scope, name: str) -> Mapping[str, LiveVariant]:
        """What there is of each variant now; empty for an endpoint without instances."""
        run = self._runs.get((scope, name))
        return run.live() if run else {}

    def live_next(self, scope: Scope, name: str) -> Mapping[str, LiveVariant]:
        """The same of the deployment that an update brings up."""
        run = self._runs.get((scope, name))
        return run.live_next() if run else {}

    def survivors(self) -> Mapping[str, InstanceSpec]:
        """Instances that an earlier emulator has started, by the name that placement has for them.

        To be called once, before placement and the runtimes forget what nobody claims.
        """
        return {spec.arn: spec for spec, _ in self._known_instances()}

    def recover(self, leases: Mapping[str, Lease]) -> None:
        """Go on with all endpoints; `leases` are those of `survivors`. Call it once, at start."""
        by_endpoint: dict[tuple[Scope, str], list[Surviving]] = {}
        kept = set()
        for spec, row in self._known_instances():
            lease = leases.get(spec.arn)
            if lease is not None:
                kept.add(row.id)
                key = (row.scope, row.endpoint)
                by_endpoint.setdefault(key, []).append(Surviving(spec, row, lease))
        for row in self._context.store.instances():
            if row.id not in kept:
                self._context.store.remove_instance(row.id)
        self._remove_directories(kept)
        with self._lock:
            for endpoint in self._context.store.endpoints():
                key = (endpoint.scope, endpoint.name)
                self._start(*key, by_endpoint.get(key, ()))

    def leave_no_instance(self) -> None:
        """At the shutdown end all instances, whatever ServingContext.leaves_instances says."""
        self._leaves = False

    def shutdown(self, timeout: float = _SHUTDOWN_SECONDS) -> None:
        """End or leave all instances, and wait for that. The endpoints stay."""
        with self._lock:
            self._closing = True
            runs = list(self._runs.values())
        for run in runs:
            run.shut_down(self._leaves)
        if self._leaves and (left := len(self._context.store.instances())):
            what = "1 instance goes" if left == 1 else f"{left} instances go"
            _log.info("%s on of endpoints; the next start takes over", what)
        deadline = self._context.clock.monotonic() + timeout
        for run in runs:
            if not run.join(max(0.0, deadline - self._context.clock.monotonic())):
                _log.warning("an endpoint did not end in time")

    def _known_instances(self) -> list[tuple[InstanceSpec, InstanceRow]]:
        """Recorded instances of variants that endpoints still have, with runtimes that last."""
        found: list[tuple[InstanceSpec, InstanceRow]] = []
        for row in self._context.store.instances():
            endpoint = self._context.store.endpoint(row.scope, row.endpoint)
            runtime = self._context.runtimes.named(row.runtime)
            if endpoint is None or not isinstance(runtime, Lasting):
                continue
            variants = [
                variant
                for deployment in (endpoint.current, endpoint.pending)
                if deployment is not None and number_of(deployment) == row.deployment
                for variant in deployment.all_variants
                if variant.name == row.variant
            ]
            if variants and endpoint.status is not EndpointStatus.FAILED:
                spec = InstanceSpec(
                    row.scope, row.endpoint, variants[0], row.id, row.port, endpoint.tags
                )
                found.append((spec, row))
        return found

    def _remove_directories(self, kept: Iterable[str]) -> None:
        """Of instances that are gone."""
        names = set(kept)
        for path in self._context.directory.glob("*/*/*/*"):
            if path.name not in names:
                remove_directory(path)

    def _start(self, scope: Scope, name: str, survivors: Sequence[Surviving] = ()) -> None:
        """Only under the lock."""
        run = EndpointRun(self._context, scope, name)
        self._runs = {key: each for key, each in self._runs.items() if not each.over}
        self._runs[(scope, name)] = run
        run.start(survivors)

    def _changed(self, scope: Scope, name: str, step: Callable[[Endpoint], Endpoint]) -> Endpoint:
        changed = self._context.store.change(scope, name, step)
        with self._lock:
            run = self._runs.get((scope, name))
            if run is None or run.over:
                self._start(scope, name)
            else:
                run.poke()
        return changed


def _refuse_in_progress(row: Endpoint, failed_too: bool = True) -> None:
    if row.status.in_progress:
        raise ValidationError(f'Cannot update in-progress endpoint "{row.arn}".')
    if failed_too and row.status is EndpointStatus.FAILED:
        raise ValidationError(
            f'Cannot update endpoint "{row.arn}": it is Failed, and can only be deleted.'
        )
