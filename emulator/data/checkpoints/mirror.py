"""Directories of several instances, copied again and again to one prefix in S3."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO
from zipfile import is_zipfile

from emulator.data.cache.birth import birth_of
from emulator.data.checkpoints.plan import (
    SETTLED,
    Replica,
    Sight,
    Stamp,
    deleters,
    look_again,
    plan,
)
from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.data.outputs.beneath import open_beneath
from emulator.data.outputs.tree import Found, content, open_file, printable, scan
from emulator.model.workload import S3Uri

_THREADS = 4
_OPEN_LISTINGS = 10
"""A file that stays open for writing counts as complete when so many listings agree on it."""
_ZIP = b"PK\x03\x04"
_NO_SIGNAL = getattr(signal, "SIGURG", 0)
"""What a broken lease sends: ignored unless somebody asked for it, unlike SIGIO."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """What may go up, and what follows from a file that went."""

    whole_files: bool = True
    """A file that is still written waits; without it, what there is goes up."""
    deletes: bool = True
    """What a script removes is removed in S3, too."""


@dataclass
class Memory:
    """What S3 got from one instance, or gave it."""

    known: dict[str, Stamp] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    """Names whose version is the instance's own."""
    latest: set[str] = field(default_factory=set)
    """Names whose version in S3 is this instance's."""


@dataclass(frozen=True)
class Killed:
    """An instance that did not end by itself; times in nanoseconds since the epoch."""

    rested: int
    """What it changed later may be half written."""
    dead: int
    """It changed nothing later."""


@dataclass(frozen=True)
class LastRound:
    """What is known of the instances once nobody writes any more."""

    killed: Mapping[str, Killed] = field(default_factory=dict)
    """By host; what the others left is complete."""
    doubtful_if_new: bool = True
    """A file that may be half written goes up if S3 has no version of it."""
    deletes: bool = True
    """What is missing is deleted in S3, where the rules say so."""


@dataclass(frozen=True)
class _Version:
    file: Found
    stamp: Stamp


_Listing = dict[str, _Version]


class _Changed(Exception):
    """The file is not the one that was seen any more."""


