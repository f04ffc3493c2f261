"""One endpoint, kept as the database wants it by a thread of its own.

The thread looks at the endpoint's row again and again, and does what is missing between that and
its instances. So a step that fails half-way is done again, and a restart is no special case.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emulator.model.errors import FAILURE_REASON_LIMIT, EmulatorError, JobError
from emulator.model.hosting import (
    Deployment,
    Endpoint,
    EndpointStatus,
    LiveVariant,
    VariantSpec,
)
from emulator.model.scope import Scope
from emulator.placement.leases import Lease
from emulator.workloads.serving.context import ServingContext
from emulator.workloads.serving.fleet import InstanceSet, retire
from emulator.workloads.serving.instance import ModelInstance, State
from emulator.workloads.serving.instance_spec import InstanceSpec, new_id
from emulator.workloads.serving.routes import RoutedVariant, Table
from emulator.workloads.serving.store import ENDPOINT, InstanceRow

UPDATE_TAG = "emulator:update"
"""A tag of the endpoint; `in-place` ends the old instances before the new ones are started."""
IDLE_TAG = "emulator:idle-seconds"
"""A tag of the endpoint: after so many seconds without a request it gives its instances back."""
_TICK = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surviving:
    """An instance of an earlier emulator that is to be taken over."""

    spec: InstanceSpec
    row: InstanceRow
    lease: Lease


def number_of(deployment: Deployment) -> int:
    """Which of the endpoint's deployments it is, counted through its life."""
    return int(deployment.sources.get("number", 1))


def numbered(deployment: Deployment, number: int) -> Deployment:
    """The same one as the endpoint's deployment of that number."""
    return replace(deployment, sources={**deployment.sources, "number": number})


