"""One training job's life, from its instances' directories to its last status."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from emulator.cluster.leases import Lease
from emulator.container.layout import InstanceDirs, create_instances
from emulator.container.plan import plan_job
from emulator.jobs.fleetwatch import Cause, Ending, FleetWatch, Wish
from emulator.jobs.outcome import INTERNAL_ERROR, failure_of
from emulator.jobs.workshop import Instances, Workshop
from emulator.logs.collector import LineCollector, notice
from emulator.model import lifecycle
from emulator.model.errors import FAILURE_REASON_LIMIT, InternalServerError, JobError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary
from emulator.model.plan import JobPlan
from emulator.runtimes.base import Fleet
from emulator.storage.objects import Cancelled

SHUTDOWN_NOTICE = "The emulator was shut down while this training job ran."
CRASH_NOTICE = "The emulator failed while it ran this training job; its own log says more."

_log = logging.getLogger(__name__)


class JobRun:
    """Takes one job through its life; `run` is the body of its thread."""

    def __init__(self, workshop: Workshop, spec: JobSpec, wish: Wish):
        self._shop = workshop
        self._spec = spec
        self._wish = wish
        self._directory = workshop.job_directory(spec)
        self._lines: LineCollector | None = None
        self._fleet: Fleet | None = None
        self._waited = False

    def run(self) -> None:
        """The job has ended and holds nothing when this returns."""
        lease = None
        try:
            self._say(lifecycle.PREPARING)
            lease = self._shop.capacity.acquire(self._spec, self._wish.end, self._wait)
            if lease is None:
                raise Cancelled
            instances = self._download()
            ending = self._train(self._plan(instances, lease), lease.notes)
            self._conclude(ending, instances)
        except Cancelled:
            self._end_early()
        except JobError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001 - the top of the job's thread
            _log.exception("training job %s: the emulator failed", self._spec.name)
            self._crash(CRASH_NOTICE)
        finally:
            self._put_away()
            if lease:
                self._shop.capacity.release(lease)

    def _wait(self) -> None:
        self._waited = True
        self._enter(Secondary.PENDING, lifecycle.WAITING_FOR_CAPACITY)

    def _download(self) -> Instances:
        """Directories, data, image: all an instance needs before it can start."""
        self._go_on()
        if self._waited:
            self._say(lifecycle.PREPARING)
        self._enter(Secondary.DOWNLOADING, lifecycle.DOWNLOADING_DATA)
        remove_directory(self._directory)
        instances = create_instances(self._directory, self._spec, self._shop.runtime.traits)
        self._shop.inputs.stage(self._spec, instances, self._wish.end.is_set)
        self._go_on()
        self._say(lifecycle.DOWNLOADING_IMAGE)
        self._shop.runtime.prepare(self._spec.image, _log.info)
        self._go_on()
        return instances

    def _plan(self, instances: Instances, lease: Lease) -> JobPlan:
        shop = self._shop
        return plan_job(self._spec, instances, shop.runtime.traits, lease.gpus, shop.credentials)

    def _train(self, plan: JobPlan, notes: Iterable[str]) -> Ending:
        """Run the instances until none is left; what the job comes to stays to be said."""
        clock, shop = self._shop.clock, self._shop
        self._enter(Secondary.TRAINING, lifecycle.TRAINING)
        started = clock.monotonic()
        lines = self._open_lines()
        for note in notes:
            lines.say_all(note)
        self._fleet = shop.runtime.launch(plan, lines.feed)
        watch = FleetWatch(self._fleet, plan.hosts, lines, self._wish, clock.monotonic)
        ending = watch.until_over(self._spec.max_runtime - (clock.monotonic() - started))
        if ending.cause in (Cause.WISH, Cause.TIME) and not self._wish.hurry:
            self._enter_stopping()
        grace = shop.failure_grace if ending.failed else shop.stop_grace
        watch.end_all(grace, shop.failure_grace)
        if self._wish.hurry and ending.cause is not Cause.DONE:
            lines.say_all(SHUTDOWN_NOTICE)
        # Clients read the logs for the last time when they see the end of the job.
        lines.close()
        return ending

    def _conclude(self, ending: Ending, instances: Instances) -> None:
        """Upload what there is, then say how the job ended."""
        if ending.failed:
            failure = failure_of(ending.failed, _failure_file(instances[ending.failed.host]))
            self._upload_remains(instances)
            # A failed job ends when its failure was seen (API reference, TrainingEndTime).
            self._fail(failure or InternalServerError(INTERNAL_ERROR), ending.failed.at)
            return
        if ending.cause is Cause.WISH and self._wish.hurry:
            raise InternalServerError(INTERNAL_ERROR)
        self._enter(Secondary.UPLOADING, lifecycle.UPLOADING)
        self._shop.outputs.upload(self._spec, instances)
        self._change(
            lambda life, now: _succeeded(life, ending, now), artifacts=self._spec.model_artifacts
        )

    def _upload_remains(self, instances: Instances) -> None:
        """Also a failed job's files are kept; that they cannot be is not why it failed."""
        if self._wish.hurry or not any(_has_files(dirs) for dirs in instances.values()):
            return
        self._enter(Secondary.UPLOADING, lifecycle.UPLOADING)
        try:
            self._shop.outputs.upload(self._spec, instances)
        except JobError as error:
            _log.warning("training job %s: after its failure: %s", self._spec.name, error)

    def _end_early(self) -> None:
        if self._wish.hurry:
            self._crash(SHUTDOWN_NOTICE)
            return
        self._enter_stopping()
        self._change(lambda life, now: life.finish(Secondary.STOPPED, lifecycle.STOPPED, now))

    def _crash(self, text: str) -> None:
        """The emulator's own fault; the job's logs say so, too."""
        self._close_lines()
        hosts, shop = [host.name for host in self._spec.hosts], self._shop
        notice(shop.logs, self._spec.scope, self._spec.name, hosts, text, shop.clock.now)
        self._fail(InternalServerError(INTERNAL_ERROR))

    def _fail(self, error: JobError, at: float | None = None) -> None:
        self._close_lines()
        reason = str(error)
        self._change(
            lambda life, now: life.finish(Secondary.FAILED, lifecycle.FAILED, at or now, reason)
        )

    def _put_away(self) -> None:
        """Last of all, so that nobody waits for it: instances, files."""
        try:
            if self._fleet:
                self._fleet.close()
            self._close_lines()
            if not self._shop.keep_directories:
                remove_directory(self._directory)
        except Exception:  # noqa: BLE001 - the top of the job's thread
            _log.exception("training job %s: not all of it was removed", self._spec.name)

    def _open_lines(self) -> LineCollector:
        hosts = [host.name for host in self._spec.hosts]
        shop = self._shop
        self._lines = LineCollector(
            shop.logs, self._spec.scope, self._spec.name, hosts, shop.clock.now
        )
        return self._lines

    def _close_lines(self) -> None:
        if self._lines:
            self._lines.close()

    def _go_on(self) -> None:
        if self._wish.end.is_set():
            raise Cancelled

    def _enter_stopping(self) -> None:
        self._change(
            lambda life, now: life.request_stop(now).enter(
                Secondary.STOPPING, lifecycle.STOPPING, now
            )
        )

    def _enter(self, status: Secondary, message: str) -> None:
        self._change(lambda life, now: life.enter(status, message, now))

    def _say(self, message: str) -> None:
        self._change(lambda life, now: life.say(message, now))

    def _change(
        self, step: Callable[[Lifecycle, float], Lifecycle], artifacts: str | None = None
    ) -> None:
        now = self._shop.clock.now()
        self._shop.store.change(
            self._spec.scope, self._spec.name, lambda life: step(life, now), artifacts
        )


