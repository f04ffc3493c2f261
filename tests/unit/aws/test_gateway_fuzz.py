"""Whatever is sent, the gateway answers with what it was asked for or with a client's error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.aws.gateway import Gateway
from emulator.aws.services import iam, search, sts, training_jobs
from emulator.aws.wire.http import HttpRequest
from emulator.database import Database
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources import KINDS
from emulator.settings import Settings
from emulator.workloads.store.runs import MIGRATIONS, JobStore

VALID = json.loads(
    (Path(__file__).parents[2] / "data" / "requests" / "v2" / "heterogeneous.json").read_text()
)

anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, -1, 10**30, 1e308, 1.5]),
        st.text(max_size=10),
        st.sampled_from(["s3://b/k", "s3://", "https://b", "File", "ml.m5.large", "None", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


class Desk:
    """Keeps every job and starts none."""

    def __init__(self, store: JobStore):
        self._store = store

    def submit(self, spec: WorkloadSpec) -> None:
        assert len(spec.hosts) >= 1
        self._store.create(spec, 1_700_000_000.0)

    def stop(self, key: WorkloadId) -> None:
        self._store.change(key, lambda life: life.request_stop(1_700_000_001.0))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    store = JobStore(Database(tmp_path_factory.mktemp("fuzz") / "state.db", MIGRATIONS), KINDS)
    services = {
        "sagemaker": {
            **training_jobs.operations(Desk(store), store),
            **search.operations(store),
        },
        "sts": sts.operations(Settings()),
        "iam": iam.operations(Settings()),
    }
    return Gateway(services, Settings())


def asked(gateway: Gateway, operation: str, body: Any) -> int:
    headers = {"x-amz-target": f"SageMaker.{operation}"}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = gateway.answer(HttpRequest("POST", "/", "", headers, raw), None)
    assert reply.status in (200, 400, 501), reply.body
    return reply.status


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every member of a document."""
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


@given(st.lists(st.tuples(st.sampled_from(places(VALID)), anything), min_size=1, max_size=3))
def test_a_valid_request_with_anything_in_it(
    gateway: Gateway, changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    request = copy.deepcopy(VALID)
    for path, value in changes:
        place = request
        for step in path[:-1]:
            place = place[step] if _has(place, step) else {}
        if isinstance(place, dict) or _has(place, path[-1]):
            place[path[-1]] = value
    if asked(gateway, "CreateTrainingJob", request) == 200:
        name = {"TrainingJobName": request["TrainingJobName"]}
        assert asked(gateway, "DescribeTrainingJob", name) == 200
        assert asked(gateway, "StopTrainingJob", name) == 200
        assert asked(gateway, "ListTrainingJobs", {"MaxResults": 100}) == 200


def _has(place: Any, step: Any) -> bool:
    if isinstance(place, list):
        return isinstance(step, int) and step < len(place)
    return isinstance(place, dict) and step in place


@given(
    st.sampled_from(["CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs", "Nothing"]),
    st.one_of(anything, st.binary(max_size=50)),
)
def test_anything_at_all(gateway: Gateway, operation: str, body: Any) -> None:
    asked(gateway, operation, body)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "NextToken": st.text(max_size=20),
            "MaxResults": st.integers(-5, 105),
            "CreationTimeAfter": st.one_of(st.floats(), st.text(max_size=5)),
            "StatusEquals": st.sampled_from(["Failed", "failed"]),
            "SortBy": st.sampled_from(["Name", "Status", "CreationTime"]),
            "SortOrder": st.sampled_from(["Ascending", "Descending"]),
        },
    )
)
def test_any_listing(gateway: Gateway, request_: dict[str, Any]) -> None:
    asked(gateway, "ListTrainingJobs", request_)


@given(st.binary(max_size=100))
def test_any_form(gateway: Gateway, fields: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for action in (b"AssumeRole", b"SimulatePrincipalPolicy", b"GetRole"):
        body = b"Action=" + action + b"&RoleName=" + fields + b"&RoleArn=" + fields
        reply = gateway.answer(HttpRequest("POST", "/", "", headers, body), None)
        assert reply.status in (200, 400, 501), reply.body


@pytest.mark.parametrize("depth", [30, 100, 400])
def test_expressions_in_expressions(gateway: Gateway, depth: int) -> None:
    expression: dict[str, Any] = {"Filters": [{"Name": "TrainingJobName"}]}
    for _ in range(depth):
        expression = {"SubExpressions": [expression]}
    status = asked(gateway, "Search", {"Resource": "TrainingJob", "SearchExpression": expression})
    assert status == (200 if depth < 50 else 400)
