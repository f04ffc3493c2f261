"""A job's wait until this machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable

from emulator.data.objectstore.objects import Cancelled
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Secondary
from emulator.placement.leases import Lease
from emulator.workloads.run.cancellation import CancelToken, Reason
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.timers import Timer, Timers

_ACCELERATED = ("ml.p", "ml.g", "ml.trn")
"""The families that MaxPendingTimeInSeconds is about (API reference)."""


def wait_for_capacity(
    context: RunContext,
    spec: JobSpec,
    token: CancelToken,
    timers: Timers,
    waiting: Callable[[], None],
) -> Lease:
    """What the job holds from now on; `waiting` is called if it cannot start at once.

    Raises CapacityError for what this machine can never give, and Cancelled when the job
    shall end, be it for MaxPendingTimeInSeconds.
    """
    timer: Timer | None = None

    def expire() -> None:
        token.stop(Reason.MAX_PENDING)
        context.capacity.wake()

    def begin() -> None:
        nonlocal timer
        waiting()
        if (limit := pending_limit(spec)) is not None:
            timer = timers.after(max(0.0, limit - _pending(context, spec)), expire)

    try:
        lease = context.capacity.acquire(spec, token.end, begin)
    finally:
        if timer:
            timer.cancel()
    if lease is None:
        raise Cancelled
    return lease


def _pending(context: RunContext, spec: JobSpec) -> float:
    """Seconds for which the job has been Pending, be it under an earlier emulator."""
    job = context.store.get(spec.scope, spec.name)
    if job is None or job.life.secondary is not Secondary.PENDING:
        return 0.0
    return max(0.0, context.clock.now() - job.life.transitions[-1].started)


def pending_limit(spec: JobSpec) -> float | None:
    """MaxPendingTimeInSeconds, where it counts for the job's instances."""
    accelerated = any(group.instance_type.startswith(_ACCELERATED) for group in spec.groups)
    return spec.max_pending if accelerated else None
