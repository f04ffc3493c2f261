"""A job's wait until this machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable

from emulator.cluster.leases import Lease
from emulator.jobs.alarms import Alarm, Alarms
from emulator.jobs.wish import Reason, Wish
from emulator.jobs.workshop import Workshop
from emulator.model.job import JobSpec
from emulator.storage.objects import Cancelled

_ACCELERATED = ("ml.p", "ml.g", "ml.trn")
"""The families that MaxPendingTimeInSeconds is about (API reference)."""


def wait_for_capacity(
    shop: Workshop, spec: JobSpec, wish: Wish, alarms: Alarms, waiting: Callable[[], None]
) -> Lease:
    """What the job holds from now on; `waiting` is called if it cannot start at once.

    Raises CapacityError for what this machine can never give, and Cancelled when the job
    shall end, be it for MaxPendingTimeInSeconds.
    """
    alarm: Alarm | None = None

    def expire() -> None:
        wish.stop(Reason.MAX_PENDING)
        shop.capacity.wake()

    def begin() -> None:
        nonlocal alarm
        waiting()
        if spec.max_pending is not None and _is_accelerated(spec):
            alarm = alarms.after(spec.max_pending, expire)

    try:
        lease = shop.capacity.acquire(spec, wish.end, begin)
    finally:
        if alarm:
            alarm.cancel()
    if lease is None:
        raise Cancelled
    return lease


def _is_accelerated(spec: JobSpec) -> bool:
    return any(group.instance_type.startswith(_ACCELERATED) for group in spec.groups)
