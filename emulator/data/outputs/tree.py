"""What several instances left in their output directories, as one tree."""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emulator.data.outputs.beneath import open_beneath

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
    depth: int = 1
    """How many parts at the end of `path` a script can replace, by a link for instance."""
    changed: int = 0
    """When its inode was last changed, by a write or for instance by a rename (ns)."""

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


def scan(root: Path, warn: Warn, depth: int = 1) -> Iterator[Found]:
    """Everything below `root` that an archive can hold; symbolic links are not followed.

    Nor are they on the way: not at the last `depth` parts of `root`, which a script can replace,
    and not where a directory turns into one while it is looked at. Sockets, pipes, devices and
    what cannot be looked at are left out, with a warning each, and so is a root that is no
    directory. Raises OSError if the root cannot be read.
    """
    waiting: list[Name] = [()]
    while waiting:
        name = waiting.pop()
        try:
            yield from _children(root, name, depth, warn, waiting)
        except OSError as error:
            if name:
                warn(f"{printable(name)} is left out: {error.strerror}")
            elif isinstance(error, NotADirectoryError):
                link = "a link" if root.is_symlink() else "no directory"
                warn(f"{root.name} is left out: it is {link}")
            elif not isinstance(error, FileNotFoundError):
                raise


def _children(
    root: Path, name: Name, depth: int, warn: Warn, waiting: list[Name]
) -> Iterator[Found]:
    place = root.joinpath(*name)
    descriptor = open_beneath(place, depth + len(name), os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as children:
            for child in children:
                status = _look(child, (*name, child.name), warn)
                if status is None:
                    continue
                found = Found(
                    (*name, child.name),
                    place / child.name,
                    status.st_mode,
                    status.st_size,
                    int(status.st_mtime),
                    status.st_mtime_ns,
                    status.st_ino,
                    depth + len(name) + 1,
                    status.st_ctime_ns,
                )
                yield found
                if found.is_directory:
                    waiting.append(found.name)
    finally:
        os.close(descriptor)


def _look(child: os.DirEntry[str], name: Name, warn: Warn) -> os.stat_result | None:
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
    return status


def content(found: Found, seen_as: str = "") -> Found:
    """The same name with the file whose bytes stand for it: a link's target in the same tree.

    S3 has no links. `seen_as` is the root's path on the instance, where a script's absolute
    links lead. Raises FileNotFoundError for a link that leads elsewhere, and IsADirectoryError
    for one to a directory, whose files have names of their own.
    """
    if not found.is_link:
        return found
    root = found.path.parents[len(found.name) - 1]
    depth = found.depth - len(found.name)
    # Only what no script can replace is resolved: the root may be a link by now.
    root = root.parents[depth - 1].resolve().joinpath(*root.parts[-depth:])
    target = _within(found.path.parent, found.path.readlink(), root, seen_as)
    if not target.is_relative_to(root):
        raise FileNotFoundError(2, "the link leads elsewhere", str(found.path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a link to a directory", str(found.path))
    return replace(found, path=target, depth=depth + len(target.relative_to(root).parts))


def _within(parent: Path, link: Path, root: Path, seen_as: str) -> Path:
    if seen_as and link.is_absolute() and link.is_relative_to(seen_as):
        return (root / link.relative_to(seen_as)).resolve()
    return (parent / link).resolve()


def open_file(found: Found) -> int:
    """Open a regular file for reading, without following a link or waiting for a pipe.

    Raises OSError, also when something else has taken the file's place since the scan.
    """
    descriptor = open_beneath(found.path, found.depth, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(2, "it is no longer a file", str(found.path))


def link_target(found: Found) -> str:
    """Where a symbolic link leads. Raises OSError, also when it is none any more."""
    folder = open_beneath(found.path.parent, found.depth - 1, os.O_DIRECTORY)
    try:
        return os.readlink(found.path.name, dir_fd=folder)
    finally:
        os.close(folder)


def leads_out(found: Found, names: Collection[Name]) -> str:
    """Where a symbolic link leads if that is nothing of these names, else "".

    An absolute link leads out, too: the tree will be unpacked in another place.
    Raises OSError.
    """
    target = link_target(found)
    path = posixpath.normpath(posixpath.join(*found.name[:-1], target))
    inside = not path.startswith("/") and (path == "." or tuple(path.split("/")) in names)
    return "" if inside else target


def printable(name: Sequence[str]) -> str:
    """A name for people: bytes that are not UTF-8 are escaped."""
    return os.fsencode("/".join(name)).decode("utf-8", "backslashreplace")
