"""The serving container of the tests: as a program for sandboxes, as an image for an engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAM = Path(__file__).with_name("serving") / "serve.py"
"""Run by any Python without packages; its own text says what it can be told."""
IMAGE = "sagemaker-emulator/own-serving:test"


def build_image() -> str:
    """Have the engine make the image, which takes a second; gives its name."""
    done = subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, str(PROGRAM.parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return IMAGE
