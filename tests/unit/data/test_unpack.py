"""Archives of jobs are unpacked with and without the filters of newer Pythons."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.data.outputs.unpack import unpack


@pytest.fixture(params=["with filters", "without filters"], autouse=True)
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without filters":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filters")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    found.mode = 0o755
    found.size = 1 if kind == tarfile.REGTYPE else 0
    return found


@contextmanager
def archive(*members: tarfile.TarInfo) -> Iterator[tarfile.TarFile]:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as made:
        for each in members:
            made.addfile(each, io.BytesIO(b"1"))
    body.seek(0)
    with tarfile.open(fileobj=body) as opened:
        yield opened


def test_directories_files_and_links_inside(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with archive(
        member("weights", tarfile.DIRTYPE),
        member("weights/one.pt"),
        member("latest", tarfile.SYMTYPE, "weights/one.pt"),
        member("copy.pt", tarfile.LNKTYPE, "weights/one.pt"),
    ) as opened:
        unpack(opened, target)
    assert (target / "weights" / "one.pt").read_text() == "1"
    assert (target / "latest").read_text() == (target / "copy.pt").read_text() == "1"


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("here", tarfile.SYMTYPE, "../.."), member("here/outside")],
        [member("here", tarfile.SYMTYPE, "/etc")],
        [member("here", tarfile.LNKTYPE, "../other")],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
    ids=["name", "name behind a link", "symbolic link", "hard link", "pipe"],
)
def test_what_leads_outside_is_an_error(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "other").write_text("not the job's")
    with archive(*members) as opened, pytest.raises(tarfile.TarError):
        unpack(opened, tmp_path / "deep" / "model")
    assert not list(tmp_path.rglob("outside"))
