"""A job's wait until this machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable

from emulator.data.objectstore.objects import Cancelled
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Secondary
from emulator.placement.leases import Lease
from emulator.workloads.run.cancellation import Reason, Wish
from emulator.workloads.run.context import Workshop
from emulator.workloads.run.timers import Timer, Timers

_ACCELERATED = ("ml.p", "ml.g", "ml.trn")
"""The families that MaxPendingTimeInSeconds is about (API reference)."""


def wait_for_capacity(
    shop: Workshop, spec: JobSpec, wish: Wish, timers: Timers, waiting: Callable[[], None]
) -> Lease:
    """What the job holds from now on; `waiting` is called if it cannot start at once.

    Raises CapacityError for what this machine can never give, and Cancelled when the job
    shall end, be it for MaxPendingTimeInSeconds.
    """
    timer: Timer | None = None

    def expire() -> None:
        wish.stop(Reason.MAX_PENDING)
        shop.capacity.wake()

    def begin() -> None:
        nonlocal timer
        waiting()
        if (limit := pending_limit(spec)) is not None:
            timer = timers.after(max(0.0, limit - _pending(shop, spec)), expire)

    try:
        lease = shop.capacity.acquire(spec, wish.end, begin)
    finally:
        if timer:
            timer.cancel()
    if lease is None:
        raise Cancelled
    return lease


def _pending(shop: Workshop, spec: JobSpec) -> float:
    """Seconds for which the job has been Pending, be it under an earlier emulator."""
    job = shop.store.get(spec.scope, spec.name)
    if job is None or job.life.secondary is not Secondary.PENDING:
        return 0.0
    return max(0.0, shop.clock.now() - job.life.transitions[-1].started)


def pending_limit(spec: JobSpec) -> float | None:
    """MaxPendingTimeInSeconds, where it counts for the job's instances."""
    accelerated = any(group.instance_type.startswith(_ACCELERATED) for group in spec.groups)
    return spec.max_pending if accelerated else None
