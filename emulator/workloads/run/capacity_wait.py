"""A job's wait until this machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable

from emulator.data.objectstore.objects import Cancelled
from emulator.model.lifecycle import Phase
from emulator.model.run_record import Reason
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.timers import Timer, Timers


def wait_for_capacity(
    context: RunContext,
    spec: WorkloadSpec,
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
        if (limit := spec.max_pending) is not None:
            timer = timers.after(max(0.0, limit - _pending(context, spec)), expire)

    try:
        lease = context.capacity.acquire(spec, token.end, begin)
    finally:
        if timer:
            timer.cancel()
    if lease is None:
        raise Cancelled
    return lease


def _pending(context: RunContext, spec: WorkloadSpec) -> float:
    """Seconds for which the job has been Pending, be it under an earlier emulator."""
    job = context.store.get(spec.id)
    if job is None or job.life.phase is not Phase.PENDING:
        return 0.0
    return max(0.0, context.clock.now() - job.life.transitions[-1].started)
