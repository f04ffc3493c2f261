"""Root runs these tests once more as somebody who has no rights at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITES = (
    HERE.parent / "contract" / "test_runtime.py",
    HERE / "test_process_network.py",
    HERE / "test_process_runtime.py",
)
SOMEBODY = 64_321
"""A number without a name, a home and a group."""
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of that user; pytest's own ones are closed to him."""
    directory = Path(tempfile.mkdtemp(prefix="ordinary-user-"))
    os.chown(directory, SOMEBODY, SOMEBODY)
    yield directory
    shutil.rmtree(directory)


def as_somebody(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program with this interpreter's packages."""
    environment: Mapping[str, str] = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command,
        user=SOMEBODY,
        group=SOMEBODY,
        extra_groups=[],
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=800,
    )


def readable_python(home: Path) -> str:
    """This interpreter, or the system's of the same version; skips where neither can be used."""
    question = "import sys, emulator, pytest; print(*sys.version_info[:2])"
    version = "{} {}".format(*sys.version_info[:2])
    complaints = []
    for python in (sys.executable, SYSTEM_PYTHON):
        try:
            answer = as_somebody(home, python, "-c", question)
        except OSError as error:
            complaints.append(f"{python}: {error.strerror}")
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return python
        complaints.append(f"{python}: {(answer.stdout + answer.stderr).strip()[-200:]}")
    pytest.skip(f"no Python with these packages that everybody may read: {'; '.join(complaints)}")


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="these tests run as an ordinary user anyway")
def test_an_ordinary_user_gets_the_same(home: Path) -> None:
    python = readable_python(home)
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={home / 't'}", "-m", "not docker"]
    # How much a job leaves behind does not depend on the user, and takes longest to find out.
    options += ["-k", "not fifty and not burst"]
    done = as_somebody(home, python, "-m", "pytest", *options, *map(str, SUITES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
