"""Channels of three hosts below a directory, from a real object store."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emulator.data.cache.objects import ObjectCache
from emulator.data.inputs import Sources, StagedChannel, Staging, stage
from emulator.data.objectstore.objects import ObjectStore
from emulator.data.objectstore.transfer import Downloader
from emulator.model.workload import ChannelSpec, Host
from emulator.resources.training.job import channel_spec

HOSTS = (
    Host("algo-1", "ml.m5.large", "workers"),
    Host("algo-2", "ml.m5.large", "workers"),
    Host("algo-3", "ml.c5.large", "servers"),
)


def channel(
    uri: str,
    mode: str = "File",
    name: str = "train",
    more: Mapping[str, Any] | None = None,
    **source: Any,
) -> ChannelSpec:
    return channel_spec(
        {
            "ChannelName": name,
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}},
            **(more or {}),
        },
        mode,
    )


class Stager:
    """Stages channels for three hosts below a directory."""

    def __init__(self, root: Path, store: ObjectStore, bucket: str):
        self.directories = {h.name: root / "instances" / h.name / "data" for h in HOSTS}
        for directory in self.directories.values():
            directory.mkdir(parents=True)
        self.root = root / "instances"
        self.store = store
        self.bucket = bucket
        self.seen: list[tuple[int, int]] = []
        self.cache = ObjectCache(root / "cache", 1 << 30)
        self.sources = Sources(Downloader(store, patience=1), self.cache, root / "scratch")
        self.sources.scratch.mkdir()
        self.staged: list[StagedChannel] = []

    def end(self) -> None:
        for staged in self.staged:
            staged.close()
        self.cache.close()

    def put(self, files: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._put, files.items()))

    def _put(self, item: tuple[str, bytes]) -> None:
        key, data = item
        self.store.upload(self.bucket, key, io.BytesIO(data))

    def stage(
        self,
        prefix: str,
        hosts: Sequence[Host] = HOSTS,
        cancelled: Callable[[], bool] = lambda: False,
        mode: str = "File",
        more: Mapping[str, Any] | None = None,
        **source: Any,
    ) -> StagedChannel:
        """`source` are members of the S3DataSource, `more` of the channel."""
        spec = channel(f"s3://{self.bucket}/{prefix}", mode, more=more, **source)
        staging = Staging(
            spec,
            hosts,
            {host: place / spec.name for host, place in self.directories.items()},
            {name: self.root / name / "layers" for name in self.directories},
            self.sources,
            lambda done, total: self.seen.append((done, total)),
            cancelled,
        )
        self.staged.append(stage(staging))
        return self.staged[-1]

    def files(self, host: str) -> dict[str, bytes]:
        root = self.directories[host] / "train"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
