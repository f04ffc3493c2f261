"""What several instances left in their output directories, as one tree."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

Warn = Callable[[str], None]
Name = tuple[str, ...]
"""A path below the root, by its parts."""


@dataclass(frozen=True)
class Found:
    """A file, directory or symbolic link below one of the roots."""

    name: Name
    path: Path
    mode: int
    """As lstat gives it: type and permissions."""
    size: int
    mtime: int
    """Epoch seconds."""
    modified: int = 0
    """The same in nanoseconds."""
    inode: int = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


def merge(trees: Iterable[Iterable[Found]]) -> tuple[Found, ...]:
    """One tree of all, parents first and names in byte order; each name once (pure).

    Documented: files of several instances overwrite each other. The later tree wins, also
    over the kind: a file takes the place of a directory with all that was in it, and the
    other way round.
    """
    merged: dict[Name, Found] = {}
    for tree in trees:
        for found in sorted(tree, key=_order):
            _place(merged, found)
    return tuple(sorted(merged.values(), key=_order))


def _place(merged: dict[Name, Found], found: Found) -> None:
    before = merged.get(found.name)
    if before and before.is_directory and not found.is_directory:
        depth = len(found.name)
        for name in [name for name in merged if name[:depth] == found.name]:
            del merged[name]
    merged[found.name] = found


def _order(found: Found) -> tuple[bytes, ...]:
    return tuple(os.fsencode(part) for part in found.name)


def scan(root: Path, warn: Warn) -> Iterator[Found]:
    """Everything below `root` that an archive can hold; symbolic links are not followed.

    Sockets, pipes, devices and what cannot be looked at are left out, with a warning each.
    """
    waiting: list[tuple[Path, Name]] = [(root, ())]
    while waiting:
        directory, name = waiting.pop()
        try:
            with os.scandir(directory) as children:
                for child in children:
                    found = _look(child, (*name, child.name), warn)
                    if found is None:
                        continue
                    yield found
                    if found.is_directory:
                        waiting.append((found.path, found.name))
        except OSError as error:
            if name:
                warn(f"{printable(name)} is left out: {error.strerror}")
            elif not isinstance(error, FileNotFoundError):
                raise


def _look(child: os.DirEntry[str], name: Name, warn: Warn) -> Found | None:
    try:
        status = child.stat(follow_symlinks=False)
    except OSError as error:
        warn(f"{printable(name)} is left out: {error.strerror}")
        return None
    kinds: Mapping[int, str] = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    if kind := kinds.get(stat.S_IFMT(status.st_mode)):
        warn(f"{printable(name)} is left out: it is {kind}")
        return None
    return Found(
        name,
        Path(child.path),
        status.st_mode,
        status.st_size,
        int(status.st_mtime),
        status.st_mtime_ns,
        status.st_ino,
    )


def content(found: Found, seen_as: str = "") -> Path:
    """The file whose bytes stand for this one: a link's target if that lies in the same tree.

    S3 has no links. `seen_as` is the root's path on the instance, where a script's absolute
    links lead. Raises FileNotFoundError for a link that leads elsewhere.
    """
    if not found.is_link:
        return found.path
    root = found.path.parents[len(found.name) - 1].resolve()
    target = _within(found.path.parent, found.path.readlink(), root, seen_as)
    if not target.is_relative_to(root):
        raise FileNotFoundError(2, "the link leads elsewhere", str(found.path))
    return target


def _within(parent: Path, link: Path, root: Path, seen_as: str) -> Path:
    if seen_as and link.is_absolute() and link.is_relative_to(seen_as):
        return (root / link.relative_to(seen_as)).resolve()
    return (parent / link).resolve()


def open_file(path: Path) -> int:
    """Open a regular file for reading, without following a link or waiting for a pipe.

    Raises OSError, also when something else has taken the file's place since the scan.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(2, "it is no longer a file", str(path))


def printable(name: Sequence[str]) -> str:
    """A name for people: bytes that are not UTF-8 are escaped."""
    return os.fsencode("/".join(name)).decode("utf-8", "backslashreplace")
