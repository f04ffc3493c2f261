"""What is said of a job while it runs: its status and its messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from emulator.model.errors import shortened
from emulator.model.lifecycle import WITH_INSTANCES, Lifecycle, Phase, Status
from emulator.model.record import Job
from emulator.model.run_record import Ending, Reason, RunRecord
from emulator.model.workload import WorkloadSpec
from emulator.telemetry.logs.collector import notice
from emulator.workloads.run.context import RunContext

_STAYS = (Phase.PENDING, Phase.STOPPING, Phase.UPLOADING)
_REASON_WIDTH = 300
"""Characters of a FailureReason that are told; Describe has all of it."""
_log = logging.getLogger(__name__)


class Progress:
    """One job's record, as its run writes it."""

    def __init__(self, context: RunContext, spec: WorkloadSpec):
        self._context = context
        self._spec = spec

    def enter(self, phase: Phase, at: float | None = None, message: str = "") -> None:
        """The next phase, since `at` if not since now; it is told where the emulator runs, too.

        In a phase without instances, what was written down of an earlier attempt is over.
        """
        message = message or self._spec.words.of(phase)
        self._change(
            # A job that an earlier emulator left may be there already.
            lambda life, now: (
                life.say(message, now)
                if phase in _STAYS and life.phase is phase
                else life.enter(phase, message, now if at is None else at)
            ),
            keep_run=phase in WITH_INSTANCES,
        )
        _log.info("%s: %s", self._spec.label, self._spec.kind.phase_name(phase))

    def start_run(self, run: RunRecord) -> None:
        """Write down what is about to be started. Raises sqlite3.Error."""
        self._context.store.update(self._spec.id, lambda job: replace(job, run=run))

    def end_run(self, ending: Ending, reason: Reason | None) -> None:
        """Write down why and how the attempt is over. Raises sqlite3.Error."""
        self._context.store.update(
            self._spec.id,
            lambda job: replace(
                job, run=job.run and replace(job.run, ending=ending, reason=reason)
            ),
        )

    def say(self, message: str) -> None:
        self._change(lambda life, now: life.say(message, now))

    def enter_stopping(self) -> None:
        """Not again for a job that an earlier emulator had stopped and was uploading."""
        job = self._context.store.change(
            self._spec.id,
            lambda life: life.request_stop(self._context.clock.now()),
        )
        if job.life.phase is not Phase.UPLOADING:
            self.enter(Phase.STOPPING)

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

        ended = self._context.store.update(self._spec.id, end)
        tell_end(ended)
        return ended

    def notice(self, text: str) -> None:
        """A line of the emulator's own in the logs of all instances.

        A disk without room for it must not keep the job from ending.
        """
        try:
            notice(self._context.logs, self._spec, text, self._context.clock.now)
        except OSError as error:
            _log.warning("%s: not in its log (%s): %s", self._spec.label, error, text)

    def _change(self, step: Callable[[Lifecycle, float], Lifecycle], keep_run: bool = True) -> None:
        now = self._context.clock.now()
        self._context.store.update(
            self._spec.id,
            lambda job: replace(job, life=step(job.life, now), run=job.run if keep_run else None),
        )


def tell_end(job: Job) -> None:
    """How a job ended, in one line, for who looks at the emulator's own output."""
    # Its end names the cause, after a traceback for one.
    reason = shortened(" ".join((job.life.failure_reason or "").split()), _REASON_WIDTH)
    phase = job.spec.kind.phase_name(job.life.phase)
    told = f"{phase}: {reason}" if reason else phase
    level = logging.WARNING if job.life.status is Status.FAILED else logging.INFO
    _log.log(level, "%s: %s", job.spec.label, told)