class Mirror:
    """One directory on each instance, and the prefix that all of them share."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        target: S3Uri,
        store: ObjectStore,
        seen_as: str,
        rules: Rules,
        memory: Mapping[str, Memory] | None = None,
        depth: int = 1,
    ):
        """`roots` by host; `seen_as` is their path on the instances.

        Scripts can replace the last `depth` parts of each root.
        """
        self.target = target
        self.memory = dict(memory or {})
        self._roots = roots
        self._store = store
        self._seen_as = seen_as
        self._depth = depth
        self._rules = rules
        self._sights: dict[str, dict[str, Sight]] = {host: {} for host in roots}
        self._warned: set[str] = set()
        self.doubtful: Mapping[str, Mapping[str, Found]] = {}
        """What the last round held back or sent with doubts: host → name → file."""
        for host in roots:
            self.memory.setdefault(host, Memory())

    def remember_all(self) -> None:
        """What is there now is what S3 has."""
        for host, root in self._roots.items():
            self.memory[host] = Memory(_stamps(self._listing(root)) or {})

    def round(self, last: LastRound | None = None) -> bool:
        """Bring S3 up to date, and say whether anything had to be done.

        `last`: nobody writes any more. Raises StoreError when the store fails, after
        everything else was tried.
        """
        settled = 1 if last or not self._rules.whole_files else SETTLED
        listings = {host: self._listing(root) for host, root in self._roots.items()}
        for host, listing in listings.items():
            self._sights[host] = look_again(
                self._sights[host], _stamps(listing), self.memory[host].known
            )
        self.doubtful = self._doubtful(listings, last) if last else {}
        replicas = self._replicas(listings, last)
        made = plan(
            replicas,
            settled=settled,
            deletes=self._rules.deletes and (last is None or last.deletes),
            doubtful_if_new=last is None or last.doubtful_if_new,
        )
        going = {
            name: version
            for name, host in made.uploads.items()
            if (version := (listings[host] or {}).get(name))
            and (last or not self._is_open(version, self._sights[host][name]))
        }
        failed = self._upload(going, made.uploads, settled)
        for name in made.deletes if not failed else ():
            if all(self._is_gone(self._roots[h], name) for h in deleters(replicas, name, settled)):
                self._delete(name)
        if failed:
            raise failed
        return bool(going or made.deletes)

    def last_write(self, host: str, before: int) -> int:
        """When the newest of an instance's files was written, up to `before` (ns); or 0."""
        listing = self._listing(self._roots[host]) or {}
        times = (version.stamp.modified for version in listing.values())
        return max((time for time in times if time <= before), default=0)

    def pending(self) -> list[tuple[str, str]]:
        """Files whose version is not in S3, "." for all of a root that cannot be read."""
        found = []
        for host, root in self._roots.items():
            known = self.memory[host].known
            listing = self._listing(root)
            if listing is None:
                found.append((host, "."))
                continue
            found += [(host, name) for name in listing if listing[name].stamp != known.get(name)]
        return found

    def files(self) -> dict[str, dict[str, Found]]:
        """All files, by host and name; behind a link the file that it leads to."""
        return {
            host: {name: version.file for name, version in (self._listing(root) or {}).items()}
            for host, root in self._roots.items()
        }

    def _replicas(
        self, listings: Mapping[str, _Listing | None], last: LastRound | None
    ) -> dict[str, Replica]:
        return {
            host: Replica(
                self._sights[host] if listings[host] is not None else {},
                memory.known,
                frozenset(memory.made),
                frozenset(memory.latest),
                frozenset(self.doubtful.get(host, {})),
                reliable=not (last and host in last.killed),
            )
            for host, memory in self.memory.items()
        }

    def _doubtful(
        self, listings: Mapping[str, _Listing | None], last: LastRound
    ) -> dict[str, dict[str, Found]]:
        """The files that their instance may have left half written, unless S3 has them."""
        if not self._rules.whole_files:
            return {}
        return {
            host: {
                name: version.file
                for name, version in (listings.get(host) or {}).items()
                if version.stamp != (known := self.memory[host].known.get(name))
                and may_be_torn(version.file, version.stamp, known, killed)
            }
            for host, killed in last.killed.items()
        }

    def _listing(self, root: Path) -> _Listing | None:
        """The files below a root; None, with a warning, if it cannot be read now."""
        try:
            found = list(scan(root, self._warn, self._depth))
        except OSError as error:
            self._warn(f"{root} is left out: {error.strerror}")
            return None
        return dict(self._versions(each for each in found if not each.is_directory))

    def _versions(self, found: Iterable[Found]) -> Iterable[tuple[str, _Version]]:
        for each in found:
            name = "/".join(each.name)
            if printable(each.name) != name:
                self._warn(f"{printable(each.name)} is left out: the name is not UTF-8")
                continue
            try:
                file = content(each, self._seen_as)
                status = file.path.lstat() if each.is_link else None
            except OSError as error:
                self._warn(f"{name} is left out: {error.strerror}")
                continue
            if status is None:
                yield name, _Version(file, Stamp(each.size, each.modified, each.inode))
            elif stat.S_ISREG(status.st_mode):
                stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
                yield name, _Version(replace(file, changed=status.st_ctime_ns), stamp)
            else:
                self._warn(f"{name} is left out: it leads to no regular file")

    def _is_open(self, version: _Version, sight: Sight) -> bool:
        return (
            self._rules.whole_files
            and sight.times < _OPEN_LISTINGS
            and is_open_for_writing(version.file)
        )

    def _upload(
        self, going: Mapping[str, _Version], winners: Mapping[str, str], settled: int
    ) -> StoreError | None:
        """Upload side by side; the first error comes back, the others are logged."""
        if not going:
            return None
        no_space: list[StoreError] = []

        def send(name: str) -> bool:
            if no_space:
                raise no_space[0]  # the store would take its time to say it of each file
            try:
                return self._send(name, going[name])
            except StoreError as error:
                if error.no_space:
                    no_space.append(error)
                raise

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="sync") as pool:
            jobs = {name: pool.submit(send, name) for name in going}
        errors = []
        for name, job in jobs.items():
            error = job.exception()
            if error is None:
                if job.result():
                    self._uploaded(name, winners[name], settled)
            elif isinstance(error, StoreError):
                log.info("%s to %s: %s", name, self.target, error)
                errors.append(error)
            else:
                raise error
        return errors[0] if errors else None

    def _send(self, name: str, version: _Version) -> bool:
        """Upload one file; False, and nothing in S3, if it is not the one that was seen."""
        target = self.target.join(*name.split("/"))
        try:
            with os.fdopen(open_file(version.file), "rb") as file:
                steady = _Steady(file, version.stamp, self._rules.whole_files)
                self._store.upload(target.bucket, target.key, steady, version.stamp.size)
        except (_Changed, OSError) as error:
            log.debug("%s: not now: %s", name, error)
            return False
        return True

    def _uploaded(self, name: str, winner: str, settled: int) -> None:
        """S3 has the winner's version, or rather has it than the others'."""
        for host, sights in self._sights.items():
            sight, memory = sights.get(name), self.memory[host]
            (memory.latest.add if host == winner else memory.latest.discard)(name)
            if not (sight and sight.stamp and sight.times >= settled):
                continue
            if host != winner and name in self.doubtful.get(host, {}):
                continue
            if sight.stamp != memory.known.get(name):
                memory.known[name] = sight.stamp
                memory.made.add(name)

    def _is_gone(self, root: Path, name: str) -> bool:
        """Is there nothing of that name? A listing leaves out more than what is not there."""
        *way, last = name.split("/")
        try:
            folder = open_beneath(root, self._depth, os.O_DIRECTORY)
        except OSError:
            return False
        try:
            for part in way:
                inner = os.open(part, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            # A file took the directory's place; a link may lead to where the files are now.
            return not stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            return False
        finally:
            os.close(folder)
        return False

    def _delete(self, name: str) -> None:
        target = self.target.join(*name.split("/"))
        self._store.delete(target.bucket, target.key)
        for host, memory in self.memory.items():
            memory.latest.discard(name)
            if not ((sight := self._sights[host].get(name)) and sight.stamp):
                memory.known.pop(name, None)
                memory.made.discard(name)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s: %s", self.target, text)


def _stamps(listing: _Listing | None) -> dict[str, Stamp] | None:
    return None if listing is None else {name: found.stamp for name, found in listing.items()}


class _Steady:
    """Reads a file; its end is only reached if it has not changed since it was seen.

    An upload becomes an object after its last byte was read, so that what is torn never does.
    """

    def __init__(self, file: BinaryIO, stamp: Stamp, whole: bool):
        self._file = file
        self._stamp = stamp
        self._whole = whole

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        if self._whole and (size < 0 or len(data) < size):
            status = os.fstat(self._file.fileno())
            if Stamp(status.st_size, status.st_mtime_ns, status.st_ino) != self._stamp:
                raise _Changed("it changed while it was read")
        return data


def may_be_torn(file: Found, stamp: Stamp, known: Stamp | None, killed: Killed) -> bool:
    """Whether an instance that was killed may have written only a part of a file.

    `known` is the version that S3 has. Not torn is an archive that has its end (PyTorch and
    NumPy write zip archives), a file that had rested, and one that took the place of another
    as a whole: by a rename after its last write, which changes the inode's time only.
    """
    try:
        descriptor = open_file(file)
    except OSError:
        return True
    with os.fdopen(descriptor, "rb") as opened:
        if opened.read(len(_ZIP)) == _ZIP:
            return not is_zipfile(opened)
        born = birth_of(descriptor)
    if stamp.modified <= killed.rested or stamp.modified < file.changed <= killed.dead:
        return False
    if known is None:
        return True
    # Writing and renaming a small file takes less time than the clock of the file system
    # can tell. One that was made after the version in S3 was not written over that version.
    return stamp.inode == known.inode if born is None else born <= known.modified


def is_open_for_writing(file: Found) -> bool:
    """Has any process of this machine the file open for writing, in whatever container?

    Asks the kernel for a read lease, which it gives only when nobody has. False where it
    cannot tell: another user's file, a file system without leases.
    """
    try:
        descriptor = open_file(file)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, _NO_SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
