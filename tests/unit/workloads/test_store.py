from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.database import Database
from emulator.model.errors import ResourceInUse, SetupError, ValidationError
from emulator.model.lifecycle import Lifecycle, Phase, Status
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.parts import SCHEMA
from emulator.placement.leases import LeaseBook
from emulator.resources import KINDS
from emulator.resources.training import TRAINING, job_id, training_job
from emulator.workloads.store.queries import (
    Column,
    Condition,
    Cursor,
    JobQuery,
    Overview,
    Tagged,
    Term,
    page_statement,
)
from emulator.workloads.store.runs import MIGRATIONS, Excerpt, JobStore

SCOPE = Scope("123456789012", "us-west-2")


def spec(name: str, scope: Scope = SCOPE, **more: Any) -> WorkloadSpec:
    request = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **more,
    }
    return training_job(request, scope)


def failed(life: Lifecycle) -> Lifecycle:
    return life.finish(Phase.FAILED, "Training job failed", 50.0, "ClientError: no")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state" / "emulator.db", MIGRATIONS)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database, KINDS)


def test_a_job_comes_back_as_it_was_kept(store: JobStore) -> None:
    wanted = spec("job", HyperParameters={"lr": "0.1"}, Environment={"A": "ü"}, Tags=[])
    job = store.create(wanted, 10.0004)
    assert job.life == Lifecycle.begin(10.0, TRAINING.words.starting)
    assert store.get(job_id(SCOPE, "job")) == job
    assert store.get(job_id(SCOPE, "Job")) is None
    assert store.get(job_id(Scope("123456789012", "eu-west-1"), "job")) is None


@pytest.mark.parametrize("name", ["Job", "job"])
def test_a_taken_name_is_refused_in_the_words_of_the_service(store: JobStore, name: str) -> None:
    store.create(spec("Job"), 10.0)
    with pytest.raises(ResourceInUse) as refusal:
        store.create(spec(name), 11.0)
    assert refusal.value.message == (
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists "
        "(arn:aws:sagemaker:us-west-2:123456789012:training-job/job)"
    )
    store.create(spec(name, Scope("123456789012", "us-east-1")), 11.0)


def test_steps_and_artifacts_are_kept_together(store: JobStore) -> None:
    store.create(spec("job"), 10.0)
    changed = store.change(
        job_id(SCOPE, "job"), lambda life: life.enter(Phase.DOWNLOADING, "data", 11.5), "s3://b/m"
    )
    assert changed.life.started == 11.5
    assert changed.artifacts == "s3://b/m"
    assert store.get(job_id(SCOPE, "job")) == changed


def test_a_step_that_fails_changes_nothing(store: JobStore) -> None:
    job = store.create(spec("job"), 10.0)
    with pytest.raises(ZeroDivisionError):
        store.change(job_id(SCOPE, "job"), lambda life: life.say(str(1 / 0), 11.0))
    assert store.get(job_id(SCOPE, "job")) == job
    with pytest.raises(ValidationError, match=r"^Requested resource not found\.$"):
        store.change(job_id(SCOPE, "nothing"), failed)


def test_the_database_itself_keeps_the_end(store: JobStore, database: Database) -> None:
    store.create(spec("job"), 10.0)
    store.change(job_id(SCOPE, "job"), failed)
    with (
        pytest.raises(sqlite3.IntegrityError, match="has ended"),
        database.writing() as connection,
    ):
        connection.execute("UPDATE workload SET status = 'InProgress'")
    job = store.get(job_id(SCOPE, "job"))
    assert job is not None
    assert job.life.failure_reason == "ClientError: no"


def test_unfinished_jobs_of_all_scopes(store: JobStore) -> None:
    elsewhere = Scope("210987654321", "eu-west-1")
    store.create(spec("stopping", elsewhere), 12.0)
    store.change(job_id(elsewhere, "stopping"), lambda life: life.request_stop(13.0))
    for name in ("ended", "running"):
        store.create(spec(name), 11.0)
    store.change(job_id(SCOPE, "ended"), failed)
    assert [job.spec.name for job in store.unfinished()] == ["running", "stopping"]


