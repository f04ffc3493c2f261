"""Objects kept on this disk between jobs, and trees of them that instances see.

```
blobs/ab/<sha256 of bucket, key and ETag>   one file an object; <…>.part and <…>.again are on
                                            their way
trees/<sha256 of paths and blobs>/          hard links to blobs under the names of a channel
trees/<…>.used                              when it was used last, and what lies above it
trees/<…>.blobs                             the blobs that it links to
```
A changed object has another ETag and so another blob. What a tree shares with another one
takes its space once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from emulator.data.cache.trees import (
    build,
    detach,
    discard,
    last_use,
    layers_above,
    note_use,
    remove_halves,
)
from emulator.data.objectstore.objects import Cancelled, ObjectInfo, never
from emulator.data.state_lock import StateLock

_LOOK = 0.1
_AT_ONCE = 64
"""Blobs that are removed before the lock is given to others for a moment."""
_LEFT_OVER = (".part", ".again", ".again.part")
"""What a broken download of a blob may leave beside it."""
_DIGEST = hashlib.sha256().digest_size * 2
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """An object, and the name it has in a channel."""

    bucket: str
    info: ObjectInfo
    path: str
    """With slashes, none of them at either end."""

    @cached_property
    def blob(self) -> str:
        """The name of its bytes, whatever the channel calls them."""
        parts = (self.bucket, self.info.key, self.info.etag, str(self.info.size))
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass
class Held:
    """A tree that stays where it is until it is released."""

    path: Path
    _release: Callable[[], None] = field(repr=False)

    def release(self) -> None:
        """Let it be evicted from now on; a second call does nothing."""
        release, self._release = self._release, _nothing
        release()


Fetch = Callable[[Sequence[tuple[Wanted, Path]]], None]
"""Makes each file the object it stands for, or raises."""


def ignore_missing(missing: Sequence[Wanted]) -> None:
    """Nobody wants to know."""


class ObjectCache:
    """Owned by one process; its threads may use it at once."""

    def __init__(self, root: Path, limit: int):
        """`limit` in bytes; data in use may exceed it. Raises SetupError if another owns it."""
        self._blobs = root / "blobs"
        self._trees = root / "trees"
        self._limit = limit
        for directory in (self._blobs, self._trees):
            directory.mkdir(parents=True, exist_ok=True)
        self._owner = StateLock.take(root / "lock")
        self._changed = threading.Condition()
        self._claimed: set[str] = set()
        """Blobs that somebody fetches right now."""
        self._needed: Counter[str] = Counter()
        """Blobs of trees that are being made."""
        self._uses: Counter[str] = Counter()
        """Trees in use."""
        self._whole: set[str] = set()
        """Trees of which this process knows that nothing is missing: only a crash cuts short."""
        self._loose: set[str] = set()
        """Blobs that are in no tree, or of which only the beginning is here: the first to go."""
        self._size: int | None = None
        """Known, as are the loose blobs of an earlier process, once all blobs were looked at."""
        self._evicting = threading.Lock()
        remove_halves(self._trees)

    def close(self) -> None:
        self._owner.release()

    def missing(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """What is not here yet, each object once. A file cut short by a crash counts as that."""
        found: dict[str, Wanted] = {}
        for each in wanted:
            if each.blob not in found and not self._has(each):
                found[each.blob] = each
        return list(found.values())

    def hold(
        self,
        wanted: Sequence[Wanted],
        fetch: Fetch,
        cancelled: Callable[[], bool] = never,
        layers: Iterable[Path] = (),
        on_missing: Callable[[Sequence[Wanted]], None] = ignore_missing,
    ) -> Held:
        """A tree with all that is wanted, fetched where it is missing.

        It also stays as long as one of `layers` is there: containers may outlive this process.
        `on_missing` is told what is not here, once and before anything is fetched. Raises what
        the two raise, OSError, and Cancelled.
        """
        names = [each.blob for each in wanted]
        with self._reserved(names):
            tree = self._tree_of(wanted)
            with self._changed:
                whole = tree.name in self._whole
            missing = [] if whole else self.missing(wanted)
            on_missing(missing)
            self._fetch_missing(missing, fetch, cancelled)
            with self._changed:
                self._uses[tree.name] += 1
            held = Held(tree, lambda: self._let_go(tree))
            try:
                if not tree.is_dir():
                    files = ((self._blob(each.blob), each.path) for each in wanted)
                    build(tree, files, cancelled)
                with self._changed:
                    note_use(tree, layers)
                    self._whole.add(tree.name)
                    self._loose.difference_update(names)
            except BaseException:
                held.release()
                raise
        self.shrink()
        return held

    def shrink(self, room: int = 0) -> None:
        """Remove what was not used for longest until `room` more bytes fit.

        What is in use stays, even when the limit is exceeded.
        """
        if not self._too_large(room):
            return
        # One at a time: a second one would remove more than is needed.
        with self._evicting:
            victims = self._victims()
            while self._too_large(room) and (names := next(victims, None)) is not None:
                self._remove_blobs(names)

    @property
    def size(self) -> int:
        """Bytes of all objects here."""
        with self._changed:
            return self._known_size()

    def _fetch_missing(
        self, missing: Sequence[Wanted], fetch: Fetch, cancelled: Callable[[], bool]
    ) -> None:
        while missing:
            if cancelled():
                raise Cancelled("waiting for input data that another job downloads")
            with self._claim(missing) as mine:
                if mine:
                    self.shrink(sum(each.info.size for each in mine))
                    self._fetch(mine, fetch)
            missing = self.missing(missing)

    def _fetch(self, mine: Sequence[Wanted], fetch: Fetch) -> None:
        blobs = {each: self._blob(each.blob) for each in mine}
        cut_short = {
            each: blob.with_name(f"{blob.name}.again")
            for each, blob in blobs.items()
            if blob.exists()
        }
        if cut_short:
            # After a power failure: trees must not show what they still link to.
            for tree in self._idle_trees():
                names = self._remove(tree)
                with self._changed:
                    self._loose.update(names)
        for directory in {blob.parent for blob in blobs.values()}:
            directory.mkdir(exist_ok=True)
        try:
            fetch([*{**blobs, **cut_short}.items()])
            for each, whole in cut_short.items():
                # In its place: the trees that are in use have other links to the same file.
                shutil.copyfile(whole, blobs[each])
                whole.unlink()
        finally:
            with self._changed:
                self._loose.update(each.blob for each in mine)
                self._size = self._known_size() + sum(
                    each.info.size for each in mine if self._has(each)
                )

    @contextmanager
    def _claim(self, missing: Sequence[Wanted]) -> Iterator[list[Wanted]]:
        """Those that nobody else fetches; if there are none, a short wait for the others."""
        with self._changed:
            self._known_size()
            mine = [each for each in missing if each.blob not in self._claimed]
            if not mine:
                self._changed.wait(_LOOK)
            self._claimed.update(each.blob for each in mine)
        try:
            yield [each for each in mine if not self._has(each)]
        finally:
            with self._changed:
                self._claimed.difference_update(each.blob for each in mine)
                self._changed.notify_all()

    @contextmanager
    def _reserved(self, names: Sequence[str]) -> Iterator[None]:
        with self._changed:
            self._needed.update(names)
        try:
            yield
        finally:
            with self._changed:
                self._needed.subtract(names)
                for name in names:
                    if self._needed.get(name, 1) <= 0:
                        del self._needed[name]

    def _let_go(self, tree: Path) -> None:
        with self._changed:
            self._uses[tree.name] -= 1
            self._uses = +self._uses

    def _tree_of(self, wanted: Sequence[Wanted]) -> Path:
        lines = "".join(f"{each.path}\0{each.blob}\n" for each in wanted)
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape"))
        return self._trees / digest.hexdigest()

    def _blob(self, name: str) -> Path:
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._blobs}/{name[:2]}/{name}"

    def _has(self, wanted: Wanted) -> bool:
        # Asked for every object of every job: a Path would take longer than the system call.
        try:
            return os.stat(self._place(wanted.blob)).st_size == wanted.info.size  # noqa: PTH116
        except FileNotFoundError:
            return False

    def _known_size(self) -> int:
        if self._size is None:
            self._size = 0
            for entry in self._all_blobs():
                name, rest, _ = entry.name.partition(".")
                status = entry.stat()
                self._size += 0 if rest else status.st_size
                if rest or status.st_nlink == 1:
                    self._loose.add(name)
        return self._size

    def _all_blobs(self) -> Iterator[os.DirEntry[str]]:
        for folder in self._blobs.iterdir():
            with os.scandir(folder) as entries:
                yield from entries

    def _too_large(self, room: int) -> bool:
        free = shutil.disk_usage(self._blobs).free
        return self.size + room > self._limit or room > free

    def _victims(self) -> Iterator[Iterable[str]]:
        """Blobs that may go, a tree's at a time: what is in no tree, then the trees by age."""
        with self._changed:
            loose, self._loose = self._loose, set()
        yield loose
        for tree in self._idle_trees():
            log.info("cache: %s makes room", tree.name)
            yield self._remove(tree)

    def _idle_trees(self) -> list[Path]:
        """Those that nobody uses, the one that was used longest ago first."""
        trees = [tree for tree in self._trees.iterdir() if len(tree.name) == _DIGEST]
        with self._changed:
            unused = [tree for tree in trees if not self._uses[tree.name]]
        idle = [tree for tree in unused if not layers_above(tree)]
        return sorted(idle, key=last_use)

    def _remove(self, tree: Path) -> Iterable[str]:
        """Remove a tree unless somebody has taken it meanwhile; its blobs, of which some may go."""
        with self._changed:
            if self._uses[tree.name] or not tree.is_dir():
                return ()
            self._whole.discard(tree.name)
            gone, names = detach(tree)
        discard(gone)
        return self._blobs_in_no_tree() if names is None else names

    def _blobs_in_no_tree(self) -> list[str]:
        """Looks at all blobs: only for trees of versions that did not write down theirs."""
        return [entry.name.partition(".")[0] for entry in self._all_blobs()]

    def _remove_blobs(self, names: Iterable[str]) -> None:
        """Those that are in no other tree, with what broken downloads have left of them."""
        left = iter(names)
        while some := list(islice(left, _AT_ONCE)):
            with self._changed:
                for name in some:
                    self._remove_blob(name)

    def _remove_blob(self, name: str) -> None:
        if name in self._claimed or self._needed.get(name):
            self._loose.add(name)  # its tree is being made; until then it may go
            return
        place = self._place(name)
        # As for `_has`: a Path would take longer than the system calls.
        with suppress(FileNotFoundError):
            status = os.stat(place)  # noqa: PTH116
            if status.st_nlink > 1:
                return
            self._size = self._known_size() - status.st_size
            os.unlink(place)  # noqa: PTH108
        for ending in _LEFT_OVER:
            with suppress(FileNotFoundError):
                os.unlink(f"{place}{ending}")  # noqa: PTH108


def _nothing() -> None:
    return
