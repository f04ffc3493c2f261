"""Search over training jobs, and the property names it suggests."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from emulator.aws.operation import Call, Operations
from emulator.aws.service_models import Shape, service_model
from emulator.aws.services.describe import describe
from emulator.aws.services.search_expressions import Property, Record, property_of, test_of
from emulator.metrics.statistics import Sample
from emulator.model.errors import NotBuilt, ValidationError
from emulator.model.record import Job
from emulator.model.scope import Scope

DEFAULT_PAGE = 10
"""Results in a page when MaxResults is not given."""
SUGGESTIONS = 20
"""Property names that one answer suggests, as many as the console shows."""

_SortKey: TypeAlias = "tuple[int, float | str, str]"
FinalMetrics: TypeAlias = Callable[[Job], Mapping[str, Sample]]


class Jobs(Protocol):
    """What is known of the jobs."""

    def every(self, scope: Scope) -> Sequence[Job]: ...


def operations(jobs: Jobs, final_metrics: FinalMetrics = lambda _: {}) -> Operations:
    """The operations of searching, by name; `final_metrics` gives a job's last values."""
    shape = _record_shape()

    def search(call: Call) -> dict[str, Any]:
        params = call.params
        _only_training_jobs(params["Resource"])
        expression = params.get("SearchExpression")
        test = None if expression is None else test_of(shape, expression)
        by = property_of(shape, params.get("SortBy", "LastModifiedTime"))
        descending = params.get("SortOrder", "Descending") == "Descending"
        # Nothing of another account can be discovered here.
        abroad = params.get("CrossAccountFilterOption") == "CrossAccount"
        searched = () if abroad else jobs.every(call.scope)
        every = (_record(job, final_metrics(job)) for job in searched)
        found = [
            (_sort_key(record, by, descending), record)
            for record in every
            if test is None or test(record)
        ]
        found.sort(key=itemgetter(0), reverse=descending)
        rest = found
        if params.get("NextToken"):
            last = _key(params["NextToken"])
            rest = [one for one in found if (one[0] < last if descending else one[0] > last)]
        page = rest[: params.get("MaxResults", DEFAULT_PAGE)]
        return {
            "Results": [{"TrainingJob": record} for _, record in page],
            "NextToken": _token(page[-1][0]) if len(rest) > len(page) else None,
            "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
        }

    def get_search_suggestions(call: Call) -> dict[str, Any]:
        _only_training_jobs(call.params["Resource"])
        query = call.params.get("SuggestionQuery", {}).get("PropertyNameQuery", {})
        hint = query.get("PropertyNameHint", "").lower()
        names = sorted(name for name in _property_names(shape, "") if hint in name.lower())
        return {"PropertyNameSuggestions": [{"PropertyName": name} for name in names[:SUGGESTIONS]]}

    return {"Search": search, "GetSearchSuggestions": get_search_suggestions}


def _record_shape() -> Shape:
    model = service_model("sagemaker")
    assert model is not None  # noqa: S101 - botocore has it
    return model.shape_for("TrainingJob")


def _only_training_jobs(resource: str) -> None:
    if resource != "TrainingJob":
        raise NotBuilt(f"Search for {resource} is not built into sagemaker-emulator yet.")


def _record(job: Job, metrics: Mapping[str, Sample]) -> dict[str, Any]:
    tags = [{"Key": key, "Value": value} for key, value in job.tags.items()]
    return {**describe(job, metrics), "Tags": tags}


_FIRST, _NUMBER, _TEXT, _LAST = range(4)
"""What a sort key begins with: numbers before texts, and records without the property last."""


def _sort_key(record: Record, by: Property, descending: bool) -> _SortKey:
    """Where a record stands; ties go by name, which no two jobs share."""
    name = record["TrainingJobName"]
    values = by.values(record)
    if not values or not by.kind:
        return (_FIRST if descending else _LAST), "", name
    value = values[0]
    if isinstance(value, str):
        # Hyperparameters are texts, but people sort by the numbers in them.
        try:
            return _NUMBER, float(value.strip('"')), name
        except ValueError:
            return _TEXT, value, name
    return _NUMBER, float(value), name


def _token(key: _SortKey) -> str:
    return base64.b64encode(json.dumps(key).encode()).decode("ascii")


def _key(token: str) -> _SortKey:
    """The sort key of the last record that was given out; raises ValidationError."""
    try:
        kind, value, name = json.loads(base64.b64decode(token, validate=True))
        return int(kind), float(value) if kind == _NUMBER else str(value), str(name)
    except (binascii.Error, ValueError, TypeError, OverflowError):
        raise ValidationError("Invalid NextToken") from None


def _property_names(shape: Shape, prefix: str) -> Iterator[str]:
    for name, member in shape.members.items():
        below = member
        while below.type_name == "list":
            below = below.member
        yield f"{prefix}{name}"
        if below.type_name == "structure":
            yield from _property_names(below, f"{prefix}{name}.")
