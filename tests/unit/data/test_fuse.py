"""Where nothing can be mounted, people are told what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.data.cache.objects import Wanted
from emulator.data.inputs import fuse
from emulator.data.inputs.fastfile import refuse_partial_prefix
from emulator.data.inputs.fuse import check_fuse, remove_mount, sweep_mounts
from emulator.data.inputs.naming import entries
from emulator.data.objectstore.objects import ObjectInfo
from emulator.model.errors import ClientError, SetupError
from emulator.model.workload import S3Uri


def objects(prefix: str, *keys: str) -> list[Wanted]:
    made = entries(S3Uri("b", prefix), [ObjectInfo(key, 1, "") for key in keys])
    return [Wanted("b", entry.info, entry.path) for entry in made]


def test_a_machine_without_fuse(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no .*none\. Load the kernel's module.*--device"):
        check_fuse(others=False, device=tmp_path / "none")


def test_a_device_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SetupError, match=r"may not be opened\. Allow it \(`chmod a\+rw"):
        check_fuse(others=False, device=tmp_path / "fuse", root=False)


def test_an_ordinary_user_needs_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"fusermount3 is missing.*apt install fuse3"):
        check_fuse(others=False, device=tmp_path / "fuse", root=False)
    check_fuse(others=True, device=tmp_path / "fuse", root=True)


def test_containers_need_a_line_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fuse, "_others_allowed", lambda: False)
    check_fuse(others=False, device=tmp_path / "fuse", root=False)
    with pytest.raises(SetupError, match="user_allow_other"):
        check_fuse(others=True, device=tmp_path / "fuse", root=False)


def test_what_an_earlier_emulator_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "m1" / "data").mkdir(parents=True)
    (tmp_path / "scratch" / "m1" / "files.txt").touch()
    sweep_mounts(tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    remove_mount(tmp_path / "scratch" / "never")


@pytest.mark.parametrize("prefix", ["a/train", "a/train/", "", "a/train/x.csv"])
def test_whole_prefixes(prefix: str) -> None:
    refuse_partial_prefix(S3Uri("b", prefix), objects(prefix, "a/train/x.csv"))


def test_a_prefix_that_also_begins_another_name() -> None:
    found = objects("a/train", "a/train/x.csv", "a/train-baseline/x.csv")
    with pytest.raises(ClientError) as caught:
        refuse_partial_prefix(S3Uri("b", "a/train"), found)
    assert str(caught.value).endswith(
        "Current S3 prefix: [a/train], found S3 object: [a/train-baseline/x.csv]."
    )
