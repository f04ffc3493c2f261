"""The project's own images: what there is in `images/`, and how one is built.

A folder with an image.toml is an image:

    description = "…"
    context = "."                 # the build context, relative to the folder
    package = ["…"]               # directories of this package that are copied into the folder
    [variants.cpu]
    tag = "sagemaker-emulator/…:cpu"
    base = "…"                    # an image of this project that has to be there first
    [variants.cpu.args]           # build arguments
    TORCH_INDEX = "…"
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docker.client import DockerClient
from docker.errors import ImageNotFound
from pydantic import BaseModel, ConfigDict, ValidationError

from emulator.model.errors import SetupError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DESCRIPTION = "image.toml"


class Variant(BaseModel):
    """One way to build an image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: str
    base: str | None = None
    """The image of this project that it is made from; built first where it is missing."""
    args: Mapping[str, str] = {}


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    context: str = "."
    package: tuple[str, ...] = ()
    variants: Mapping[str, Variant]


@dataclass(frozen=True)
class ImageFolder:
    """An image of this project."""

    path: Path
    description: str
    context: Path
    variants: Mapping[str, Variant]
    package: tuple[str, ...] = ()
    """Directories of this package that lie in the folder while it is built."""

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class BuildInputs:
    """What a build may be given beside its folder; none of it ends up in the image."""

    args: Mapping[str, str] = field(default_factory=dict)
    """Over the variant's own build arguments."""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    """`pip` (a pip.conf), `apt` (an apt.conf), `ca` (a bundle of certificates)."""
    wheels: Path | None = None
    """A directory of wheels to take before those of an index."""


def images_root() -> Path:
    """The `images` directory of the checkout that runs, or what an installed package has of it.

    A package has no image whose context is the checkout. Raises SetupError if there is none.
    """
    checkout, package = Path(__file__).parents[3], Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "images").is_dir():
        return checkout / "images"
    if not (package / "images").is_dir():
        raise SetupError("This installation has no images.", "Install the package again.")
    return package / "images"


def image_folders(root: Path) -> list[ImageFolder]:
    """All images below `root`, by name. Raises SetupError for a wrong image.toml."""
    return [_read(path.parent) for path in sorted(root.glob(f"*/{DESCRIPTION}"))]


def image_folder(root: Path, name: str) -> ImageFolder:
    """The image of that name. Raises SetupError if there is none."""
    folders = {folder.name: folder for folder in image_folders(root)}
    if name not in folders:
        raise SetupError(f"There is no image {name}.", f"There are: {', '.join(folders)}.")
    return folders[name]


def _read(path: Path) -> ImageFolder:
    try:
        told = _Description.model_validate(tomllib.loads((path / DESCRIPTION).read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SetupError(f"{path / DESCRIPTION} is wrong: {error}") from error
    return ImageFolder(
        path, told.description, (path / told.context).resolve(), told.variants, told.package
    )


def build_command(folder: ImageFolder, variant: str, inputs: BuildInputs) -> list[str]:
    """The docker command that builds it. Raises SetupError for an unknown variant."""
    if variant not in folder.variants:
        known = ", ".join(folder.variants)
        raise SetupError(f"{folder.name} has no variant {variant}.", f"It has: {known}.")
    chosen = folder.variants[variant]
    args = {**chosen.args, **inputs.args}
    return [
        *("docker", "build", "--tag", chosen.tag, "--file", str(folder.path / "Dockerfile")),
        *(word for name, value in args.items() for word in ("--build-arg", f"{name}={value}")),
        *(
            word
            for name, path in inputs.secrets.items()
            for word in ("--secret", f"id={name},src={path}")
        ),
        str(folder.context),
    ]


def build(folder: ImageFolder, variant: str, inputs: BuildInputs | None = None) -> str:
    """Build it, with the docker command's own progress display; returns its tag.

    The Docker SDK speaks only to the engine's old builder, which knows no secrets. Raises
    SetupError if there is no docker command, or the build fails.
    """
    inputs = inputs or BuildInputs()
    command = build_command(folder, variant, inputs)
    try:
        if base := folder.variants[variant].base:
            _build_missing(folder.path.parent, base, inputs)
        with (
            _wheels_in(folder.path / "wheels", inputs.wheels),
            _package_in(folder.path, folder.package),
        ):
            status = subprocess.run(
                command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False
            ).returncode
    except FileNotFoundError as error:
        raise SetupError("There is no docker command.", "Install Docker's client.") from error
    if status != 0:
        raise SetupError(f"The build of {folder.name} ended with code {status}.")
    return folder.variants[variant].tag


def _build_missing(root: Path, tag: str, inputs: BuildInputs) -> None:
    """Build the image of that tag if the engine does not have it."""
    look = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False)
    if look.returncode == 0:
        return
    for folder in image_folders(root):
        for name, variant in folder.variants.items():
            if variant.tag == tag:
                build(folder, name, inputs)


@contextmanager
def _package_in(folder: Path, directories: Sequence[str]) -> Iterator[None]:
    """Directories of this package lie in the build context while the image is built."""
    places = [folder / directory for directory in directories]
    try:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(
                Path(__file__).parents[2] / place.name,
                place,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        yield
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _wheels_in(directory: Path, wheels: Path | None) -> Iterator[None]:
    """The wheels lie in the build context while it is built, as links where that is possible."""
    put = []
    try:
        for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
            place = directory / wheel.name
            if not place.exists():
                directory.mkdir(exist_ok=True)
                put.append(place)
                _link_or_copy(wheel, place)
        yield
    finally:
        for place in put:
            place.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


@dataclass(frozen=True)
class BuiltImage:
    """One line of `images list`."""

    name: str
    variant: str
    tag: str
    description: str
    size_bytes: int | None
    """None if the engine does not have it."""
    created: str | None = None
    """When, as the engine writes it (RFC 3339)."""


def list_images(client: DockerClient, folders: Sequence[ImageFolder]) -> list[BuiltImage]:
    """Every variant of every image, with what the engine has of it."""
    return [
        _look_up(client, folder, name, variant)
        for folder in folders
        for name, variant in folder.variants.items()
    ]


def _look_up(client: DockerClient, folder: ImageFolder, name: str, variant: Variant) -> BuiltImage:
    try:
        found = client.api.inspect_image(variant.tag)
    except ImageNotFound:
        return BuiltImage(folder.name, name, variant.tag, folder.description, None)
    return BuiltImage(
        folder.name, name, variant.tag, folder.description, found["Size"], found["Created"]
    )
