"""Where a processing job finds its data and leaves its results, and which names they have here."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from emulator.model.workload import Volume

ROOT = "/opt/ml/processing"
"""Paths of inputs and outputs lie below it (developer guide, "Build your own processing
container": they must begin with `/opt/ml/processing/`)."""
CONFIG = "/opt/ml/config"
OUTPUT = "/opt/ml/output"
MESSAGE = f"{OUTPUT}/message"
"""What the container says at its end; ExitMessage has it (developer guide)."""
FAILURE = f"{OUTPUT}/failure"

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


def plain(path: str) -> str:
    """Without `..`, doubled slashes, and a slash at the end."""
    return posixpath.normpath("/" + path.strip("/"))


def lies_below(path: str, parent: str) -> bool:
    """Whether a plain path lies in that directory and is not the directory itself."""
    return path != parent and PurePosixPath(path).is_relative_to(parent)


def file_name(name: str, number: int) -> str:
    """A name for files and log lines: InputName and OutputName may be any text."""
    return name if _PLAIN.fullmatch(name) else f".{number}"


def inputs(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The inputs that SageMaker brings; the application takes care of those that it manages."""
    return [each for each in request.get("ProcessingInputs", ()) if not each.get("AppManaged")]


def outputs(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The outputs that SageMaker takes to S3."""
    config = request.get("ProcessingOutputConfig", {})
    return [each for each in config.get("Outputs", ()) if not each.get("AppManaged")]


def volumes(sources: Iterable[str], results: Iterable[str]) -> tuple[Volume, ...]:
    """The paths of an instance behind which lie directories of its own.

    `/opt/ml` and all below it is SageMaker's, and images have nothing there (developer guide). An
    output inside an input has a volume of its own: the input is shown by a layer above what all
    instances share, and what is written there goes with the instance.
    """
    found = [
        Volume(CONFIG, "ml/config"),
        Volume(OUTPUT, "ml/output"),
        Volume(ROOT, "ml/processing"),
    ]
    sources = tuple(sources)
    inside = {path for path in results if any(lies_below(path, source) for source in sources)}
    found += [
        Volume(path, f"ml/outputs/{number}") for number, path in enumerate(sorted(inside), start=1)
    ]
    return tuple(found)
