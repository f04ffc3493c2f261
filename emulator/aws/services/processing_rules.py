"""What CreateProcessingJob refuses although every single member is well formed.

The API reference and the developer guide have the rules; the words are this emulator's, since the
service's own are not known (for several inputs at one LocalPath it says nothing at all:
sagemaker-python-sdk #4939).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from emulator.model.errors import NotBuilt, ValidationError
from emulator.resources.processing import paths


def check(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for members that do not go together."""
    _check_cluster(request["ProcessingResources"]["ClusterConfig"])
    inputs = request.get("ProcessingInputs", ())
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", ())
    _check_unique("InputName", (each["InputName"] for each in inputs))
    _check_unique("OutputName", (each["OutputName"] for each in outputs))
    for each in inputs:
        _check_input(each)
    for each in outputs:
        _check_output(each)
    _check_places(request)


def _check_cluster(cluster: Mapping[str, Any]) -> None:
    for name in ("SelectedInstanceType", "SelectedInstanceCount"):
        if name in cluster:
            raise ValidationError(f"{name} is read-only and cannot be part of the request.")
    if "InstancePreferences" in cluster:
        raise _not_built("InstancePreferences")
    if "InstanceType" not in cluster:
        raise ValidationError(
            "1 validation error detected: Value null at "
            "'processingResources.clusterConfig.instanceType' failed to satisfy constraint: "
            "Member must not be null"
        )


def _check_input(asked: Mapping[str, Any]) -> None:
    name = f"input {asked['InputName']}"
    if "DatasetDefinition" in asked:
        raise _not_built(f"DatasetDefinition ({name})")
    if asked.get("AppManaged"):
        return
    if "S3Input" not in asked:
        raise ValidationError(f"The processing {name} has no S3Input.")
    source = asked["S3Input"]
    _check_path(name, source.get("LocalPath"))
    if source.get("S3CompressionType") == "Gzip" and source.get("S3InputMode") != "Pipe":
        raise ValidationError(
            f"S3CompressionType Gzip can only be used when Pipe is the S3InputMode ({name})."
        )


def _check_output(asked: Mapping[str, Any]) -> None:
    name = f"output {asked['OutputName']}"
    if "FeatureStoreOutput" in asked:
        raise _not_built(f"FeatureStoreOutput ({name})")
    if asked.get("AppManaged"):
        return
    if "S3Output" not in asked:
        raise ValidationError(f"The processing {name} has no S3Output.")
    _check_path(name, asked["S3Output"].get("LocalPath"))


def _check_path(name: str, path: str | None) -> None:
    if path is None:
        raise ValidationError(f"LocalPath is required when AppManaged is False ({name}).")
    if "\0" in path or not paths.lies_below(paths.plain(path), paths.ROOT):
        raise ValidationError(f"LocalPath {path} must begin with {paths.ROOT}/ ({name}).")


def _check_places(request: Mapping[str, Any]) -> None:
    """No two inputs at one path, no output where an input is, no pipe below an input."""
    modes = [
        (paths.plain(each["S3Input"]["LocalPath"]), each["S3Input"].get("S3InputMode"))
        for each in paths.inputs(request)
    ]
    places = [path for path, _ in modes]
    _check_unique("LocalPath", places)
    for each in paths.outputs(request):
        if (path := paths.plain(each["S3Output"]["LocalPath"])) in places:
            raise ValidationError(f"LocalPath {path} is that of an input and of an output.")
    for path, mode in modes:
        above = [place for place in places if paths.lies_below(path, place)]
        if mode == "Pipe" and above:
            raise ValidationError(
                f"LocalPath {path}: the named pipes of an input cannot lie in another input's "
                f"directory ({above[0]})."
            )


def _check_unique(kind: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValidationError(f"The {kind} {twice[0]} is used more than once.")


def _not_built(what: str) -> NotBuilt:
    return NotBuilt(f"CreateProcessingJob with {what} is not built into sagemaker-emulator yet.")