class EndpointRun:
    """Any thread may call its methods."""

    def __init__(self, context: ServingContext, scope: Scope, name: str):
        self._context = context
        self._scope = scope
        self._name = name
        self._route = context.routes.open(scope, name)
        self._route.on_wake(self._wake)
        self._changed = threading.Event()
        self._shutdown = threading.Event()
        self._leaves = False
        """At the emulator's end its instances go on."""
        self._over = False
        self._woken: set[str] = set()
        self._serving: InstanceSet | None = None
        self._next: InstanceSet | None = None
        """Of a deployment that does not serve yet."""
        self._leaving: list[ModelInstance] = []
        """Out of the table; they finish their requests and end."""
        self._standby: Table | None = None
        """Where requests wait while nothing serves, although something has and will."""
        self._published: Table | None = None
        self._thread = threading.Thread(target=self._run, name=f"endpoint {name}", daemon=True)

    def start(self, survivors: Sequence[Surviving] = ()) -> None:
        """Begin; raises RuntimeError where there can be no more threads."""
        if survivors:
            self._take_over(survivors)
        self._thread.start()

    def poke(self) -> None:
        """The row has changed."""
        self._changed.set()

    def live(self) -> Mapping[str, LiveVariant]:
        """By variant, of what serves, or is to serve first."""
        shown = self._serving or self._next
        status = "Updating" if self._serving else "Creating"
        return shown.live(status) if shown else {}

    def live_next(self) -> Mapping[str, LiveVariant]:
        """The same of the deployment that is to follow."""
        return self._next.live("Creating") if self._next else {}

    def shut_down(self, leaves: bool) -> None:
        """The emulator ends. Instances go on where they can and `leaves` is true."""
        self._leaves = leaves
        self._shutdown.set()
        self._changed.set()

    def join(self, timeout: float) -> bool:
        """Wait for the endpoint's thread and for those of its instances."""
        self._thread.join(timeout)
        ended = [instance.join(timeout) for instance in self._all()]
        return not self._thread.is_alive() and all(ended)

    @property
    def over(self) -> bool:
        """Whether the endpoint is gone."""
        return self._over

    def _wake(self, variant: str) -> None:
        self._woken.add(variant)
        self._changed.set()

    def _all(self) -> list[ModelInstance]:
        sets = [each for each in (self._serving, self._next) if each]
        return [*(instance for each in sets for instance in each), *self._leaving]

    # The endpoint's thread

    def _run(self) -> None:
        told = ""
        while not self._shutdown.is_set() and not self._over:
            self._changed.clear()
            try:
                self._step()
                told = ""
            except (sqlite3.Error, OSError, RuntimeError, EmulatorError) as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("endpoint %s: it is tried again: %s", self._name, error)
            except Exception:  # noqa: BLE001 - a thread's top: the endpoint must go on
                _log.exception("endpoint %s: it is tried again", self._name)
            if not self._over:
                self._changed.wait(_TICK)
        for instance in self._all():
            instance.shut_down(self._leaves)

    def _step(self) -> None:
        """One look at the row, and all that can be done at once."""
        self._leaving = [each for each in self._leaving if each.state is not State.GONE]
        endpoint = self._context.store.endpoint(self._scope, self._name)
        self._standby = _standby(endpoint)
        if endpoint is None or endpoint.status is EndpointStatus.DELETING:
            self._delete(endpoint)
            return
        if endpoint.pending is not None:
            self._deploy(endpoint, endpoint.pending)
        elif endpoint.status is not EndpointStatus.FAILED and endpoint.current is not None:
            self._keep(endpoint, endpoint.current)
        self._publish()

    def _delete(self, endpoint: Endpoint | None) -> None:
        gone = [*_instances(self._serving), *_instances(self._next)]
        self._serving = self._next = None
        self._publish()
        self._let_go(gone)
        if self._leaving:
            return
        # First: the next endpoint of this name has a route of its own.
        self._context.routes.close(self._scope, self._name)
        if endpoint is not None:
            self._context.store.delete(ENDPOINT, self._scope, self._name)
        self._over = True

    def _deploy(self, endpoint: Endpoint, pending: Deployment) -> None:
        """Bring up the instances of another deployment, then let them serve."""
        if self._next is not None and self._next.number != number_of(pending):
            stale = _instances(self._next)
            self._next = None
            self._let_go(stale)
        if self._next is None:
            if endpoint.tags.get(UPDATE_TAG) == "in-place" and not self._cleared():
                return
            self._next = self._set_of(pending, endpoint)
        coming = self._next
        self._leaving += coming.reap()
        failure = coming.failure()
        if failure is None:
            coming.fill()
            if coming.ready:
                self._swap(pending)
        else:
            self._abandon(endpoint, pending, failure)
        if self._serving:
            self._look_after(self._serving)

    def _cleared(self) -> bool:
        """End what serves; whether nothing of it is left. Requests wait meanwhile."""
        if self._serving is not None:
            gone = _instances(self._serving)
            self._serving = None
            self._publish()
            self._let_go(gone)
        return not self._leaving

    def _swap(self, pending: Deployment) -> None:
        """The new instances serve from now on; the old ones finish their requests.

        Requests find them before the status says so: a client calls as soon as it sees that.
        """
        if self._next is not None:
            self._show(self._next.table())
        now = self._context.clock.now()
        self._context.store.change(
            self._scope,
            self._name,
            lambda row: _unless_deleted(
                row,
                status=EndpointStatus.IN_SERVICE,
                current=pending,
                pending=None,
                pending_since=None,
                failure_reason=None,
                modified=now,
            ),
        )
        old = _instances(self._serving)
        self._serving, self._next = self._next, None
        self._publish()
        self._let_go(old)

    def _abandon(self, endpoint: Endpoint, pending: Deployment, failure: JobError) -> None:
        """The deployment cannot serve: what served before goes on."""
        now = self._context.clock.now()
        creating = endpoint.status is EndpointStatus.CREATING
        self._context.store.change(
            self._scope,
            self._name,
            lambda row: _unless_deleted(
                row,
                status=EndpointStatus.FAILED if creating else EndpointStatus.IN_SERVICE,
                current=pending if creating else row.current,
                pending=None,
                pending_since=None,
                failure_reason=str(failure)[:FAILURE_REASON_LIMIT],
                modified=now,
            ),
        )
        _log.warning("endpoint %s: %s", self._name, failure)
        gone = _instances(self._next)
        self._next = None
        self._let_go(gone)

    def _keep(self, endpoint: Endpoint, current: Deployment) -> None:
        """Replace what has died; follow what is wanted of numbers and weights."""
        if self._serving is None:
            self._serving = self._set_of(current, endpoint)
            self._serving.settle()
        serving = self._serving
        serving.deployment = current
        self._look_after(serving)
        if endpoint.status is EndpointStatus.UPDATING:
            self._finish_change(serving)

    def _look_after(self, serving: InstanceSet) -> None:
        """Start what is missing, end what is too much."""
        self._leaving += serving.reap()
        woken, self._woken = self._woken, set()
        for variant in woken:
            serving.wake(variant)
        serving.doze(self._context.clock.now())
        if surplus := serving.surplus():
            self._publish()
            self._let_go(surplus)
        serving.fill()

    def _finish_change(self, serving: InstanceSet) -> None:
        """Of numbers or weights alone."""
        failure = None if serving.ready else serving.failure()
        if not serving.ready and failure is None:
            return
        now = self._context.clock.now()
        counts = serving.failed_counts() if failure else {}
        self._context.store.change(
            self._scope,
            self._name,
            lambda row: replace(
                row,
                status=EndpointStatus.IN_SERVICE,
                current=self._context.store.with_counts(row.current, counts)
                if counts
                else row.current,
                failure_reason=None if failure is None else str(failure)[:FAILURE_REASON_LIMIT],
                modified=now,
            ),
        )
        serving.forgive()

    def _let_go(self, instances: Sequence[ModelInstance]) -> None:
        """They are in no table any more."""
        starting = [each for each in instances if each.state is State.STARTING]
        retire(starting, hurry=True)
        retire(each for each in instances if each not in starting)
        self._leaving += [each for each in instances if each.state is not State.GONE]

    def _publish(self) -> None:
        """Tell where requests go, if that has changed."""
        self._show(self._serving.table() if self._serving else self._standby)

    def _show(self, table: Table | None) -> None:
        if table != self._published:
            self._published = table
            self._route.publish(table)

    def _set_of(self, deployment: Deployment, endpoint: Endpoint) -> InstanceSet:
        number = number_of(deployment)

        def start(variant: VariantSpec) -> ModelInstance:
            instance = self._instance(endpoint, variant, number, new_id())
            instance.start()
            return instance

        return InstanceSet(
            deployment,
            number,
            start,
            self._context.clock.monotonic,
            lambda variant: self._idle_after(variant, endpoint),
        )

    def _idle_after(self, variant: VariantSpec, endpoint: Endpoint) -> float | None:
        tagged = endpoint.tags.get(IDLE_TAG, "")
        if tagged.isdecimal():
            return float(tagged)
        may_sleep = variant.serverless is not None or variant.min_count == 0
        return self._context.idle_seconds if may_sleep else None

    def _instance(
        self, endpoint: Endpoint, variant: VariantSpec, number: int, identifier: str
    ) -> ModelInstance:
        spec = InstanceSpec(self._scope, self._name, variant, identifier, tags=endpoint.tags)
        return ModelInstance(self._context, spec, number, self._changed.set)

    def _take_over(self, survivors: Sequence[Surviving]) -> None:
        """Before the thread begins: the instances of an earlier emulator."""
        endpoint = self._context.store.endpoint(self._scope, self._name)
        if endpoint is None:
            return
        for deployment in filter(None, (endpoint.current, endpoint.pending)):
            number = number_of(deployment)
            mine = [each for each in survivors if each.row.deployment == number]
            if not mine:
                continue
            instances = self._set_of(deployment, endpoint)
            for survivor in mine:
                instances.add(self._taken_over(survivor))
            if deployment is endpoint.pending:
                self._next = instances
            else:
                self._serving = instances
        self._publish()

    def _taken_over(self, survivor: Surviving) -> ModelInstance:
        row = survivor.row
        instance = ModelInstance(self._context, survivor.spec, row.deployment, self._changed.set)
        instance.take_over(survivor.lease, row.runtime)
        return instance


def _unless_deleted(row: Endpoint, **changes: Any) -> Endpoint:
    """The row with these changes; somebody may have deleted the endpoint meanwhile."""
    return row if row.status is EndpointStatus.DELETING else replace(row, **changes)


def _standby(endpoint: Endpoint | None) -> Table | None:
    """The table of an endpoint whose instances are all about to come."""
    serves = endpoint and endpoint.status in (EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING)
    if not serves or endpoint is None or endpoint.current is None:
        return None
    variants = endpoint.current.variants
    return Table(
        endpoint.current, tuple(RoutedVariant(each, (), starting=True) for each in variants)
    )


def _instances(of: InstanceSet | None) -> list[ModelInstance]:
    return [] if of is None else list(of)
