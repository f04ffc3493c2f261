"""One attempt at a job: one set of instances, from their capacity to their last line."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from emulator.data.objectstore.objects import Cancelled
from emulator.drivers.base import (
    Awaited,
    Fleet,
    Lasting,
    LastingRuntime,
    Leavable,
    Runtime,
    Unreachable,
)
from emulator.drivers.choice import Chosen
from emulator.model.errors import CapacityError, ClientError, InternalServerError, JobError
from emulator.model.faults import Kind, Stage
from emulator.model.lifecycle import Phase
from emulator.model.plan import JobPlan, RuntimeTraits
from emulator.model.run_record import Cause, Ending, Reason, RunRecord
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.telemetry.logs.collector import LineCollector
from emulator.workloads.fault_book import JobFaults
from emulator.workloads.plan.job_plan import plan_job
from emulator.workloads.plan.layout import create_instances, instances_below
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.capacity_wait import wait_for_capacity
from emulator.workloads.run.collectives import CollectiveWatch, Links, arrange_links
from emulator.workloads.run.context import (
    Ends,
    Instances,
    RunContext,
    RunningSync,
    StagedInputs,
    nothing,
)
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.run.fleet_watch import FleetWatch, grace_of, stops
from emulator.workloads.run.measuring import JobMetrics
from emulator.workloads.run.observing import collect_lines, measure, watch_collectives
from emulator.workloads.run.outcome import INTERNAL_ERROR, NO_CAPACITY
from emulator.workloads.run.recovery import (
    RESTART_NOTICE,
    Resumed,
    can_be_left,
    ending_of_lost,
    last_sign_of_life,
    run_of,
    runtime_of,
)
from emulator.workloads.run.settling import rescue
from emulator.workloads.run.status import Progress
from emulator.workloads.run.timers import Timers
from emulator.workloads.warm_pools import Kept, in_pool

_LOOK_SECONDS = 2.0
"""Between two looks whether a runtime that was away answers again."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
"""Seconds between two tries to take instances over."""
SHUTDOWN_NOTICE = "The emulator was shut down while this job ran."
ENDS_WITH_EMULATOR = (
    "This job ends with the emulator, which serves its Pipe or FastFile channels; jobs with File "
    "channels go on without it."
)
NEEDS_CONTAINERS = (
    "This job runs the command of its image, so that it needs the docker runtime. Start the "
    "emulator with it, or name a ContainerEntrypoint."
)
_log = logging.getLogger(__name__)