def test_jobs_outlive_the_process(store: JobStore, database: Database) -> None:
    job = store.create(spec("job"), 10.0)
    database.close()
    again = Database(database.path, MIGRATIONS)
    assert JobStore(again, KINDS).get(job_id(SCOPE, "job")) == job
    again.close()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "emulator.db").write_text("not a database, but a text of some length" * 100)
    with pytest.raises(SetupError, match="cannot be used"):
        Database(tmp_path / "emulator.db", MIGRATIONS)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    more = (*MIGRATIONS, "CREATE TABLE later (x);\nCREATE TABLE more (x);\n")
    Database(tmp_path / "emulator.db", more).close()
    with pytest.raises(SetupError, match="newer version"):
        Database(tmp_path / "emulator.db", MIGRATIONS)
    Database(tmp_path / "emulator.db", more).close()


def test_a_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Scripts are known by their place among all: a new one must not come before another."""
    earlier = Database(tmp_path / "emulator.db", SCHEMA[:3])
    job = spec("job")
    life = json.dumps(asdict(Lifecycle.begin(10.0)))
    with earlier.writing() as connection:
        connection.execute(
            "INSERT INTO training_job"
            " (account, region, name, request, life, status, created, modified)"
            " VALUES (?, ?, ?, ?, ?, 'InProgress', 10, 10)",
            (SCOPE.account, SCOPE.region, job.name, json.dumps(job.request), life),
        )
    earlier.close()
    database = Database(tmp_path / "emulator.db", SCHEMA)
    assert LeaseBook(database).holdings() == ()
    for column in get_args(Column):
        page = JobStore(database, KINDS).find(TRAINING.name, SCOPE, JobQuery(sort_by=column))
        assert [(job.spec.name, job.runtime) for job in page.jobs] == [("job", None)]
    database.close()


def test_the_runtime_that_a_job_was_accepted_for_stays(store: JobStore) -> None:
    store.create(spec("job"), 10.0, "docker", "the engine has it")
    assert (store.unfinished_on("docker"), store.unfinished_on("process")) == (1, 0)
    store.change(job_id(SCOPE, "job"), failed)
    job = store.get(job_id(SCOPE, "job"))
    assert job
    assert (job.runtime, job.runtime_reason) == ("docker", "the engine has it")
    assert store.unfinished_on("docker") == 0


NAMES = [f"{word}-{number}" for word in ("train", "tune", "eval") for number in range(4)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JobStore:
    """Twelve jobs, created in the order of NAMES two a second, every third one failed."""
    store = JobStore(Database(tmp_path_factory.mktemp("many") / "emulator.db", MIGRATIONS), KINDS)
    for number, name in enumerate(NAMES):
        tags = [{"Key": "team", "Value": "vision"}] if number < 3 else []
        store.create(spec(name, Tags=tags), 10.0 + number // 2)
        if number % 3 == 0:
            store.change(job_id(SCOPE, name), failed)
    return store


def listed(store: JobStore, limit: int, **terms: Any) -> list[str]:
    names: list[str] = []
    query = JobQuery(limit=limit, **terms)
    while True:
        page = store.find(TRAINING.name, SCOPE, query)
        names += [job.spec.name for job in page.jobs]
        if page.next is None:
            return names
        query = JobQuery(limit=limit, after=page.next, **terms)


@given(
    limit=st.integers(1, 13),
    sort_by=st.sampled_from(["name", "created", "modified", "status"]),
    descending=st.booleans(),
    status=st.sampled_from([None, Status.FAILED, Status.IN_PROGRESS]),
    contains=st.sampled_from(["", "t", "-1", "TRAIN"]),
)
def test_pages_of_any_size_give_each_job_once_and_in_order(
    many: JobStore, limit: int, sort_by: str, descending: bool, status: Status | None, contains: str
) -> None:
    def key(number: int) -> tuple[Any, str]:
        keys = {
            "name": "",
            "created": number // 2,
            "modified": number // 2 if number % 3 else 50,
            "status": "InProgress" if number % 3 else "Failed",
        }
        return keys[sort_by], NAMES[number]

    expected = [
        NAMES[number]
        for number in sorted(range(len(NAMES)), key=key, reverse=descending)
        if contains in NAMES[number]
        and status in (None, Status.IN_PROGRESS if number % 3 else Status.FAILED)
    ]
    order = {"sort_by": sort_by, "descending": descending, "status": status}
    contained = (Term("name", "contains", contains),)
    assert listed(many, limit, conditions=contained, **order) == expected
    assert status or many.count(TRAINING.name, SCOPE, contained) == len(expected)


def test_the_status_is_looked_at_after_the_page_was_taken(many: JobStore) -> None:
    query = JobQuery(sort_by="name", descending=False, limit=3, status=Status.IN_PROGRESS)
    page = many.find(TRAINING.name, SCOPE, query)
    assert [job.spec.name for job in page.jobs] == ["eval-0", "eval-2"]
    assert page.next is not None


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ((Term("created", ">", 10.0), Term("created", "<", 12.0)), NAMES[2:4]),
        ((Term("created", ">=", 15.0),), NAMES[10:]),
        ((Term("modified", ">", 49.0),), NAMES[::3]),
        ((Term("modified", "<=", 10.0),), NAMES[1:2]),
        ((Term("status", "=", "Failed"), Term("name", "contains", "-3")), ["train-3"]),
        ((Term("name", "in", ("tune-2", "eval-0", "none")),), ["tune-2", "eval-0"]),
        ((Term("status", "<>", "InProgress"), Tagged("team", "vision")), ["train-0"]),
        ((Tagged("vision", "team"),), []),
    ],
)
def test_conditions(many: JobStore, conditions: tuple[Condition, ...], wanted: list[str]) -> None:
    assert sorted(listed(many, 5, conditions=conditions)) == sorted(wanted)
    assert many.count(TRAINING.name, SCOPE, conditions) == len(wanted)


@pytest.mark.parametrize("column", get_args(Column))
@pytest.mark.parametrize("narrowed", [None, *get_args(Column)])
def test_a_page_is_found_in_an_index_alone(
    database: Database, column: Column, narrowed: Column | None
) -> None:
    """Rows have long texts: reading all of them takes a hundred times as long."""
    conditions = (Term(narrowed, ">", 1.0),) if narrowed else ()
    query = JobQuery(conditions, sort_by=column, after=Cursor(1.0, "n"))
    statement, values = page_statement(TRAINING.name, SCOPE, query)
    inner = statement[statement.index("(") + 1 : statement.index(") JOIN")]
    with database.reading() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {inner}", values).fetchall()
    [step] = [row["detail"] for row in plan]  # a second one would sort all jobs
    assert f"USING COVERING INDEX workload_by_{column} " in step


def test_jobs_that_have_not_ended_are_counted_by_their_status(store: JobStore) -> None:
    for number in range(3):
        store.create(spec(f"job-{number}"), 1.0)
    store.change(job_id(SCOPE, "job-1"), lambda life: life.enter(Phase.PENDING, "waits", 2.0))
    store.change(job_id(SCOPE, "job-2"), failed)
    assert store.unfinished_by_phase() == {"Starting": 1, "Pending": 1}


def test_an_excerpt_has_the_members_that_are_asked_for(store: JobStore) -> None:
    store.create(spec("one", Tags=[{"Key": "a", "Value": "b"}]), 1.0)
    [found] = store.excerpts(TRAINING.name, SCOPE, (), ["HyperParameters", "RoleArn"])
    assert found == Excerpt(
        "one",
        "InProgress",
        1.0,
        1.0,
        '{"a": "b"}',
        {"HyperParameters": None, "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole"},
    )
    [none] = store.excerpts(TRAINING.name, SCOPE, (), [])
    assert none.members == {}


def test_an_overview_is_over_all_kinds_and_scopes_newest_first(store: JobStore) -> None:
    other = Scope("210987654321", "eu-west-1")
    for number, (name, scope) in enumerate(
        [("train-1", SCOPE), ("Train-2", other), ("eval", SCOPE), ("train-3", SCOPE)]
    ):
        store.create(spec(name, scope), float(number))
    store.change(job_id(SCOPE, "eval"), failed)

    def found(**more: Any) -> tuple[int, list[str]]:
        total, jobs = store.overview(Overview(**more))
        return total, [job.spec.name for job in jobs]

    assert found() == (4, ["train-3", "eval", "Train-2", "train-1"])
    assert found(text="TRAIN", limit=2) == (3, ["train-3", "Train-2"])
    assert found(text="TRAIN", limit=2, offset=2) == (3, ["train-1"])
    assert found(statuses=("Failed", "Stopped")) == (1, ["eval"])
    assert found(kinds=("processing-job",)) == (0, [])
    assert found(text="%_' OR 1") == (0, [])
    assert store.counts() == {
        ("training-job", "Failed"): 1,
        ("training-job", "InProgress"): 3,
    }


def test_a_job_is_found_by_its_arn_in_lower_case(store: JobStore) -> None:
    store.create(spec("Train-2"), 1.0)
    found = store.by_arn(spec("Train-2").arn)
    assert found is not None
    assert found.spec.name == "Train-2"
    assert store.by_arn(spec("other").arn) is None
