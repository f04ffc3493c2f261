"""Archives are the same bytes on every machine, and any gzip reads them."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.data.objectstore.objects import ignore_bytes
from emulator.data.outputs import archive
from emulator.data.outputs.archive import BLOCK, TarGz
from emulator.data.outputs.tree import merge, scan


def packed(root: Path, step: int = 100_000) -> bytes:
    with TarGz(merge([scan(root, [].append)]), [].append, ignore_bytes) as stream:
        return b"".join(iter(lambda: stream.read(step), b""))


@given(st.lists(st.integers(0, 3 * BLOCK // 2), max_size=6))
def test_blocks_hold_the_same_bytes_and_are_long_enough(sizes: Sequence[int]) -> None:
    pieces = [bytes([index]) * size for index, size in enumerate(sizes)]
    blocks = list(archive._blocks(iter(pieces)))
    assert b"".join(blocks) == b"".join(pieces)
    assert all(len(block) >= BLOCK for block in blocks[:-1])


def test_the_number_of_cores_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / str(number)).write_bytes(os.urandom(BLOCK) + bytes(BLOCK + 7))
    made = set()
    for most in (1, 3):
        monkeypatch.setattr(archive, "_MOST_THREADS", most)
        made |= {packed(tmp_path, 1000), packed(tmp_path, 5 << 20)}
    assert len(made) == 1
    data = gzip.decompress(made.pop())
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        assert [(member.name, member.size) for member in tar] == [
            (str(number), 2 * BLOCK + 7) for number in range(4)
        ]


def test_an_archive_of_nothing_is_whole(tmp_path: Path) -> None:
    with tarfile.open(fileobj=BytesIO(packed(tmp_path)), mode="r:gz") as tar:
        assert tar.getnames() == []


def test_a_sparse_file_is_read_as_the_zeros_it_is_and_takes_little(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 << 20)
        file.write(b"start")
    data = packed(tmp_path, 16 << 20)
    assert len(data) < 2 << 20
    with tarfile.open(fileobj=BytesIO(data), mode="r:gz") as tar:
        content = tar.extractfile("sparse")
        assert content
        assert content.read(6) == b"start\0"


def test_sizes_that_need_an_extended_header(tmp_path: Path) -> None:
    """Beyond 8 GiB a size does not fit the old header; only the header is looked at."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(9 << 30)
    with TarGz(merge([scan(tmp_path, [].append)]), [].append, ignore_bytes) as stream:
        head = gzip.GzipFile(fileobj=BytesIO(stream.read(1 << 16))).read(4096)
    with tarfile.open(fileobj=BytesIO(head), mode="r|") as tar:
        member = tar.next()
    assert member
    assert member.size == 9 << 30
