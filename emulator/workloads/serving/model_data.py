"""Brings the data of models to the instances that serve them."""

from __future__ import annotations

import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from emulator.data.cache.objects import Held, Wanted
from emulator.data.cache.overlay import can_hold_layers
from emulator.data.cache.reflink import clone
from emulator.data.inputs import Sources
from emulator.data.objectstore.objects import Cancelled, StoreError
from emulator.data.objectstore.transfer import in_parallel
from emulator.model.errors import InternalServerError, disk_full
from emulator.model.hosting import ContainerSpec, ModelData
from emulator.model.plan import Mount, RuntimeTraits
from emulator.model.workload import S3Uri
from emulator.workloads.serving.failures import no_model_data
from emulator.workloads.serving.instance_plan import MODEL, ContainerDirs

_ARCHIVE = "model.tar.gz"
"""What an archive is called in the cache."""


class BadModelData(Exception):
    """The data is not what a model may be made of."""


@dataclass
class Staged:
    """The data of one container."""

    mounts: tuple[Mount, ...] = ()
    """In the place of directories."""
    held: list[Held] = field(default_factory=list)

    def release(self) -> None:
        """Let the cache have it; no container sees it any more."""
        for each in self.held:
            each.release()


@dataclass(frozen=True)
class ModelStore:
    """The models in S3, through the cache that jobs use."""

    sources: Sources

    def stage(
        self,
        container: ContainerSpec,
        dirs: ContainerDirs,
        traits: RuntimeTraits,
        cancelled: Callable[[], bool],
    ) -> Staged:
        """Put all data of a container where it will see it.

        Archives are unpacked; large files of prefixes are shown from the cache where the runtime
        has overlays, else copied. Raises EndpointFailure, InternalServerError and Cancelled.
        """
        staged = Staged()
        overlays = traits.overlays and (not traits.engine or can_hold_layers(dirs.root))
        try:
            for number, data in enumerate(container.data):
                layer = dirs.layers / str(number) if overlays else None
                self._stage_one(container, data, self._place(data, dirs), layer, staged, cancelled)
        except BaseException:
            staged.release()
            raise
        return staged

    def unpack(self, container: ContainerSpec, name: str, directory: Path) -> None:
        """The archive that TargetModel names, for a multi-model container.

        It appears as a whole. Raises EndpointFailure and InternalServerError.
        """
        uri = (container.models or S3Uri("", "")).join(name)
        partial_ = directory.with_name(f"{directory.name}.part")
        with _told(container, str(uri)):
            shutil.rmtree(partial_, ignore_errors=True)
            partial_.mkdir(parents=True)
            try:
                self._unpack(uri, partial_, lambda: False)
                partial_.rename(directory)
            except BaseException:
                shutil.rmtree(partial_, ignore_errors=True)
                raise

    def _stage_one(
        self,
        container: ContainerSpec,
        data: ModelData,
        directory: Path,
        layer: Path | None,
        staged: Staged,
        cancelled: Callable[[], bool],
    ) -> None:
        with _told(container, str(data.uri)):
            directory.mkdir(parents=True, exist_ok=True)
            if data.form == "archive":
                self._unpack(data.uri, directory, cancelled)
                if data.path != MODEL:
                    staged.mounts += (Mount(directory, data.path),)
                return
            wanted = self._objects(data)
            held = self._hold(wanted, directory, cancelled, () if layer is None else (layer,))
            staged.held.append(held)
            if layer is not None:
                mount = Mount(held.path, data.path, layer=layer)
                for part in filter(None, (mount.upper, mount.work)):
                    part.mkdir(parents=True)
                staged.mounts += (mount,)
                return
            for folder in {posixpath.dirname(each.path) for each in wanted}:
                (directory / folder).mkdir(parents=True, exist_ok=True)
            copy = partial(_copy, held.path, directory)
            in_parallel(copy, [each.path for each in wanted], cancelled, threads=4)
            if data.path != MODEL:
                staged.mounts += (Mount(directory, data.path),)

    def _place(self, data: ModelData, dirs: ContainerDirs) -> Path:
        if data.path == MODEL:
            return dirs.model
        return dirs.root / "additional" / PurePosixPath(data.path).name

    def _objects(self, data: ModelData) -> list[Wanted]:
        bucket, key = data.uri.bucket, data.uri.key
        store = self.sources.store
        if data.form == "object":
            return [Wanted(bucket, store.stat(bucket, key), posixpath.basename(key))]
        found = [
            Wanted(bucket, info, info.key.removeprefix(key).strip("/"))
            for info in store.list(bucket, key)
            if not info.key.endswith("/")
        ]
        if not found:
            raise BadModelData(f"No object has the prefix {key}")
        return found

    def _unpack(self, uri: S3Uri, directory: Path, cancelled: Callable[[], bool]) -> None:
        info = self.sources.store.stat(uri.bucket, uri.key)
        held = self._hold([Wanted(uri.bucket, info, _ARCHIVE)], directory, cancelled)
        try:
            unpack(held.path / _ARCHIVE, directory, cancelled)
        finally:
            held.release()

    def _hold(
        self,
        wanted: Sequence[Wanted],
        place: Path,
        cancelled: Callable[[], bool],
        layers: Sequence[Path] = (),
    ) -> Held:
        """In the cache, fetched where it is missing."""
        sources = self.sources

        def begin(missing: Sequence[Wanted]) -> None:
            needed, free = sources.make_room(missing, place)
            if needed > free:
                raise BadModelData(
                    f"Insufficient disk space: {needed} bytes are needed, {free} are free: {place}"
                )

        return sources.cache.hold(wanted, sources.fetch(cancelled), cancelled, layers, begin)