def _succeeded(life: Lifecycle, ending: Ending, now: float) -> Lifecycle:
    """The end after the upload; a stop that came as late as during it still counts."""
    if ending.cause is Cause.TIME:
        return life.finish(Secondary.MAX_RUNTIME_EXCEEDED, lifecycle.MAX_RUNTIME_EXCEEDED, now)
    if life.stop_requested:
        return life.finish(Secondary.STOPPED, lifecycle.STOPPED, now)
    return life.finish(Secondary.COMPLETED, lifecycle.COMPLETED, now)


def _failure_file(dirs: InstanceDirs) -> str:
    """The text of /opt/ml/output/failure, as much of it as a FailureReason holds.

    The script may have put anything there: links are not followed, pipes not waited for.
    """
    try:
        descriptor = os.open(dirs.failure, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:  # noqa: PTH123 - there is no path to open
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(4 * FAILURE_REASON_LIMIT).decode("utf-8", "replace")


def _has_files(dirs: InstanceDirs) -> bool:
    folders = (folder for folder in (dirs.model, dirs.output_data) if folder.is_dir())
    return any(any(folder.iterdir()) for folder in folders)


def remove_directory(directory: Path) -> None:
    """Remove a job's files, also those in folders that its script made read-only."""
    if not directory.exists():
        return
    for folder, names, _ in os.walk(directory):
        for name in names:
            child = Path(folder, name)
            # What cannot be made writable (another user's, or a link) stays to rmtree.
            with suppress(OSError):
                if not child.is_symlink():
                    child.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        _log.warning("%s could not be removed completely", directory)
