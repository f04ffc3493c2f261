"""Trees of hard links to cached objects: made whole or not at all, and who looks at them.

Beside each tree lie two files. `<tree>.used`: its time says when the tree was used last, and its
lines name the layers that lie above it. `<tree>.blobs`: the names of the objects it is made of, so
that the removal of a tree need not look through all objects for those that nobody needs any more.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from emulator.data.cache.reflink import clone

_NO_MORE_LINKS = (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


def build(tree: Path, files: Iterable[tuple[Path, str]], cancelled: Callable[[], bool]) -> None:
    """Make `tree` with a link to each file, an object, under its path in the tree.

    One that another thread has made meanwhile stays. Raises Cancelled and OSError.
    """
    making = _half(tree)
    try:
        making.mkdir()
        folders: set[str] = set()
        names: dict[str, None] = {}
        for file, name in files:
            folder = name.rpartition("/")[0]
            if folder not in folders:
                (making / folder).mkdir(parents=True, exist_ok=True)
                folders.add(folder)
            _link(file, making / name, cancelled)
            names[file.name] = None
        _write(_blobs(tree), names)
        with suppress(FileExistsError):
            making.rename(tree)
    except OSError as error:
        # Another thread was faster: rename refuses to replace a directory with content.
        if error.errno != errno.ENOTEMPTY:
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def detach(tree: Path) -> tuple[Path, list[str] | None]:
    """Take a tree from its name; `discard` what this returns. Raises OSError.

    With it come the names of its objects, unless an earlier version of this program made it. Half
    a tree is never found under its name.
    """
    gone = _half(tree)
    tree.rename(gone)
    try:
        names = _blobs(tree).read_text().splitlines()
    except FileNotFoundError:
        names = None
    _used(tree).unlink(missing_ok=True)
    _blobs(tree).unlink(missing_ok=True)
    return gone, names


def discard(gone: Path) -> None:
    """Remove what `detach` has taken from its name."""
    shutil.rmtree(gone, ignore_errors=True)


def remove_halves(trees: Path) -> None:
    """Remove what a process that was killed had half made, or half removed."""
    for half in trees.glob("tmp-*"):
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)
    for beside in (*trees.glob("*.used"), *trees.glob("*.blobs")):
        if not beside.with_suffix("").exists():
            beside.unlink(missing_ok=True)


def layers_above(tree: Path) -> list[str]:
    """What lies above a tree: instances look at it, whoever started them."""
    try:
        lines = _used(tree).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if Path(line).exists()]


def note_use(tree: Path, layers: Iterable[Path]) -> None:
    """The tree is used now, and these lie above it from now on, too."""
    _write(_used(tree), [*layers_above(tree), *map(str, layers)])


def last_use(tree: Path) -> float:
    """Epoch seconds, 0 if it is not known."""
    try:
        return _used(tree).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _used(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.used")


def _blobs(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.blobs")


def _write(file: Path, lines: Iterable[str]) -> None:
    # Never half of them: a full disk must not make the others forgotten.
    written = file.with_name(f"tmp-{uuid.uuid4().hex}")
    written.write_text("".join(f"{line}\n" for line in lines))
    written.replace(file)


def _half(tree: Path) -> Path:
    return tree.with_name(f"tmp-{uuid.uuid4().hex}")


def _link(file: Path, name: Path, cancelled: Callable[[], bool]) -> None:
    try:
        os.link(file, name)
    except OSError as error:
        # ext4 has 65 000 links a file; some file systems have none.
        if error.errno not in _NO_MORE_LINKS:
            raise
        clone(file, name, cancelled)