@contextmanager
def _told(container: ContainerSpec, uri: str) -> Iterator[None]:
    """Turn errors of the store, the disk and the data into the words of an endpoint's failure."""
    try:
        yield
    except BadModelData as error:
        raise no_model_data(container.hostname, uri, str(error)) from error
    except StoreError as error:
        if error.transient:
            raise InternalServerError(f"The model cannot be downloaded: {error}") from error
        raise no_model_data(container.hostname, uri, str(error)) from error
    except OSError as error:
        told = disk_full(error, uri) or str(error)
        raise InternalServerError(f"The model cannot be written: {told}") from error


def _copy(source: Path, target: Path, name: str, stopping: Callable[[], bool]) -> None:
    clone(source / name, target / name, stopping)


def unpack(archive: Path, directory: Path, cancelled: Callable[[], bool]) -> None:
    """Unpack a tar.gz of a model below an empty directory.

    The first member of what SDKs pack has an empty name. Links are refused, as are names that
    lead out of the directory (developer guide: no symlinks). Raises BadModelData, OSError and
    Cancelled.
    """
    try:
        with tarfile.open(archive, "r:*") as file:
            for member in file:
                if cancelled():
                    raise Cancelled("unpacking the model")
                _unpack_member(file, member, directory)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadModelData(f"The object is no tar.gz archive: {error}") from error
    except OSError as error:
        if error.errno is None:  # gzip's own: it is no gzip file, or its checksum is wrong
            raise BadModelData(f"The object is no tar.gz archive: {error}") from error
        raise


def _unpack_member(file: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not parts:
        return
    if ".." in parts or "\0" in member.name:
        raise BadModelData(f"The archive has a member that leads out of it: {member.name}")
    if not (member.isfile() or member.isdir()):
        raise BadModelData(f"The archive has a link or a special file: {member.name}")
    target = directory.joinpath(*parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = file.extractfile(member)
    if content is None:
        raise BadModelData(f"The archive has no content for {member.name}")
    with content, target.open("wb") as written:
        shutil.copyfileobj(content, written, 1 << 20)
    target.chmod(0o755 if member.mode & 0o111 else 0o644)
