"""AugmentedManifestFile: objects and what is known about them, a JSON object a line."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from threading import Lock
from typing import IO

from emulator.data.inputs.base import DataDownloadFailed, Staging
from emulator.data.inputs.manifests import Attribute, parse_line
from emulator.model.workload import S3Uri


class AugmentedManifest:
    """The lines of a manifest, on disk; only where each one begins is kept in memory."""

    def __init__(self, uri: S3Uri, names: Sequence[str], file: IO[bytes]):
        """`file` holds the manifest and belongs to this object. Raises ClientError."""
        self._uri = uri
        self._names = names
        self._file = file
        self._lock = Lock()
        self._starts = array("Q")
        self._numbers = array("Q")
        self.size = 0
        """Bytes of the manifest."""
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if line.strip():
                self._starts.append(self.size)
                self._numbers.append(number)
            self.size += len(line)
        if not self._starts:
            raise DataDownloadFailed(f"Failed to download data. Manifest {uri} has no lines")
        # What is wrong with every line is better said before the training starts.
        self.attributes(0)

    @classmethod
    def fetch(cls, staging: Staging, uri: S3Uri) -> AugmentedManifest:
        """Bring it here. Raises ClientError, StoreError, OSError, Cancelled."""
        downloader, source = staging.sources.downloader, staging.channel.s3 or {}
        patience = downloader.patience(staging.cancelled)
        info = patience.call(lambda: downloader.reader.head(uri.bucket, uri.key))
        file = tempfile.TemporaryFile(dir=staging.sources.scratch)  # noqa: SIM115 - kept open
        try:
            for piece in downloader.stream(uri.bucket, info, staging.cancelled):
                file.write(piece)
            return cls(uri, source.get("AttributeNames", ()), file)
        except BaseException:
            file.close()
            raise

    def __len__(self) -> int:
        return len(self._starts)

    def attributes(self, index: int) -> tuple[Attribute, ...]:
        """What line `index` (from 0, empty ones left out) says. Raises ClientError."""
        with self._lock:
            self._file.seek(self._starts[index])
            line = self._file.readline()
        return parse_line(
            self._uri, self._numbers[index], line.decode("utf-8-sig", "replace"), self._names
        )

    def close(self) -> None:
        self._file.close()
