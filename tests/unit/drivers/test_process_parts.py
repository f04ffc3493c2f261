"""Small parts of the process runtime."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_sandbox import PLAN, PYTHON

from emulator.drivers.nvidia_devices import nvidia_devices
from emulator.drivers.process import records as process_records
from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.instances import bare
from emulator.drivers.process.interpreter import Interpreter, inspect_interpreter
from emulator.drivers.process.records import Record, Records
from emulator.drivers.process.sandbox import Scratch
from emulator.drivers.process.sandbox_probe import Verdict, remedy
from emulator.drivers.scratch_files import remove_tree
from emulator.model.errors import ClientError, InternalServerError, SetupError
from emulator.model.plan import JobPlan

FORBIDDEN = Verdict(None, "user namespaces are off", "Switch them on.")


def runtime(directory: Path) -> ProcessRuntime:
    return ProcessRuntime(Path(sys.executable), "http://127.0.0.1:1", directory, {}, FORBIDDEN)


def test_this_interpreter_knows_itself() -> None:
    found = inspect_interpreter(Path(sys.executable))
    assert found.prefix == sys.prefix
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert "python" not in found.missing_commands() or not Path(found.scripts, "python").exists()


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/true"])
def test_what_is_no_interpreter_is_said_to_be_none(python: str) -> None:
    with pytest.raises(SetupError, match="EMULATOR_PYTHON"):
        inspect_interpreter(Path(python))


def test_commands_are_made_for_the_modules_that_are_there() -> None:
    commands = PYTHON.missing_commands()
    assert sorted(commands) == ["pip", "pip3", "python", "python3"]
    assert commands["pip"] == '#!/bin/sh\nexec /home/u/env/bin/python -m pip "$@"\n'


def test_a_layer_sees_the_packages_below_it_and_keeps_its_own(tmp_path: Path) -> None:
    below = inspect_interpreter(Path(sys.executable))
    layer = tmp_path / "layer"
    below.make_layer(layer, str(layer))
    question = "import sys, pytest, emulator; print(sys.prefix, pytest.__file__)"
    answer = subprocess.run(
        [layer / "bin" / "python", "-c", question], capture_output=True, text=True, check=True
    )
    prefix, found = answer.stdout.split()
    assert prefix == str(layer)
    assert found == pytest.__file__
    assert inspect_interpreter(layer / "bin" / "python").writable


def test_only_the_leased_gpus_devices(tmp_path: Path) -> None:
    driver, dev = tmp_path / "driver", tmp_path / "dev"
    dev.mkdir()
    for number, uuid in enumerate(("GPU-a", "GPU-b")):
        (dev / f"nvidia{number}").touch()
        (driver / "gpus" / str(number)).mkdir(parents=True)
        (driver / "gpus" / str(number) / "information").write_text(
            f"Model: \t\t X: Y\nGPU UUID:   \t {uuid}\nDevice Minor: \t {number}\n"
        )
    own = [Path(path).name for path in nvidia_devices(["GPU-b"], driver, dev)]
    assert "nvidia1" in own
    assert "nvidiactl" in own
    assert "nvidia0" not in own
    unknown = [Path(path).name for path in nvidia_devices(["MIG-c"], driver, dev)]
    assert {"nvidia0", "nvidia1"} <= set(unknown)
    assert nvidia_devices([], driver, dev) == ()


def test_directories_without_permission_are_removed_and_links_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "t" / "work" / "work").mkdir(parents=True)
    (tmp_path / "t" / "link").symlink_to(kept)
    for locked in ("t/work/work", "t/work"):
        (tmp_path / locked).chmod(0)
    remove_tree(tmp_path / "t")
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.stat().st_mode & 0o777 != 0


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "restrict_unprivileged_userns=0"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("user/max_user_namespaces", "9", "seccomp=unconfined"),
    ],
)
def test_the_remedy_names_the_setting(
    tmp_path: Path, setting: str, value: str, advice: str
) -> None:
    path = tmp_path / setting
    path.parent.mkdir()
    path.write_text(f"{value}\n")
    text = remedy(tmp_path)
    assert advice in text
    assert "Docker" in text


def test_without_sandboxes_only_one_plain_instance_can_run(tmp_path: Path) -> None:
    bare = runtime(tmp_path)
    bare.check("image", 1, False)
    with pytest.raises(ClientError, match=r"Several instances.*Switch them on"):
        bare.check("image", 2, False)
    with pytest.raises(ClientError, match="EnableNetworkIsolation"):
        bare.check("image", 1, True)
    plan = JobPlan("j", "arn", (replace(PLAN, entrypoint=("/bin/bash",), scratch=tmp_path),))
    with pytest.raises(ClientError, match="ContainerEntrypoint"):
        bare.launch(plan, print)  # type: ignore[arg-type]


def test_what_cannot_be_removed_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Record("arn:a", (os.getpid(), -1), {}, {"algo-1": str(tmp_path / "scratch")}, (), None)
    Scratch(tmp_path / "scratch").home.mkdir(parents=True)
    place = Records(tmp_path / "supervised").place("arn:a")
    place.write_text(json.dumps(asdict(ended)))
    starts = runtime(tmp_path)

    def busy(_: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(process_records, "remove_tree", busy)
    starts.clean()
    assert place.exists()
    monkeypatch.undo()
    starts.clean()
    assert not place.exists()
    assert not Scratch(tmp_path / "scratch").home.exists()


def test_instances_whose_record_cannot_be_read_do_not_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "pid"
    words = ("-c", f"echo $$ > {told}; exec sleep 600")
    plan = replace(PLAN, scratch=tmp_path / "scratch", entrypoint=None, arguments=words)
    starts = runtime(tmp_path)
    monkeypatch.setattr(Interpreter, "has_toolkit", True)
    monkeypatch.setattr(ProcessRuntime, "_order", lambda *_: bare(("/bin/sh", *words), {}))

    def find(*_: object) -> None:
        while not told.exists() or not told.read_text():
            time.sleep(0.01)

    monkeypatch.setattr(Records, "find", find)
    with pytest.raises(InternalServerError, match="record"):
        starts.launch(JobPlan("j", "arn", (plan,)), lambda *_: None)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{int(told.read_text())}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_prepare_says_what_runs_instead_of_the_image(tmp_path: Path) -> None:
    said: list[str] = []
    runtime(tmp_path).prepare("repo/image:1", said.append, lambda: False)
    assert "asked for is repo/image:1. The process runtime uses none" in said[0]
    assert sys.executable in said[1]
    assert "without a sandbox" in said[2]


def test_a_missing_toolkit_is_a_clear_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", empty], check=True)
    without = ProcessRuntime(empty / "bin" / "python", "http://x", tmp_path, {}, FORBIDDEN)
    assert "pip install sagemaker-training" in caplog.text
    with pytest.raises(ClientError, match="pip install sagemaker-training"):
        without.launch(JobPlan("j", "arn", (replace(PLAN, scratch=tmp_path / "s"),)), print)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()
