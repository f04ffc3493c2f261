"""docs/coverage.md, written from the code: `python -m emulator.aws.coverage` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

from emulator.aws.built import Hosting, operations_by_service
from emulator.aws.wire.service_models import Shape, operation_model, service_model
from emulator.resources.hosting import support_matrix as hosting
from emulator.resources.processing import support_matrix as processing
from emulator.resources.support_matrix import Member, SupportMatrix, Treatment
from emulator.resources.training import support_matrix as training
from emulator.resources.transform import support_matrix as transform
from emulator.settings import Settings

_NOTES = {
    "sagemaker": {
        "AddTags": "on jobs, models, endpoint configurations, endpoints and components",
        "DeleteTags": "on jobs, models, endpoint configurations, endpoints and components",
        "CreateInferenceComponent": "each copy is an instance of its own",
        "UpdateInferenceComponent": "the number of copies",
        "GetSearchSuggestions": "for training jobs",
        "ListTags": "on jobs, models, endpoint configurations, endpoints and components",
        "Search": "for training jobs; AWS cannot search processing jobs either",
        "UpdateTrainingJob": "warm pools and switches; no profiler runs",
    },
    "cloudwatch": {
        "GetMetricData": "metrics and most of metric math",
    },
    "logs": {
        "FilterLogEvents": "patterns of terms, JSON and fields; no regular expressions",
        "PutRetentionPolicy": "whole streams go, by their last event",
    },
    "iam": {
        "CreateRole": "until the emulator ends",
        "GetRole": "every role exists, unless the setting `roles` names some",
        "ListRoles": "those of the settings and those created",
        "SimulatePrincipalPolicy": "everything is allowed",
    },
    "ecr": {
        "BatchGetImage": "a manifest without layers",
        "DescribeImages": "those that CreateTrainingJob takes exist",
        "DescribeRepositories": "those of images that CreateTrainingJob takes exist",
    },
}

MATRICES = {
    "CreateTrainingJob": training.MATRIX,
    "CreateProcessingJob": processing.MATRIX,
    "CreateModel": hosting.MODEL,
    "CreateEndpointConfig": hosting.CONFIG,
    "CreateEndpoint": hosting.ENDPOINT,
    "CreateTransformJob": transform.MATRIX,
}
"""By operation, what becomes of the members of its request."""
_INTRODUCTION = """\
# What is covered

Made by `make coverage-table` from the code and from botocore's model; a test compares them.
"""


def document() -> str:
    """The whole page."""
    members = [line for name in MATRICES for line in ("", *_members(name))]
    return "\n".join([_INTRODUCTION, *_operations(), *members, ""])


def member_paths(shape: Shape, prefix: str = "", inside: tuple[str, ...] = ()) -> Iterator[str]:
    """Every member of a structure and of what is in it; `[]` marks a list."""
    for name, member in shape.members.items():
        path, below = f"{prefix}{name}", member
        while below.type_name == "list":
            path, below = f"{path}[]", below.member
        yield path
        if below.type_name == "structure" and below.name not in inside:
            yield from member_paths(below, f"{path}.", (*inside, below.name))


def input_of(name: str) -> Shape:
    """The shape of the operation's input."""
    model = service_model("sagemaker")
    operation = operation_model(model, name) if model else None
    assert operation is not None  # noqa: S101 - botocore has it
    return operation.input_shape


def _operations() -> Iterator[str]:
    nothing = cast(Any, None)  # only their names are asked for
    yield "## Operations"
    yield ""
    yield "Any other operation is answered with an error (501) that names it. S3 is passed through"
    yield "to the object store as a whole."
    parts = (*[nothing] * 5, Hosting(nothing, nothing, nothing, nothing))
    for service, operations in operations_by_service(Settings(), *parts).items():
        yield ""
        yield f"### {service}"
        yield ""
        yield "| operation | remark |"
        yield "|---|---|"
        notes = _NOTES.get(service, {})
        yield from (f"| {name} | {notes.get(name, '')} |" for name in sorted(operations))


def _members(name: str) -> Iterator[str]:
    described = name.replace("Create", "Describe")
    yield f"## Members of {name}"
    yield ""
    yield "- **acts**: it has the effect that it has at AWS"
    yield f"- **echoes**: it is kept and {described} shows it, but it has no effect; where"
    yield "  something is missed by that, the job's log says so"
    yield "- **refuses**: the request is answered with an error that names it"
    yield ""
    yield "Every constraint of the API reference is checked, whatever becomes of a member."
    yield ""
    yield "| member | what becomes of it | remark |"
    yield "|---|---|---|"
    for path in member_paths(input_of(name)):
        member = _row(MATRICES[name], path)
        yield f"| {_indented(path)} | {member.treatment.value} | {_remark(member, path)} |"


def _row(matrix: SupportMatrix, path: str) -> Member:
    member = matrix.member_at(path)
    if member is None:
        raise LookupError(f"the support matrix says nothing of {path}")
    return member


def _indented(path: str) -> str:
    depth = path.count(".")
    return f"{'&nbsp;' * 4 * depth}`{path.rpartition('.')[2]}`"


def _remark(member: Member, path: str) -> str:
    if member.path == path:
        return member.note
    return "" if member.treatment is Treatment.ACTS else "as above"


if __name__ == "__main__":
    sys.stdout.write(document())
