"""images: its flags, and that an installed package can build what a checkout can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.cli import app
from emulator.drivers.images.builds import images_root

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("image", ["pytorch-training", "pytorch-inference"])
def test_a_package_ships_every_file_of_an_image(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    listing = subprocess.run(
        ["git", "ls-files", f"images/{image}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert listing
    for name in listing:
        (source,) = [s for s in included if name == s or name.startswith(f"{s}/")]
        assert included[source] == f"emulator/{source}"


def test_a_checkout_has_its_own_images() -> None:
    assert images_root() == ROOT / "images"


def test_an_unknown_image_is_told_with_those_there_are() -> None:
    done = CliRunner().invoke(app, ["images", "build", "no-such"])
    assert done.exit_code == 1
    assert "There is no image no-such" in done.output
    assert "pytorch-inference, pytorch-training, server" in done.output


def test_an_unknown_variant_is_told_with_those_there_are() -> None:
    done = CliRunner().invoke(app, ["images", "build", "--variant", "tpu"])
    assert done.exit_code == 1
    assert "It has: cpu, gpu" in done.output


def test_a_flag_without_its_value_is_a_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["images", "build", "--build-arg", "BASE_IMAGE"])
    assert done.exit_code == 2
    assert "--build-arg NAME=VALUE" in done.output
