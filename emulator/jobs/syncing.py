"""Checkpoints, TensorBoard and debugger data: restored first, then kept in S3 while a job runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from emulator.container.saved import CHECKPOINTS, Saved, saved_directories
from emulator.jobs.keeping import keep
from emulator.jobs.reports import Reports
from emulator.jobs.workshop import Instances, RunningSync
from emulator.model.errors import ClientError, InternalServerError, JobError
from emulator.model.job import JobSpec
from emulator.storage.checkpoints import restore
from emulator.storage.mirror import Memory, Mirror, Rules
from emulator.storage.objects import ObjectStore, StoreError
from emulator.storage.persistence import PATIENCE, persist
from emulator.storage.sync import Stamp

INTERVAL = 3.0
"""Seconds between two looks at the directories."""
_CHECKPOINTS = Rules(whole_files=True, deletes=True)
_REPORTS = Rules(whole_files=False, deletes=False)
"""Event files are appended to as long as the script runs, and readable at any length."""
_JOURNAL = "sync.json"
_LEAVE_SECONDS = 10.0
"""What a copy that has begun may take of a shutdown's time."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Syncs:
    """Syncs (see workshop.py) with S3."""

    store: ObjectStore
    reports: Reports
    kept: Path
    """What S3 does not take in the end is moved below it."""
    interval: float = INTERVAL
    patience: float = PATIENCE

    def start(
        self, spec: JobSpec, instances: Instances, cancelled: Callable[[], bool]
    ) -> RunningSync:
        saved = saved_directories(spec)
        mirrors = {each.kind: self._mirror(spec, instances, each, {}) for each in saved}
        if spec.checkpoints:
            self._restore(spec, instances, cancelled)
            mirrors[CHECKPOINTS].remember_all()
        journal = Journal.of(instances)
        return _Running(self, spec, instances, mirrors, journal).begin()

    def resume(self, spec: JobSpec, instances: Instances) -> RunningSync:
        """Go on where the journal of an earlier emulator ends."""
        journal = Journal.of(instances)
        remembered = journal.load()
        mirrors = {
            each.kind: self._mirror(spec, instances, each, remembered.get(each.kind, {}))
            for each in saved_directories(spec)
        }
        return _Running(self, spec, instances, mirrors, journal).begin()

    def rescue(self, spec: JobSpec, instances: Instances) -> None:
        """Upload what an emulator that was killed had not; the instances are gone.

        Only files that had not changed for an interval when that emulator last wrote its
        journal: what was torn by the kill must not replace a whole checkpoint. The others
        are kept on this machine, and the job's log says where.
        """
        journal = Journal.of(instances)
        if not (remembered := journal.load()):
            return
        complete = int(journal.last_beat - self.interval * 1e9)
        for each in saved_directories(spec):
            mirror = self._mirror(spec, instances, each, remembered.get(each.kind, {}))
            try:
                before = complete if each.kind == CHECKPOINTS else None
                mirror.round(last=True, complete_before=before)
            except (StoreError, OSError) as error:
                _log.warning("training job %s: %s: %s", spec.name, each.target, error)
            if mirror.pending():
                place = self.keep(spec, instances, each)
                self.reports.line(
                    spec, f"Files of {each.path} that may be incomplete are kept in {place}."
                )

    def keep(self, spec: JobSpec, instances: Instances, saved: Saved) -> Path:
        """Move a saved directory of all instances to where it outlives the job."""
        roots = {host: dirs.behind(spec, saved.path) for host, dirs in instances.items()}
        return keep(self.kept, spec, saved.kind, roots, _depth(spec, instances, saved))

    def _mirror(
        self, spec: JobSpec, instances: Instances, saved: Saved, memory: Mapping[str, Memory]
    ) -> Mirror:
        roots = {host: dirs.behind(spec, saved.path) for host, dirs in instances.items()}
        rules = _CHECKPOINTS if saved.kind == CHECKPOINTS else _REPORTS
        depth = _depth(spec, instances, saved)
        return Mirror(roots, saved.target, self.store, saved.path, rules, memory, depth)

    def _restore(self, spec: JobSpec, instances: Instances, cancelled: Callable[[], bool]) -> None:
        saved = next(each for each in saved_directories(spec) if each.kind == CHECKPOINTS)
        count = restore(
            saved.target,
            [dirs.behind(spec, saved.path) for dirs in instances.values()],
            [dirs.channel_manifest(CHECKPOINTS) for dirs in instances.values()],
            self.store,
            cancelled,
        )
        _log.info("training job %s: %d checkpoint objects restored", spec.name, count)


