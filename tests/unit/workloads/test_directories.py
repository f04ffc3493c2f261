"""A job's files, as its run looks at them and removes them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from job_examples import job

from emulator.model.errors import ClientError
from emulator.workloads.plan.layout import InstanceDirs
from emulator.workloads.run.directories import (
    exit_message,
    failure_text,
    has_files,
    remove_directory,
)


def test_what_a_link_leads_to_is_no_output(tmp_path: Path) -> None:
    dirs = InstanceDirs(tmp_path / "algo-1", job().volumes)
    dirs.at("/opt/ml/output").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "key").touch()
    dirs.at("/opt/ml/output/data").symlink_to(tmp_path / "home")
    assert not has_files(job(), dirs)
    dirs.at("/opt/ml/model").mkdir()
    (dirs.at("/opt/ml/model") / "weights").touch()
    assert has_files(job(), dirs)


def test_what_lies_behind_a_link_on_the_way_is_no_output(tmp_path: Path) -> None:
    spec = job()
    deep = replace(spec, outputs=(replace(spec.outputs[0], path="/opt/ml/model/a/b"),))
    dirs = InstanceDirs(tmp_path / "algo-1", spec.volumes)
    (tmp_path / "home" / "b").mkdir(parents=True)
    (tmp_path / "home" / "b" / "key").touch()
    dirs.at("/opt/ml/model").mkdir(parents=True)
    dirs.at("/opt/ml/model/a").symlink_to(tmp_path / "home")
    assert not has_files(deep, dirs)


def test_a_link_is_no_account_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    (tmp_path / "failure").symlink_to(tmp_path / "key")
    assert failure_text(tmp_path / "failure") == ""


def test_removing_follows_no_link(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    (home / "inner" / "key").touch()
    home.chmod(0o755)
    directory = tmp_path / "job"
    (directory / "model" / "closed").mkdir(parents=True)
    (directory / "model" / "link").symlink_to(home)
    (directory / "model" / "closed" / "link").symlink_to(home / "inner")
    (directory / "model" / "closed").chmod(0o500)
    remove_directory(directory)
    assert not directory.exists()
    assert (home / "inner" / "key").exists()
    assert home.stat().st_mode & 0o777 == 0o755


def test_what_cannot_be_removed_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, who may run this, can remove anything: hence a removal that does nothing."""
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "stays").touch()
    remove_directory(directory)
    assert not directory.exists()
    assert [path.name for path in tmp_path.glob("job~*/*")] == ["stays"]


def test_a_failure_file_of_any_length_tells_its_beginning_and_its_end(tmp_path: Path) -> None:
    failure = tmp_path / "failure"
    for size in (10, 20_000, 10_000_000):
        failure.write_text(f"first {'x' * size} last")
        text = failure_text(failure)
        assert text.startswith("first ")
        assert text.endswith(" last")
        assert len(text) < 50_000
    failure.unlink()
    failure.mkdir()
    assert failure_text(failure) == "", "a directory tells nothing"


WITH_MESSAGE = replace(job(), message_file="/opt/ml/output/message")


def said(directory: Path, *texts: bytes) -> str | None:
    """The exit message of instances that have written these."""
    instances = {}
    for number, text in enumerate(texts, start=1):
        instances[f"algo-{number}"] = dirs = InstanceDirs(
            directory / f"algo-{number}", WITH_MESSAGE.volumes
        )
        dirs.at("/opt/ml/output").mkdir(parents=True)
        if text:
            dirs.at("/opt/ml/output/message").write_bytes(text)
    return exit_message(WITH_MESSAGE, instances)


def test_the_messages_of_all_instances_are_one_kilobyte(tmp_path: Path) -> None:
    assert said(tmp_path / "a", b"one ", b"", b"three") == "one three"
    assert said(tmp_path / "b", b"x" * 1000, b"y" * 1000) == "x" * 1000 + "y" * 24
    # A character of two bytes at the limit is left out, not torn.
    assert said(tmp_path / "c", b"x" + "\u00e4".encode() * 600) == "x" + "\u00e4" * 511
    assert said(tmp_path / "d", b"") is None


def test_a_message_that_is_no_text_is_the_jobs_own_fault(tmp_path: Path) -> None:
    for number, text in enumerate((b"\xff\xfe", "\u00e4".encode()[:1])):
        with pytest.raises(ClientError, match="/opt/ml/output/message is not UTF-8"):
            said(tmp_path / str(number), b"fine", text)


def test_a_link_is_no_message(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    dirs = InstanceDirs(tmp_path / "algo-1", WITH_MESSAGE.volumes)
    dirs.at("/opt/ml/output").mkdir(parents=True)
    dirs.at("/opt/ml/output/message").symlink_to(tmp_path / "key")
    assert exit_message(WITH_MESSAGE, {"algo-1": dirs}) is None
    assert exit_message(job(), {"algo-1": dirs}) is None
