"""Search over training jobs, and the property names it suggests."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any, Protocol, TypeAlias

from emulator.aws.operation import Call, Operations
from emulator.aws.services.describe import REQUEST_MEMBERS, describe, shown_member
from emulator.aws.services.search_expressions import (
    Property,
    Record,
    Test,
    names_in,
    number_of,
    property_of,
    test_of,
)
from emulator.aws.services.search_terms import COLUMNS, conditions_of
from emulator.aws.wire.service_models import Shape, service_model
from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId
from emulator.resources.training import TRAINING, job_id
from emulator.telemetry.metrics.statistics import Sample
from emulator.workloads.store.queries import Condition, Cursor, JobPage, JobQuery
from emulator.workloads.store.runs import Excerpt

WAITING = 8
"""Searches that may be on their way through all jobs, the one that goes on included."""
_PIECE = 25
"""Jobs between two chances for other threads: one or two milliseconds."""
DEFAULT_PAGE = 10
"""Results in a page when MaxResults is not given."""
SUGGESTIONS = 20
"""Property names that one answer suggests, as many as the console shows."""

_SortKey: TypeAlias = "tuple[int, float | str, str]"
FinalMetrics: TypeAlias = Callable[[Job], Mapping[str, Sample]]


class Jobs(Protocol):
    """What is known of the jobs."""

    def get(self, key: WorkloadId) -> Job | None: ...

    def find(self, kind: str, scope: Scope, query: JobQuery) -> JobPage: ...

    def each(self, kind: str, scope: Scope, conditions: tuple[Condition, ...]) -> Iterator[Job]: ...

    def excerpts(
        self,
        kind: str,
        scope: Scope,
        conditions: tuple[Condition, ...],
        members: Sequence[str],
    ) -> Iterator[Excerpt]: ...

    def count(self, kind: str, scope: Scope, conditions: Sequence[Condition]) -> int: ...


@dataclass(frozen=True)
class _Question:
    """What a search asks for."""

    conditions: tuple[Condition, ...]
    """What every job has to meet that is found."""
    test: Test | None
    """What else it has to pass."""
    by: Property
    descending: bool
    limit: int
    last: _SortKey | None
    """The sort key of the last job that was given out."""
    about_metrics: bool
    """Whether the metrics of each job have to be looked up for it."""
    about: frozenset[str]
    """The members of a record that decide which jobs are found, and their order."""


@dataclass(frozen=True)
class _Answer:
    jobs: Sequence[Job]
    next: _SortKey | None
    total: int


def operations(jobs: Jobs, final_metrics: FinalMetrics = lambda _: {}) -> Operations:
    """The operations of searching, by name; `final_metrics` gives a job's last values."""
    shape, turns = _record_shape(), _Turns()

    def search(call: Call) -> dict[str, Any]:
        params = call.params
        _only_training_jobs(params["Resource"])
        question = _question(shape, params)
        # Nothing of another account can be discovered here.
        if params.get("CrossAccountFilterOption") == "CrossAccount":
            answer = _Answer((), None, 0)
        elif question.test is None and question.by.name in COLUMNS:
            answer = _looked_up(jobs, call.scope, question)
        else:
            with turns.taken():
                answer = _gone_through(jobs, call.scope, question, final_metrics)
        return {
            "Results": [{"TrainingJob": _record(job, final_metrics(job))} for job in answer.jobs],
            "NextToken": None if answer.next is None else _token(answer.next),
            "TotalHits": {"Value": answer.total, "Relation": "EqualTo"},
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


def _question(shape: Shape, params: Mapping[str, Any]) -> _Question:
    """Raises ValidationError for what cannot be asked."""
    expression = params.get("SearchExpression")
    test = None if expression is None else test_of(shape, expression)
    conditions, is_all = conditions_of(expression)
    by = property_of(shape, params.get("SortBy", "LastModifiedTime"))
    token = params.get("NextToken")
    names = [by.name, *by.path, *names_in(expression or {})]
    return _Question(
        conditions,
        None if is_all else test,
        by,
        params.get("SortOrder", "Descending") == "Descending",
        params.get("MaxResults", DEFAULT_PAGE),
        _key(token) if token else None,
        any(name.startswith(("Metrics", "FinalMetricDataList")) for name in names),
        frozenset(name.partition(".")[0] for name in (by.path[0], *names_in(expression or {}))),
    )


def _looked_up(jobs: Jobs, scope: Scope, question: _Question) -> _Answer:
    """By the database alone: only the jobs of the page are read."""
    kind = _TEXT if question.by.kind == "text" else _NUMBER
    if question.last and question.last[0] != kind:  # a token of another order
        raise _bad_token()
    query = JobQuery(
        question.conditions,
        sort_by=COLUMNS[question.by.name],
        descending=question.descending,
        limit=question.limit,
        after=Cursor(*question.last[1:]) if question.last else None,
    )
    page = jobs.find(TRAINING.name, scope, query)
    following = None if page.next is None else (kind, page.next.key, page.next.name)
    return _Answer(page.jobs, following, jobs.count(TRAINING.name, scope, question.conditions))


def _gone_through(
    jobs: Jobs, scope: Scope, question: _Question, final_metrics: FinalMetrics
) -> _Answer:
    """Job by job; of those found only the sort keys are kept."""
    descending = question.descending
    found = []
    for number, record in enumerate(_records(jobs, scope, question, final_metrics), start=1):
        if question.test is None or question.test(record):
            found.append(_sort_key(record, question.by, descending))
        if number % _PIECE == 0:
            time.sleep(0)  # lets the threads of other requests go first
    found.sort(reverse=descending)
    rest, last = found, question.last
    if last is not None:
        rest = [key for key in found if (key < last if descending else key > last)]
    page = rest[: question.limit]
    read = (jobs.get(job_id(scope, name)) for _, _, name in page)
    return _Answer(
        [job for job in read if job is not None],  # one may have been deleted meanwhile
        page[-1] if len(rest) > len(page) else None,
        len(found),
    )


def _records(
    jobs: Jobs, scope: Scope, question: _Question, final_metrics: FinalMetrics
) -> Iterator[Record]:
    """What the question has to know of each job: little of most."""
    about = question.about - COLUMNS.keys() - {"Tags", "Tags."}
    if about <= REQUEST_MEMBERS:
        for excerpt in jobs.excerpts(TRAINING.name, scope, question.conditions, sorted(about)):
            yield _partly(excerpt, with_tags=bool(question.about & {"Tags", "Tags."}))
    else:
        for job in jobs.each(TRAINING.name, scope, question.conditions):
            yield _record(job, final_metrics(job) if question.about_metrics else {})


def _partly(excerpt: Excerpt, with_tags: bool) -> Record:
    """A record with the members that the excerpt has."""
    tags = json.loads(excerpt.tags) if with_tags else {}
    return {
        "TrainingJobName": excerpt.name,
        "TrainingJobStatus": excerpt.status,
        "CreationTime": excerpt.created,
        "LastModifiedTime": excerpt.modified,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **{name: shown_member(name, asked) for name, asked in excerpt.members.items()},
    }


class _Turns:
    """One search at a time goes through all jobs; some may wait, and the rest are put off."""

    def __init__(self) -> None:
        self._places = BoundedSemaphore(WAITING)
        self._turn = Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises ThrottlingException, which clients take as a reason to try again later."""
        if not self._places.acquire(blocking=False):
            raise ApiError("Rate exceeded", code="ThrottlingException")
        try:
            with self._turn:
                yield
        finally:
            self._places.release()


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
    if by.path[0] == "HyperParameters" and (number := number_of(value.strip('"'))) is not None:
        return _NUMBER, number, name  # texts, but people sort by the numbers in them
    if isinstance(value, str):
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
        raise _bad_token() from None


def _bad_token() -> ValidationError:
    return ValidationError("Invalid NextToken")


def _property_names(shape: Shape, prefix: str) -> Iterator[str]:
    for name, member in shape.members.items():
        below = member
        while below.type_name == "list":
            below = below.member
        yield f"{prefix}{name}"
        if below.type_name == "structure":
            yield from _property_names(below, f"{prefix}{name}.")
