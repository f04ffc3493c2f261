"""images: the project's own images, and how a machine comes by them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from emulator.cli.messages import ExitCode, fail, out
from emulator.drivers.docker.engine import connect
from emulator.drivers.images.builds import (
    BuildInputs,
    BuiltImage,
    ImageFolder,
    build,
    image_folder,
    image_folders,
    images_root,
    list_images,
)
from emulator.model.errors import SetupError

app = typer.Typer(
    help="Build and list the images of this project.", no_args_is_help=True, add_completion=False
)


@app.command("list")
def show() -> None:
    """What there is, and what the Docker engine has of it."""
    try:
        with closing(connect()) as client:
            found = list_images(client, image_folders(images_root()))
    except SetupError as error:
        fail(error.problem, error.remedy)
    table = Table(box=None, pad_edge=False)
    for title in ("IMAGE", "VARIANT", "TAG", "SIZE", "CREATED"):
        table.add_column(title)
    for image in found:
        table.add_row(image.name, image.variant, image.tag, *_state(image))
    out.print(table)


@app.command("build")
def make(
    name: Annotated[str, typer.Argument(help="Its folder in images/.")] = "pytorch-training",
    variant: Annotated[
        str | None, typer.Option("--variant", help="cpu, gpu …; the image's first without it.")
    ] = None,
    build_arg: Annotated[
        list[str] | None,
        typer.Option("--build-arg", help="NAME=VALUE, e.g. BASE_IMAGE=…; as often as needed."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", help="ID=FILE: pip, apt or ca; never part of the image."),
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="Wheels to take before those of an index.")
    ] = None,
) -> None:
    """Build an image with the docker command, which shows how far it is."""
    secrets = {key: Path(value) for key, value in _pairs(secret, "--secret").items()}
    inputs = BuildInputs(_pairs(build_arg, "--build-arg"), secrets, wheels)
    try:
        folder = image_folder(images_root(), name)
        tag = build(folder, variant or _first(folder), inputs)
    except SetupError as error:
        fail(error.problem, error.remedy)
    out.print(f"built {tag}", markup=False)


def _first(folder: ImageFolder) -> str:
    return next(iter(folder.variants))


def _state(image: BuiltImage) -> tuple[str, str]:
    if image.size_bytes is None:
        command = f"sagemaker-emulator images build {image.name} --variant {image.variant}"
        return "-", f"not built: {command}"
    return f"{image.size_bytes / 1e6:.0f} MB", (image.created or "")[:19]


def _pairs(given: list[str] | None, flag: str) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in given or ()]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        fail(f"{flag} {wrong[0]} has no value.", f"Write {flag} NAME=VALUE.", ExitCode.USAGE)
    return {name: value for name, _, value in pairs}
