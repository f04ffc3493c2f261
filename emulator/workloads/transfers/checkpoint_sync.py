"""Checkpoints, TensorBoard and debugger data: restored first, then kept in S3 while a job runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread

from emulator.data.checkpoints.mirror import Killed, LastRound, Memory, Mirror, Rules
from emulator.data.checkpoints.plan import Stamp
from emulator.data.checkpoints.restore import restore
from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.data.objectstore.retry import PATIENCE, persist
from emulator.data.outputs.tree import Found
from emulator.model.errors import ClientError, InternalServerError, JobError, disk_full
from emulator.model.workload import SavedDirectory, WorkloadSpec
from emulator.workloads.plan.layout import depth_of
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.context import Ends, Instances, RunningSync
from emulator.workloads.transfers.local_fallback import keep, keep_files, new_place
from emulator.workloads.transfers.reports import Reports

INTERVAL = 3.0
"""Seconds between two looks at the directories."""
_MIRRORED = Rules(whole_files=True, deletes=True)
_APPENDED = Rules(whole_files=False, deletes=False)
"""Event files are appended to as long as the script runs, and readable at any length."""
_JOURNAL = "sync.json"
_NAMED = 5
"""Files that one line of the log names."""
_DOUBTFUL = (
    "The instance was ended while it may have written these files. They were not uploaded, "
    "so that S3 keeps the versions that it has."
)
_REFUSED = "These files could not be uploaded."
_SIGNALS = 128
"""Exit codes above it are those of commands that a signal has ended."""
_LEAVE_SECONDS = 10.0
"""What a copy that has begun may take of a shutdown's time."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Syncs:
    """Syncs (see context.py) with S3."""

    store: ObjectStore
    reports: Reports
    kept: Path
    """What S3 does not take in the end is moved below it."""
    interval: float = INTERVAL
    patience: float = PATIENCE
    clock: Clock = field(default_factory=Clock)

    def start(
        self, spec: WorkloadSpec, instances: Instances, cancelled: Callable[[], bool]
    ) -> RunningSync:
        mirrors = {each.kind: self._mirror(instances, each, {}) for each in spec.saved}
        for saved in spec.saved:
            if saved.manifest is not None:
                self._restore(spec, saved, saved.manifest, instances, cancelled)
                mirrors[saved.kind].remember_all()
        journal = Journal.of(instances)
        return _Running(self, spec, instances, mirrors, journal).begin()

    def resume(self, spec: WorkloadSpec, instances: Instances) -> RunningSync:
        """Go on where the journal of an earlier emulator ends."""
        journal = Journal.of(instances)
        mirrors = self._remembered(spec, instances, journal.load() or Entries())
        return _Running(self, spec, instances, mirrors, journal).begin()

    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:
        """Upload what an emulator that was killed had not; the instances are gone.

        What may be torn by the kill does not go to S3: it is kept on this machine, and the
        job's log says where. Nothing is deleted in S3. Raises OSError, and JobError when S3
        did not take all that it should have.
        """
        journal = Journal.of(instances)
        if not journal.exists():
            return  # nothing had begun, or everything was uploaded
        entries = journal.load()
        if entries is None:
            for each in spec.saved:
                place = self.keep_all(spec, instances, each)
                self.reports.line(spec, f"{each.path}: {_REFUSED} Kept in {place}.")
            return
        mirrors = self._remembered(spec, instances, entries)
        rescued = [
            self._rescue(spec, instances, each, mirrors[each.kind], entries, journal)
            for each in spec.saved
        ]
        journal.remove()
        for failure in filter(None, rescued):
            raise failure

    def _rescue(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        saved: SavedDirectory,
        mirror: Mirror,
        entries: Entries,
        journal: Journal,
    ) -> JobError | None:
        rest, killed = int(self.interval * 1e9), entries.killed
        if killed is None:  # when the instances ended is not known: with that emulator, or later
            now, beat = int(self.clock.now() * 1e9), journal.last_beat
            alive = {host: max(beat, mirror.last_write(host, now)) for host in instances}
            killed = {host: Killed(alive[host] - rest, now) for host in instances}
            last = LastRound(killed, doubtful_if_new=False, deletes=False)
        else:
            last = LastRound(killed, deletes=False)
        why = "not all of it could be read"
        try:
            persist(lambda: mirror.round(last), self.patience)
        except (StoreError, OSError) as error:
            _log.warning("%s: %s: %s", spec.label, saved.target, error)
            why = str(error)
        doubtful, others = _pending(mirror)
        self.keep_some(spec, instances, saved, mirror, doubtful, _DOUBTFUL)
        self.keep_some(spec, instances, saved, mirror, others, _REFUSED)
        return InternalServerError(f"Upload of {saved.path} failed:{why}") if others else None

    def keep_some(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        saved: SavedDirectory,
        mirror: Mirror,
        names: Iterable[tuple[str, str]],
        why: str,
    ) -> None:
        """Keep files that are not in S3 where they outlive the job; its log says why.

        `names` are pairs of a host and a file's name, "." for its whole directory. Raises
        OSError.
        """
        files: dict[str, dict[str, Found]] = {}
        there = mirror.files()
        for host, name in names:
            if name == ".":
                place = self.keep_all(spec, instances, saved)
                self.reports.line(spec, f"{saved.path} could not be read. It is kept in {place}.")
                return
            if found := there[host].get(name):
                files.setdefault(host, {})[name] = found
        if not files:
            return
        place = new_place(self.kept, spec, self.clock.now())
        keep_files(place, saved.kind, files)
        count = sum(len(names) for names in files.values())
        some = ", ".join(sorted({name for names in files.values() for name in names})[:_NAMED])
        more = ", ..." if count > _NAMED else ""
        told = f"{saved.path}: {why} Kept in {place}: {some}{more} ({count} files)."
        self.reports.line(spec, told)

    def keep_all(self, spec: WorkloadSpec, instances: Instances, saved: SavedDirectory) -> Path:
        """Move a saved directory of all instances to where it outlives the job.

        Raises OSError.
        """
        roots = {host: dirs.at(saved.path) for host, dirs in instances.items()}
        place = new_place(self.kept, spec, self.clock.now())
        keep(place, saved.kind, roots, depth_of(instances, saved.path))
        return place

    def _remembered(
        self, spec: WorkloadSpec, instances: Instances, entries: Entries
    ) -> Mapping[str, Mirror]:
        return {
            each.kind: self._mirror(instances, each, entries.memories.get(each.kind, {}))
            for each in spec.saved
        }

    def _mirror(
        self, instances: Instances, saved: SavedDirectory, memory: Mapping[str, Memory]
    ) -> Mirror:
        roots = {host: dirs.at(saved.path) for host, dirs in instances.items()}
        rules = _MIRRORED if saved.mirrored else _APPENDED
        depth = depth_of(instances, saved.path)
        return Mirror(roots, saved.target, self.store, saved.path, rules, memory, depth)

    def _restore(
        self,
        spec: WorkloadSpec,
        saved: SavedDirectory,
        manifest: str,
        instances: Instances,
        cancelled: Callable[[], bool],
    ) -> None:
        count = restore(
            saved.target,
            [dirs.at(saved.path) for dirs in instances.values()],
            [dirs.at(manifest) for dirs in instances.values()],
            self.store,
            cancelled,
        )
        _log.info("%s: %d checkpoint objects restored", spec.label, count)


