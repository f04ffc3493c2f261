"""What is said of a job while it runs: its status and its messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from textwrap import shorten

from emulator.model.job import JobSpec
from emulator.model.lifecycle import STOPPING, Lifecycle, Secondary, Status
from emulator.model.record import Job
from emulator.telemetry.logs.collector import notice
from emulator.workloads.run.context import RunContext

_STAYS = (Secondary.PENDING, Secondary.STOPPING, Secondary.UPLOADING)
_REASON_WIDTH = 300
"""Characters of a FailureReason that are told; Describe has all of it."""
_log = logging.getLogger(__name__)


class Progress:
    """One job's record, as its run writes it."""

    def __init__(self, context: RunContext, spec: JobSpec):
        self._context = context
        self._spec = spec

    def enter(self, status: Secondary, message: str, at: float | None = None) -> None:
        """The next status, since `at` if not since now; it is told where the emulator runs, too."""
        self._change(
            # A job that an earlier emulator left may be there already.
            lambda life, now: (
                life.say(message, now)
                if status in _STAYS and life.secondary is status
                else life.enter(status, message, now if at is None else at)
            )
        )
        _log.info("training job %s: %s", self._spec.name, status.value)

    def say(self, message: str) -> None:
        self._change(lambda life, now: life.say(message, now))

    def enter_stopping(self) -> None:
        """Not again for a job that an earlier emulator had stopped and was uploading."""
        job = self._context.store.change(
            self._spec.scope,
            self._spec.name,
            lambda life: life.request_stop(self._context.clock.now()),
        )
        if job.life.secondary is not Secondary.UPLOADING:
            self.enter(Secondary.STOPPING, STOPPING)

    def finish(
        self,
        step: Callable[[Lifecycle, float], Lifecycle],
        artifacts: str | None = None,
        keeps_pool: bool = False,
    ) -> Job:
        """The job's end; its warm pool becomes available or ends with the same step."""
        now = self._context.clock.now()

        def end(job: Job) -> Job:
            pool = job.warm_pool
            return replace(
                job,
                life=step(job.life, now),
                artifacts=artifacts or job.artifacts,
                warm_pool=pool and (pool.keep(now) if keeps_pool else pool.end(now)),
            )

        ended = self._context.store.update(self._spec.scope, self._spec.name, end)
        tell_end(ended)
        return ended

    def notice(self, text: str) -> None:
        """A line of the emulator's own in the logs of all instances.

        A disk without room for it must not keep the job from ending.
        """
        hosts, context = [host.name for host in self._spec.hosts], self._context
        try:
            notice(context.logs, self._spec.scope, self._spec.name, hosts, text, context.clock.now)
        except OSError as error:
            _log.warning("training job %s: not in its log (%s): %s", self._spec.name, error, text)

    def _change(self, step: Callable[[Lifecycle, float], Lifecycle]) -> None:
        now = self._context.clock.now()
        self._context.store.change(self._spec.scope, self._spec.name, lambda life: step(life, now))


def tell_end(job: Job) -> None:
    """How a job ended, in one line, for who looks at the emulator's own output."""
    reason = shorten(job.life.failure_reason or "", _REASON_WIDTH, placeholder=" …")
    told = f"{job.life.secondary.value}: {reason}" if reason else job.life.secondary.value
    level = logging.WARNING if job.life.status is Status.FAILED else logging.INFO
    _log.log(level, "training job %s: %s", job.spec.name, told)
