"""What the checks find on real parts of this machine."""

from __future__ import annotations

import socket
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.cli.doctor import (
    CHECKS,
    check_docker,
    check_interpreter,
    check_object_store,
    check_old_files,
    check_port,
    check_sandbox,
    check_serving,
    check_state_dir,
    checks_for,
)
from emulator.drivers.docker.engine import no_engine
from emulator.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "new" / "state", port=0, python=Path(sys.executable))


def test_every_broken_thing_has_a_remedy(settings: Settings) -> None:
    findings = [check(settings) for check in CHECKS]
    assert [finding.name for finding in findings if not finding.ok and not finding.remedy] == []
    names = [finding.name for finding in findings]
    assert sorted(set(names)) == sorted(names)


def test_this_interpreter_works(settings: Settings) -> None:
    finding = check_interpreter(settings)
    assert finding.ok
    assert sys.version.split()[0] in finding.detail


def test_an_interpreter_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    finding = check_interpreter(replace(settings, python=tmp_path / "python"))
    assert not finding.ok
    assert "EMULATOR_PYTHON" in finding.remedy


def test_an_interpreter_that_cannot_serve(settings: Settings, tmp_path: Path) -> None:
    assert check_serving(settings).ok
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    finding = check_serving(replace(settings, python=bare / "bin" / "python"))
    assert not finding.ok
    assert not finding.needed
    assert f"{bare}/bin/python -m pip install sagemaker-inference" in finding.remedy


def test_a_taken_port(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = check_port(replace(settings, port=port))
    assert not finding.ok
    assert str(port) in finding.detail


def test_a_store_that_does_not_answer(settings: Settings) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        finding = check_object_store(replace(settings, s3_endpoint=url))
    assert not finding.ok
    assert url in finding.detail


def test_the_state_directory_need_not_exist_yet(settings: Settings) -> None:
    assert str(settings.state_dir) in check_state_dir(settings).detail
    assert not settings.state_dir.exists()


def test_an_engine_that_this_user_may_not_ask_is_not_started_again() -> None:
    refused = no_engine("('Connection aborted.', PermissionError(13, 'Permission denied'))")
    assert refused.problem == "This user may not use the Docker engine's socket."
    assert "usermod -aG docker" in refused.remedy
    absent = no_engine("('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))")
    assert absent.problem == "No Docker engine answers."
    assert no_engine("bad certificate").problem == "No Docker engine answers: bad certificate."


def test_files_that_ended_jobs_left_are_named_with_their_sizes(settings: Settings) -> None:
    place = settings.state_dir / "kept" / "123456789012" / "us-east-1" / "job.20260101T000000Z"
    place.mkdir(parents=True)
    (place / "weights").write_bytes(b"x" * (3 << 20))
    finding = check_old_files(settings)
    assert not finding.ok
    assert not finding.needed
    assert f"{place} (3.0 MiB)" in finding.remedy


def test_nothing_is_asked_for_where_jobs_left_nothing(settings: Settings) -> None:
    assert check_old_files(settings).ok


def test_a_machine_for_containers_alone_needs_no_sandboxes() -> None:
    wanted = checks_for("docker")
    assert check_docker in wanted
    assert check_sandbox not in wanted
    assert checks_for("auto") == CHECKS