def _depth(spec: JobSpec, instances: Instances, saved: Saved) -> int:
    return next(iter(instances.values())).depth(spec, saved.path)


class Journal:
    """What S3 has of a running job's files, written down for the emulator after this one."""

    def __init__(self, path: Path):
        self._path = path
        self._written = ""

    @classmethod
    def of(cls, instances: Instances) -> Journal:
        """Beside the directories of the instances."""
        return cls(next(iter(instances.values())).root.parent / _JOURNAL)

    def save(self, memories: Mapping[str, Mapping[str, Memory]]) -> None:
        """Write it down; also when nothing is new, its time tells that the emulator lives."""
        text = json.dumps(
            {
                kind: {
                    host: {
                        "known": {name: asdict(stamp) for name, stamp in memory.known.items()},
                        "made": sorted(memory.made),
                    }
                    for host, memory in hosts.items()
                }
                for kind, hosts in memories.items()
            }
        )
        if text == self._written:
            self._path.touch()
            return
        partial = self._path.with_suffix(".new")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self._path)
        self._written = text

    @property
    def last_beat(self) -> int:
        """When it was last written, in nanoseconds since the epoch."""
        return self._path.stat().st_mtime_ns

    def load(self) -> dict[str, dict[str, Memory]]:
        """What was saved, by kind and host; nothing if there is no journal, or a foreign one."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                kind: {
                    host: Memory(
                        {name: Stamp(**stamp) for name, stamp in memory["known"].items()},
                        set(memory["made"]),
                    )
                    for host, memory in hosts.items()
                }
                for kind, hosts in stored.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


class _Running:
    """RunningSync: a thread that looks at the directories again and again."""

    def __init__(
        self,
        syncs: S3Syncs,
        spec: JobSpec,
        instances: Instances,
        mirrors: Mapping[str, Mirror],
        journal: Journal,
    ):
        self._syncs = syncs
        self._spec = spec
        self._instances = instances
        self._mirrors = mirrors
        self._journal = journal
        self._over = Event()
        self._thread = Thread(target=self._keep_on, name=f"sync-{spec.name}", daemon=True)

    def begin(self) -> _Running:
        if self._mirrors:
            self._write_down()
            self._thread.start()
        return self

    def finish(self) -> None:
        if not self._mirrors:
            return
        self._over.set()
        self._thread.join()
        failures = [error for each in self._saved() if (error := self._last_round(each))]
        self._write_down()
        if failures:
            raise failures[0]

    def leave(self) -> None:
        if not self._mirrors:
            return
        self._over.set()
        self._thread.join(_LEAVE_SECONDS)

    def _saved(self) -> tuple[Saved, ...]:
        return saved_directories(self._spec)

    def _last_round(self, saved: Saved) -> JobError | None:
        mirror = self._mirrors[saved.kind]
        try:
            persist(lambda: mirror.round(last=True), self._syncs.patience)
            unread = mirror.pending()
        except (StoreError, OSError) as error:
            refused = isinstance(error, StoreError) and not error.transient
            return self._kept(saved, str(error), ClientError if refused else InternalServerError)
        for host, name in unread:
            _log.warning("training job %s: %s of %s could not be read", self._spec.name, name, host)
        if unread:
            return self._kept(saved, "not all of it could be read", InternalServerError)
        return None

    def _kept(self, saved: Saved, why: str, kind: type[JobError]) -> JobError:
        place = self._syncs.keep(self._spec, self._instances, saved)
        reason = f"Upload of {saved.path} failed:{why}. The files are kept in {place}."
        _log.warning("training job %s: %s", self._spec.name, reason)
        return kind(reason)

    def _keep_on(self) -> None:
        try:
            while not self._over.wait(self._syncs.interval):
                self._round()
        except Exception:  # noqa: BLE001 - a thread's top: the last round is still to come
            _log.exception("training job %s: nothing is copied before its end", self._spec.name)

    def _round(self) -> None:
        for kind, mirror in self._mirrors.items():
            began = time.monotonic()
            try:
                worked = mirror.round()
            except (StoreError, OSError) as error:
                _log.warning("training job %s: %s: %s", self._spec.name, kind, error)
                continue
            if worked:
                _log.debug("%s: %s in %.1f s", self._spec.name, kind, time.monotonic() - began)
        self._write_down()

    def _write_down(self) -> None:
        try:
            self._journal.save({kind: mirror.memory for kind, mirror in self._mirrors.items()})
        except OSError as error:
            _log.warning("training job %s: no journal of its files: %s", self._spec.name, error)