class Attempt:
    """Takes instances, runs the job on them once, and gives them back."""

    def __init__(
        self,
        context: RunContext,
        spec: WorkloadSpec,
        token: CancelToken,
        timers: Timers,
        kept: Kept | None,
        begun: Callable[[], None] = nothing,
    ):
        """`kept` is what the job takes over from a warm pool; `begun` is called when it holds
        all that its instances need."""
        self._context = context
        self._spec = spec
        self._token = token
        self._timers = timers
        self._kept = kept
        self._begun = begun
        self._progress = Progress(context, spec)
        self._faults = JobFaults(context.faults, spec)
        self._directory = context.job_directory(spec)
        self._waited = False
        self._lines: LineCollector | None = None
        self._runtime: Runtime | None = None
        self._fleet: Fleet | None = None
        self._sync: RunningSync | None = None
        self._ends = Ends()
        self._collectives: CollectiveWatch | None = None
        self._metrics: JobMetrics | None = None
        self._decided: Ending | None = None
        """How an earlier emulator had decided that the instances end."""
        self.lease: Lease | None = kept.lease if kept else None
        self.staged = StagedInputs()
        self.instances: Instances = {}
        """Empty until the job has some."""
        self.trained = 0.0
        """Seconds."""
        self.died: float | None = None
        """When the instances were last known to run, if they were lost with an emulator."""
        self.unsaved: JobError | None = None
        """Why not all that the instances saved while they ran is in S3."""

    def prepare(self) -> None:
        """All that an instance needs before it can start: capacity, directories, data, image.

        Raises JobError, and Cancelled when the job shall end or its instances are taken away.
        """
        self._progress.say(self._spec.words.preparing)
        self._token.take_interruption()
        if self._faults.at(Kind.CAPACITY_ERROR):
            raise CapacityError(NO_CAPACITY)
        self.fail_at(Stage.STARTING)
        chosen = self._choice()
        if self._spec.needs_image and not chosen.runtime.traits.engine:
            # It was accepted for containers, and the settings have changed since.
            raise ClientError(NEEDS_CONTAINERS)
        kept, capacity = self.lease, self._context.capacity
        if kept:
            self.lease = capacity.pass_on(kept, self._spec)
            self._await(chosen.runtime)
        else:
            self._acquire(chosen.runtime)
        self._begun()
        if self._waited:
            self._progress.say(self._spec.words.preparing)
        self._go_on()
        self._progress.enter(Phase.DOWNLOADING)
        remove_directory(self._directory)
        runtime = self._runtime = chosen.runtime
        self.instances = create_instances(self._directory, self._spec, runtime.traits)
        self.staged = self._context.inputs.stage(
            self._spec, self.instances, runtime.traits, self._say_download, self._token.calls
        )
        self._go_on()
        self._progress.say(self._spec.words.downloading_image)
        if fault := self._faults.at(Kind.SLOW_IMAGE_PULL):
            self._token.pause(fault.seconds)
        self._go_on()
        lines = self._open_lines()
        if chosen.reason:
            lines.say_all(f"Runtime {runtime.traits.name}: {chosen.reason}")
        runtime.prepare(self._spec.image, lines.say_all, self._token.calls)
        self._go_on()
        self._sync = self._context.syncs.start(self._spec, self.instances, self._token.calls)
        self.fail_at(Stage.DOWNLOADING)
        self._go_on()

    def train(
        self, seconds: float, cache: Path | None, trained: float = 0, retries: int = 0
    ) -> Ending:
        """Run the instances until none is left, for so many seconds at most.

        `cache` has a directory an instance that outlives the job in a warm pool; `trained`
        and `retries` tell of the attempts before this one.
        """
        clock = self._context.clock
        runtime, lines = self._runtime, self._lines
        if runtime is None or lines is None:
            raise InternalServerError(INTERNAL_ERROR)  # prepare() comes first
        outlives = self._context.leaves_instances and can_be_left(self._spec)
        plan = self._plan(cache, runtime.traits)
        plan = replace(plan, outlives=outlives, seconds=seconds + self._context.stop_grace)
        if self._context.leaves_instances and not outlives:
            lines.say_all(ENDS_WITH_EMULATOR)
        started = clock.monotonic()
        where = None if cache is None else str(cache)
        self._progress.start_run(
            RunRecord(runtime.traits.name, clock.now(), trained, retries, where)
        )
        self._observe(lines)
        self._fleet = runtime.launch(plan, lines.feed)
        # Not before: the next emulator looks for the instances of a job that trains.
        self._progress.enter(Phase.RUNNING)
        return self._to_the_end(plan, started, seconds)

    def resume(self, resumed: Resumed, seconds: float, cache: Path | None) -> Ending:
        """Take over the instances that an earlier emulator left; otherwise as `train`.

        `seconds` counts from their start. Where they cannot be taken over nothing of them runs
        on, and the job is recovered without them.
        """
        runtime = self._runtime = runtime_of(resumed.run, self._context.runtimes.all)
        self.instances = instances_below(self._directory, self._spec)
        try:
            self._decided = resumed.run.ending
            self._keep_record(resumed.run)
            if not can_be_left(self._spec):
                raise InternalServerError(INTERNAL_ERROR)  # its data ended with the emulator
            self._take_over(runtime)
        except Unreachable:
            raise
        except Exception:
            runtime.remove(self._spec.arn)
            if ending := self._ending_without_instances(resumed.run.began):
                return ending
            raise
        clock = self._context.clock
        started = clock.monotonic() - max(0.0, clock.now() - resumed.run.began)
        return self._to_the_end(self._plan(cache, runtime.traits), started, seconds)

    def recover(self) -> Ending:
        """How the training ended that an earlier emulator began, and whose instances are gone.

        What they saved is in S3 then. Raises Cancelled for a job that was stopped before it
        had instances, and InternalServerError for one that is lost with them.
        """
        job = self._context.store.get(self._spec.id)
        began = job.life.transitions[-1].started if job else 0.0
        if ending := self._ending_without_instances(began):
            return ending
        raise InternalServerError(INTERNAL_ERROR)

    def _ending_without_instances(self, began: float) -> Ending | None:
        """None if the job is lost with its instances; `began` is when they began to train."""
        context, spec = self._context, self._spec
        job = context.store.get(spec.id)
        run = run_of(job, self._directory) if job else None
        decided = run.ending if run else None
        ending = ending_of_lost(spec, job.life, decided) if job else None
        if ending is None:
            raise Cancelled
        self.instances = instances_below(self._directory, spec)
        self.died = last_sign_of_life(context, spec)
        if job and job.life.phase is Phase.RUNNING:
            self.trained = max(0.0, self.died - began)
        self._progress.notice(RESTART_NOTICE)
        try:
            self.unsaved = rescue(context, spec, self.instances)
        except InternalServerError:
            self.instances = {}
            if ending.cause not in (Cause.CANCELLED, Cause.TIME, Cause.INTERRUPTED):
                return None
        if stops(ending, self._token):
            self._progress.enter_stopping()
        return None if ending.cause is Cause.LOST and decided is None else ending

    def _keep_record(self, run: RunRecord) -> None:
        """An earlier version had it in files: how the attempt ends is written down in its place."""
        try:
            self._progress.start_run(run)
        except sqlite3.Error as error:
            _log.warning("%s: its attempt is not written down: %s", self._spec.label, error)

    def _take_over(self, runtime: LastingRuntime) -> None:
        """Adopt the instances, again and again where the emulator's own disk, descriptors or
        database are the trouble: the instances compute on, and a full disk has room again.

        A job that is being stopped is waited for no longer than its grace. Raises Unreachable
        when the emulator ends before, and otherwise what `_adopt` raises.
        """
        monotonic = self._context.clock.monotonic
        give_up: float | None = None
        pause, told = _FIRST_PAUSE, ""
        while True:
            try:
                return self._adopt(runtime)
            except (OSError, sqlite3.Error) as error:
                if self._token.end.is_set():
                    give_up = give_up or monotonic() + self._context.stop_grace
                if give_up and monotonic() >= give_up:
                    raise
                if str(error) != told:
                    told = str(error)
                    _log.warning(
                        "%s: its instances cannot be taken over yet: %s", self._spec.label, error
                    )
                if self._token.until_shutdown(pause):
                    raise Unreachable(f"its instances could not be taken over: {error}") from error
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _adopt(self, runtime: LastingRuntime) -> None:
        """One try, which goes on where the one before it failed.

        Raises JobError where the instances are gone, Unreachable, OSError and sqlite3.Error.
        """
        lines = self._open_lines(go_on=True)
        self._observe(lines)
        if self._fleet is None:
            self._fleet = runtime.adopt(self._spec.arn, lines.feed, lines.received)
        if self._fleet is None:
            raise InternalServerError(INTERNAL_ERROR)
        self._sync = self._context.syncs.resume(self._spec, self.instances)

    def _observe(self, lines: LineCollector) -> None:
        """Look at the instances' output beside the log."""
        if self._collectives is None:
            self._collectives = watch_collectives(self._context, self._spec, self._links(), lines)
            self._metrics = measure(self._context, self._spec, lines)

    def _to_the_end(self, plan: JobPlan, started: float, seconds: float) -> Ending:
        try:
            return self._until_over(plan, started, seconds)
        except Unreachable:
            raise  # what goes on is left as it is
        except BaseException:
            self._end()
            raise

    def _until_over(self, plan: JobPlan, started: float, seconds: float) -> Ending:
        clock, context, lines, runtime = (
            self._context.clock,
            self._context,
            self._lines,
            self._runtime,
        )
        if self._fleet is None or lines is None or runtime is None:
            raise InternalServerError(INTERNAL_ERROR)  # they are there, or this is not called
        if self._metrics:
            self._metrics.follow(self._fleet, plan)
        watch = FleetWatch(self._fleet, plan.hosts, lines, self._token, clock.monotonic)
        # An earlier emulator may have decided it, and was killed before all had ended.
        ending = self._decided or watch.until_over(
            seconds - (clock.monotonic() - started), self._trouble
        )
        if self._leaves(ending, runtime):
            return Ending(Cause.LEFT)
        self._record(ending)
        if stops(ending, self._token):
            self._progress.enter_stopping()
        watch.end_all(grace_of(ending, context), context.failure_grace)
        self._ends = watch.ends
        ending = self._unless_stopped_meanwhile(ending)
        self.trained = clock.monotonic() - started
        self._finish_sync()
        if error := self.staged.trouble():
            raise error
        if self._token.reason is Reason.SHUTDOWN and ending.cause is not Cause.DONE:
            lines.say_all(SHUTDOWN_NOTICE)
        # Clients read the logs for the last time when they see the end of the job.
        lines.close()
        return ending

    def fail_at(self, stage: Stage) -> None:
        """Raise InternalServerError where one is seeded."""
        if self._faults.at(Kind.INTERNAL_SERVER_ERROR, stage):
            raise InternalServerError(INTERNAL_ERROR)

    def leave(self) -> None:
        """Let go of the instances, which go on; nothing of the job is removed."""
        try:
            if isinstance(self._fleet, Leavable):
                self._fleet.leave()
            if self._lines:
                self._lines.leave()
            if self._sync:
                self._sync.leave()
            self.staged.close()
        except Exception:  # noqa: BLE001 - called at the top of the job's thread
            _log.exception("%s: it was not left in good order", self._spec.label)

    def close(self) -> None:
        """End and remove everything but what a warm pool may keep: the lease, the input data."""
        try:
            with ExitStack() as left:  # the last one first; what one raises is no other's affair
                if not self._context.keep_directories:
                    left.callback(remove_directory, self._directory)
                if self._kept:
                    left.callback(self._kept.release_data)  # what is shared has a new holder
                left.callback(self._close_lines)
                left.callback(self._finish_sync)
                left.callback(self.staged.close)
                left.callback(self._close_fleet)
        except Exception:  # noqa: BLE001 - called at the top of the job's thread
            _log.exception("%s: not all of it was removed", self._spec.label)

    def _end(self) -> None:
        """Before its failure is seen: no instance runs any more, no line and metric is missing."""
        try:
            with ExitStack() as left:
                left.callback(self._close_lines)
                left.callback(self._finish_sync)
                left.callback(self._close_fleet)
        except Exception:  # noqa: BLE001 - something else is being raised already
            _log.exception("%s: it was not ended in good order", self._spec.label)

    def _close_fleet(self) -> None:
        fleet, self._fleet = self._fleet, None
        if fleet:
            fleet.close()

    def _close_lines(self) -> None:
        if self._lines:
            self._lines.close()

    def _choice(self) -> Chosen:
        """The runtime that the job was accepted for.

        A job of an earlier version gets one now, as does one whose runtime the settings have
        ruled out since.
        """
        context, spec = self._context, self._spec
        job = context.store.get(spec.id)
        if job and (runtime := context.runtimes.named(job.runtime)):
            return Chosen(runtime, job.runtime_reason)
        chosen = context.runtimes.of(spec.image)
        name = chosen.runtime.traits.name
        context.store.update(
            spec.id,
            lambda job: replace(job, runtime=name, runtime_reason=chosen.reason),
        )
        return chosen

    def _acquire(self, runtime: Runtime) -> None:
        """Wait for capacity. While the runtime is away others may have what the job would hold."""
        while True:
            self._await(runtime)
            self.lease = wait_for_capacity(
                self._context, self._spec, self._token, self._timers, self._say_waiting
            )
            if not _away(runtime):
                return
            lease, self.lease = self.lease, None
            self._context.capacity.release(lease)

    def _await(self, runtime: Runtime) -> None:
        """Wait until the runtime can start instances. Raises Cancelled."""
        while why := _away(runtime):
            self._waited = True
            self._context.capacity.withdraw(self._spec)  # its turn is for those who can start
            message = f"{self._spec.words.pending}: {why}"
            self._progress.enter(Phase.PENDING, message=message)
            if self._token.pause(_LOOK_SECONDS):
                raise Cancelled

    def _say_waiting(self) -> None:
        self._waited = True
        message = self._spec.words.pending
        queued = self._context.capacity.queued(self._spec.arn)
        if queued and queued.endpoints:
            message += f": {queued.reason}; held by endpoint {', '.join(queued.endpoints)}"
        self._progress.enter(Phase.PENDING, message=message)

    def _plan(self, cache: Path | None, traits: RuntimeTraits) -> JobPlan:
        context = self._context
        links = self._links()
        plan = plan_job(
            self._spec,
            self.instances,
            traits,
            self.lease.gpus if self.lease else {},
            context.credentials,
            conveniences=links.environments,
            channels=self.staged.mounts,
            sharing=links.sharing,
        )
        return plan if cache is None else in_pool(plan, cache)

    def _trouble(self, trained: float) -> Ending | None:
        fault = self._faults.during_training(trained)
        if self.staged.trouble():
            return Ending(Cause.LOST)
        if fault is None:
            why = self._collectives.trouble(self._fleet) if self._collectives else None
            return Ending(Cause.HUNG, why=why) if why else None
        _log.info("%s: seeded fault %s", self._spec.label, fault.id)
        if fault.kind is Kind.SPOT_INTERRUPTION:
            return Ending(Cause.INTERRUPTED, away=fault.seconds)
        if fault.kind is Kind.INSTANCE_FAILURE and self._fleet:
            # No signal that it could act on comes before.
            self._fleet.kill(fault.host)
        return Ending(Cause.LOST)

    def _can_be_left(self, runtime: Runtime) -> bool:
        return isinstance(runtime, Lasting) and can_be_left(self._spec)

    def _leaves(self, ending: Ending, runtime: Runtime) -> bool:
        shutdown = ending.cause is Cause.CANCELLED and self._token.reason is Reason.SHUTDOWN
        return shutdown and self._token.leaves and self._can_be_left(runtime)

    def _unless_stopped_meanwhile(self, ending: Ending) -> Ending:
        """A stop during the notice of an interruption ends the job: nothing comes back."""
        if ending.cause is not Cause.INTERRUPTED or not self._token.end.is_set():
            return ending
        stopped = Ending(Cause.CANCELLED)
        self._record(stopped)
        if stops(stopped, self._token):
            self._progress.enter_stopping()
        return stopped

    def _record(self, ending: Ending) -> None:
        """For the emulator after this one, if this one does not live to carry it out.

        A shutdown is no end of the job's own.
        """
        if ending.cause is Cause.CANCELLED and self._token.reason is Reason.SHUTDOWN:
            return
        try:
            self._progress.end_run(ending, self._token.reason)
        except sqlite3.Error as error:
            _log.warning("%s: no record of its end: %s", self._spec.label, error)

    def _finish_sync(self) -> None:
        sync, self._sync = self._sync, None
        if sync is None:
            return
        try:
            sync.finish(self._ends)
        except JobError as error:
            self.unsaved = error
            _log.warning("%s: after its end: %s", self._spec.label, error)
            if self._lines:
                self._lines.say_all(str(error))

    def _say_download(self, pace: str) -> None:
        told = f"{self._spec.words.downloading}: {pace}"
        self._progress.say(told)
        self._open_lines().say_all(told)

    def _open_lines(self, go_on: bool = False) -> LineCollector:
        if self._lines is None:
            notes = self.lease.notes if self.lease else ()
            reused = (self._kept.note,) if self._kept else ()
            self._lines = collect_lines(self._context, self._spec, (*notes, *reused), go_on)
        return self._lines

    def _links(self) -> Links:
        lease = self.lease or Lease(self._spec.arn, self._spec.name)
        return arrange_links(self._spec, lease, self._context.nccl_preset)

    def _go_on(self) -> None:
        if self._token.calls():
            raise Cancelled


def _away(runtime: Runtime) -> str:
    return runtime.away() if isinstance(runtime, Awaited) else ""
