"""Directories of several instances, copied again and again to one prefix in S3."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from emulator.model.job import S3Uri
from emulator.storage.beneath import open_beneath
from emulator.storage.objects import ObjectStore, StoreError
from emulator.storage.sync import SETTLED, Replica, Sight, Stamp, look_again, plan
from emulator.storage.tree import Found, content, open_file, printable, scan

_THREADS = 4
_OPEN_LISTINGS = 10
"""A file that stays open for writing counts as complete when so many listings agree on it."""
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


@dataclass(frozen=True)
class _Version:
    file: Found
    stamp: Stamp


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
        self._unreadable: set[Path] = set()
        for host in roots:
            self.memory.setdefault(host, Memory())

    def remember_all(self) -> None:
        """What is there now is what S3 has."""
        for host, root in self._roots.items():
            found = self._listing(root)
            self.memory[host] = Memory({name: version.stamp for name, version in found.items()})

    def round(self, last: bool = False, complete_before: int | None = None) -> bool:
        """Bring S3 up to date, and say whether anything had to be done.

        `last`: nobody writes any more, so that everything is complete, or only what was
        not changed since `complete_before` (ns). Raises StoreError when the store fails,
        after everything else was tried.
        """
        settled = 1 if last or not self._rules.whole_files else SETTLED
        listings = {host: self._listing(root) for host, root in self._roots.items()}
        if complete_before is not None:
            listings = {
                host: {
                    name: version
                    for name, version in listing.items()
                    if version.stamp.modified <= complete_before
                    or version.stamp == self.memory[host].known.get(name)
                }
                for host, listing in listings.items()
            }
        for host, listing in listings.items():
            stamps = {name: version.stamp for name, version in listing.items()}
            self._sights[host] = look_again(self._sights[host], stamps, self.memory[host].known)
        made = plan(self._replicas(), settled=settled, deletes=self._rules.deletes)
        going = {
            name: listings[host][name]
            for name, host in made.uploads.items()
            if last or not self._is_open(listings[host][name], self._sights[host][name])
        }
        failed = self._upload(going, settled)
        for name in made.deletes if not failed else ():
            if self._is_gone(name):
                self._delete(name)
        if failed:
            raise failed
        return bool(going or made.deletes)

    def pending(self) -> list[tuple[str, str]]:
        """Files whose version is not in S3, "." for all of a root that cannot be read."""
        found = []
        for host, root in self._roots.items():
            known = self.memory[host].known
            listing = self._listing(root)
            found += [(host, name) for name in listing if listing[name].stamp != known.get(name)]
            if root in self._unreadable:
                found.append((host, "."))
        return found

    def _replicas(self) -> dict[str, Replica]:
        return {
            host: Replica(self._sights[host], memory.known, frozenset(memory.made))
            for host, memory in self.memory.items()
        }

    def _listing(self, root: Path) -> dict[str, _Version]:
        """Empty, with a warning, if the root cannot be read: the other ones can be."""
        try:
            found = list(scan(root, self._warn, self._depth))
        except OSError as error:
            self._unreadable.add(root)
            self._warn(f"{root} is left out: {error.strerror}")
            return {}
        self._unreadable.discard(root)
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
                yield name, _Version(file, stamp)
            else:
                self._warn(f"{name} is left out: it is a link to a directory")

    def _is_open(self, version: _Version, sight: Sight) -> bool:
        return (
            self._rules.whole_files
            and sight.times < _OPEN_LISTINGS
            and is_open_for_writing(version.file)
        )

    def _upload(self, going: Mapping[str, _Version], settled: int) -> StoreError | None:
        """Upload side by side; the first error comes back, the others are logged."""
        if not going:
            return None
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="sync") as pool:
            jobs = {name: pool.submit(self._send, name, going[name]) for name in going}
        errors = []
        for name, job in jobs.items():
            error = job.exception()
            if error is None:
                if job.result():
                    self._uploaded(name, settled)
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

    def _uploaded(self, name: str, settled: int) -> None:
        for host, sights in self._sights.items():
            sight, memory = sights.get(name), self.memory[host]
            if not (sight and sight.stamp and sight.times >= settled):
                continue
            if sight.stamp != memory.known.get(name):
                memory.known[name] = sight.stamp
                memory.made.add(name)

    def _is_gone(self, name: str) -> bool:
        """On all instances; not if it lies where nothing can be looked at."""
        parts = name.split("/")
        for root in self._roots.values():
            folder, depth = root.joinpath(*parts).parent, self._depth + len(parts) - 1
            try:
                os.close(open_beneath(folder, depth, os.O_DIRECTORY))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return False
        return True

    def _delete(self, name: str) -> None:
        target = self.target.join(*name.split("/"))
        self._store.delete(target.bucket, target.key)
        for host, memory in self.memory.items():
            if not ((sight := self._sights[host].get(name)) and sight.stamp):
                memory.known.pop(name, None)
                memory.made.discard(name)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s: %s", self.target, text)


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
