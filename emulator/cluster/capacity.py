"""Which jobs may run at the same time where GPUs are not counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, Event

from emulator.cluster.leases import Lease
from emulator.model.job import JobSpec

_LAUNCHERS = (
    "sagemaker_torch_distributed_enabled",
    "sagemaker_mpi_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_distributed_dataparallel_enabled",
)
_SDK_DRIVERS = "sm_drivers"
"""The channel by which SDK v3 brings its launchers."""


class Capacity:
    """Lets every job in at once, but those that need the same thing one after the other."""

    def __init__(self, exclusive: Callable[[JobSpec], Iterable[str]] = lambda _: ()):
        """`exclusive` names what a job must have for itself, such as fixed ports."""
        self._exclusive = exclusive
        self._changed = Condition()
        self._queue: deque[tuple[str, frozenset[str]]] = deque()
        """Jobs (ARNs) that run or wait, in order of arrival, and what they need alone."""

    def acquire(
        self,
        spec: JobSpec,
        cancelled: Event,
        waiting: Callable[[], None] = lambda: None,
    ) -> Lease | None:
        """Wait until the job may run; None if `cancelled` was set before.

        `waiting` is called once if the job cannot start at once. `cancelled` is looked at
        again after each `wake()`.
        """
        with self._changed:
            self._queue.append((spec.arn, frozenset(self._exclusive(spec))))
            at_once = self._is_free(spec.arn)
        if not at_once:
            waiting()
        with self._changed:
            while not self._is_free(spec.arn):
                if cancelled.is_set():
                    self._leave(spec.arn)
                    return None
                self._changed.wait()
        return Lease(spec.arn, spec.name)

    def release(self, lease: Lease) -> None:
        """Let the next one in; a second time does nothing."""
        with self._changed:
            self._leave(lease.job)

    def wake(self) -> None:
        """Let waiting jobs see at once whether they are cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _is_free(self, job: str) -> bool:
        """Does nobody who came earlier need what this job needs?"""
        taken: set[str] = set()
        for other, needs in self._queue:
            if other == job:
                return not needs & taken
            taken |= needs
        return True

    def _leave(self, job: str) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] != job)
        self._changed.notify_all()


def fixed_ports(spec: JobSpec) -> tuple[str, ...]:
    """The ports a job's launcher would take that are the same for every job.

    The toolkit and SDK v3's drivers let all ranks meet on port 7777 of the first host, and
    torchrun on one host uses 29500: on a shared network only one such job can run. A single
    script listens on nothing. (sagemaker-training 5.1.4, sagemaker-train 1.27)
    """
    enabled = (spec.hyperparameters.get(name, "").strip('"').lower() for name in _LAUNCHERS)
    drivers = any(channel.name == _SDK_DRIVERS for channel in spec.channels)
    if len(spec.hosts) > 1 or drivers or "true" in enabled:
        return ("port 7777", "port 29500")
    return ()