def _pending(mirror: Mirror) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Host and name of the files that S3 has not: those that may be torn, and the others."""
    pending = mirror.pending()
    doubtful = [(host, name) for host, name in pending if name in mirror.doubtful.get(host, {})]
    return doubtful, sorted(set(pending) - set(doubtful))


@dataclass(frozen=True)
class Entries:
    """What a journal holds."""

    memories: Mapping[str, Mapping[str, Memory]] = field(default_factory=dict)
    """By kind and host."""
    killed: Mapping[str, Killed] | None = None
    """Once no instance runs any more: those that did not end by themselves."""


class Journal:
    """What S3 has of a running job's files, written down for the emulator after this one."""

    def __init__(self, path: Path):
        self._path = path
        self._written = ""

    @classmethod
    def of(cls, instances: Instances) -> Journal:
        """Beside the directories of the instances."""
        return cls(next(iter(instances.values())).root.parent / _JOURNAL)

    def save(self, entries: Entries) -> None:
        """Write it down; also when nothing is new, its time tells that the emulator lives.

        Raises OSError.
        """
        text = json.dumps(
            {
                "memories": {
                    kind: {
                        host: {
                            "known": {name: asdict(stamp) for name, stamp in memory.known.items()},
                            "made": sorted(memory.made),
                            "latest": sorted(memory.latest),
                        }
                        for host, memory in hosts.items()
                    }
                    for kind, hosts in entries.memories.items()
                },
                "killed": entries.killed
                and {host: asdict(killed) for host, killed in entries.killed.items()},
            }
        )
        if text == self._written:
            self._path.touch()
            return
        partial = self._path.with_suffix(".new")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self._path)
        self._written = text

    def exists(self) -> bool:
        return self._path.exists()

    def remove(self) -> None:
        """There is nothing left to do for the emulator after this one. Raises OSError."""
        self._path.unlink(missing_ok=True)

    @property
    def last_beat(self) -> int:
        """When it was last written, in nanoseconds since the epoch."""
        return self._path.stat().st_mtime_ns

    def load(self) -> Entries | None:
        """What was saved; None if there is no journal, or none that can be read."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            killed = stored["killed"]
            return Entries(
                {
                    kind: {
                        host: Memory(
                            {name: Stamp(**stamp) for name, stamp in memory["known"].items()},
                            set(memory["made"]),
                            set(memory.get("latest", ())),
                        )
                        for host, memory in hosts.items()
                    }
                    for kind, hosts in stored["memories"].items()
                },
                killed and {host: Killed(**each) for host, each in killed.items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class _Running:
    """RunningSync: a thread that looks at the directories again and again."""

    def __init__(
        self,
        syncs: S3Syncs,
        spec: WorkloadSpec,
        instances: Instances,
        mirrors: Mapping[str, Mirror],
        journal: Journal,
    ):
        self._syncs = syncs
        self._spec = spec
        self._instances = instances
        self._mirrors = mirrors
        self._journal = journal
        self._killed: Mapping[str, Killed] | None = None
        self._over = Event()
        self._thread = Thread(target=self._keep_on, name=f"sync-{spec.name}", daemon=True)

    def begin(self) -> _Running:
        if self._mirrors:
            self._write_down()
            self._thread.start()
        return self

    def finish(self, ends: Ends) -> None:
        if not self._mirrors:
            return
        self._over.set()
        self._thread.join()
        self._killed = self._killed_of(ends)
        self._write_down()
        failures = [error for each in self._saved() if (error := self._last_round(each))]
        self._forget()
        if failures:
            raise failures[0]

    def leave(self) -> None:
        if not self._mirrors:
            return
        self._over.set()
        self._thread.join(_LEAVE_SECONDS)

    def _killed_of(self, ends: Ends) -> dict[str, Killed]:
        """The instances whose last files may be torn.

        One that ended with 0 says that it has done its work. One that failed by itself, before
        it was asked to end, has closed its files; but an archive without its end is torn then,
        too (on a full disk, for instance).
        """
        now, rest = int(self._syncs.clock.now() * 1e9), int(self._syncs.interval * 1e9)
        killed = {}
        for host in self._instances:
            end = ends.exits.get(host)
            dead = int(end.at * 1e9) if end else now
            if end and end.code == 0 and not end.lost:
                continue
            by_itself = end and end.code < _SIGNALS and not end.lost and host not in ends.asked
            killed[host] = Killed(dead if by_itself else dead - rest, dead)
        return killed

    def _saved(self) -> tuple[SavedDirectory, ...]:
        return self._spec.saved

    def _last_round(self, saved: SavedDirectory) -> JobError | None:
        mirror, last = self._mirrors[saved.kind], LastRound(self._killed or {})
        try:
            persist(lambda: mirror.round(last), self._syncs.patience)
            doubtful, unread = _pending(mirror)
            self._syncs.keep_some(self._spec, self._instances, saved, mirror, doubtful, _DOUBTFUL)
        except (StoreError, OSError) as error:
            refused = isinstance(error, StoreError) and not error.transient
            kept = self._kept(saved, str(error), ClientError if refused else InternalServerError)
            kept.no_space = disk_full(error, str(self._syncs.kept)) or ""
            return kept
        for host, name in unread:
            _log.warning("%s: %s of %s could not be read", self._spec.label, name, host)
        if unread:
            return self._kept(saved, "not all of it could be read", InternalServerError)
        return None

    def _kept(self, saved: SavedDirectory, why: str, kind: type[JobError]) -> JobError:
        try:
            place = self._syncs.keep_all(self._spec, self._instances, saved)
        except OSError as error:
            reason = f"Upload of {saved.path} failed:{why}. The files are not kept: {error}."
        else:
            reason = f"Upload of {saved.path} failed:{why}. The files are kept in {place}."
        _log.warning("%s: %s", self._spec.label, reason)
        return kind(reason)

    def _keep_on(self) -> None:
        try:
            while not self._over.wait(self._syncs.interval):
                self._round()
        except Exception:  # noqa: BLE001 - a thread's top: the last round is still to come
            _log.exception("%s: nothing is copied before its end", self._spec.label)

    def _round(self) -> None:
        for kind, mirror in self._mirrors.items():
            began = time.monotonic()
            try:
                worked = mirror.round()
            except (StoreError, OSError) as error:
                _log.warning("%s: %s: %s", self._spec.label, kind, error)
                continue
            if worked:
                _log.debug("%s: %s in %.1f s", self._spec.label, kind, time.monotonic() - began)
        self._write_down()

    def _write_down(self) -> None:
        try:
            memories = {kind: mirror.memory for kind, mirror in self._mirrors.items()}
            self._journal.save(Entries(memories, self._killed))
        except OSError as error:
            _log.warning("%s: no journal of its files: %s", self._spec.label, error)

    def _forget(self) -> None:
        try:
            self._journal.remove()
        except OSError as error:
            _log.warning("%s: its journal stays: %s", self._spec.label, error)
