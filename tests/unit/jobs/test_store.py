from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.database import Database
from emulator.jobs.store import MIGRATIONS, JobQuery, JobStore
from emulator.model.errors import ResourceInUse, SetupError, ValidationError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary, Status
from emulator.model.scope import Scope

SCOPE = Scope("123456789012", "us-west-2")


def spec(name: str, scope: Scope = SCOPE, **more: Any) -> JobSpec:
    request = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **more,
    }
    return JobSpec.from_request(request, scope)


def failed(life: Lifecycle) -> Lifecycle:
    return life.finish(Secondary.FAILED, "Training job failed", 50.0, "ClientError: no")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state" / "emulator.db", MIGRATIONS)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)


def test_a_job_comes_back_as_it_was_kept(store: JobStore) -> None:
    wanted = spec("job", HyperParameters={"lr": "0.1"}, Environment={"A": "ü"}, Tags=[])
    job = store.create(wanted, 10.0004)
    assert job.life == Lifecycle.begin(10.0)
    assert store.get(SCOPE, "job") == job
    assert store.get(SCOPE, "Job") is None
    assert store.get(Scope("123456789012", "eu-west-1"), "job") is None


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
        SCOPE, "job", lambda life: life.enter(Secondary.DOWNLOADING, "data", 11.5), "s3://b/m"
    )
    assert changed.life.training_started == 11.5
    assert changed.artifacts == "s3://b/m"
    assert store.get(SCOPE, "job") == changed


def test_a_step_that_fails_changes_nothing(store: JobStore) -> None:
    job = store.create(spec("job"), 10.0)
    with pytest.raises(ZeroDivisionError):
        store.change(SCOPE, "job", lambda life: life.say(str(1 / 0), 11.0))
    assert store.get(SCOPE, "job") == job
    with pytest.raises(ValidationError, match=r"^Requested resource not found\.$"):
        store.change(SCOPE, "nothing", failed)


def test_the_database_itself_keeps_the_end(store: JobStore, database: Database) -> None:
    store.create(spec("job"), 10.0)
    store.change(SCOPE, "job", failed)
    with (
        pytest.raises(sqlite3.IntegrityError, match="has ended"),
        database.writing() as connection,
    ):
        connection.execute("UPDATE training_job SET status = 'InProgress'")
    job = store.get(SCOPE, "job")
    assert job is not None
    assert job.life.failure_reason == "ClientError: no"


def test_unfinished_jobs_of_all_scopes(store: JobStore) -> None:
    elsewhere = Scope("210987654321", "eu-west-1")
    store.create(spec("stopping", elsewhere), 12.0)
    store.change(elsewhere, "stopping", lambda life: life.request_stop(13.0))
    for name in ("ended", "running"):
        store.create(spec(name), 11.0)
    store.change(SCOPE, "ended", failed)
    assert [job.spec.name for job in store.unfinished()] == ["running", "stopping"]


def test_jobs_outlive_the_process(store: JobStore, database: Database) -> None:
    job = store.create(spec("job"), 10.0)
    database.close()
    again = Database(database.path, MIGRATIONS)
    assert JobStore(again).get(SCOPE, "job") == job
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


NAMES = [f"{word}-{number}" for word in ("train", "tune", "eval") for number in range(4)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JobStore:
    """Twelve jobs, created in the order of NAMES two a second, every third one failed."""
    store = JobStore(Database(tmp_path_factory.mktemp("many") / "emulator.db", MIGRATIONS))
    for number, name in enumerate(NAMES):
        store.create(spec(name), 10.0 + number // 2)
        if number % 3 == 0:
            store.change(SCOPE, name, failed)
    return store


def listed(store: JobStore, limit: int, **terms: Any) -> list[str]:
    names: list[str] = []
    query = JobQuery(limit=limit, **terms)
    while True:
        page = store.find(SCOPE, query)
        names += [job.spec.name for job in page.jobs]
        if page.next is None:
            return names
        query = JobQuery(limit=limit, after=page.next, **terms)


@settings(deadline=None)
@given(
    limit=st.integers(1, 13),
    sort_by=st.sampled_from(["Name", "CreationTime", "Status"]),
    descending=st.booleans(),
    status=st.sampled_from([None, Status.FAILED, Status.IN_PROGRESS]),
    contains=st.sampled_from(["", "t", "-1", "TRAIN"]),
)
def test_pages_of_any_size_give_each_job_once_and_in_order(
    many: JobStore, limit: int, sort_by: str, descending: bool, status: Status | None, contains: str
) -> None:
    def key(number: int) -> tuple[Any, str]:
        keys = {
            "Name": "",
            "CreationTime": number // 2,
            "Status": "InProgress" if number % 3 else "Failed",
        }
        return keys[sort_by], NAMES[number]

    expected = [
        NAMES[number]
        for number in sorted(range(len(NAMES)), key=key, reverse=descending)
        if contains in NAMES[number]
        and status in (None, Status.IN_PROGRESS if number % 3 else Status.FAILED)
    ]
    terms = {"sort_by": sort_by, "descending": descending, "status": status}
    assert listed(many, limit, name_contains=contains, **terms) == expected


def test_the_status_is_looked_at_after_the_page_was_taken(many: JobStore) -> None:
    query = JobQuery(sort_by="Name", descending=False, limit=3, status=Status.IN_PROGRESS)
    page = many.find(SCOPE, query)
    assert [job.spec.name for job in page.jobs] == ["eval-0", "eval-2"]
    assert page.next is not None


def test_times_bound_the_list(many: JobStore) -> None:
    assert sorted(listed(many, 5, created_after=10.0, created_before=12.0)) == NAMES[2:4]
    assert sorted(listed(many, 5, modified_after=49.0)) == sorted(NAMES[::3])
    assert sorted(listed(many, 5, modified_before=11.0)) == NAMES[1:2]


@pytest.mark.parametrize("sort_by", ["Name", "CreationTime", "Status"])
def test_no_order_needs_all_jobs_to_be_sorted(database: Database, sort_by: str) -> None:
    column = {"Name": "name", "CreationTime": "created", "Status": "status"}[sort_by]
    with database.reading() as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM training_job WHERE account = ? AND region = ?"
            f" AND ({column}, name) < (?, ?) ORDER BY {column} DESC, name DESC LIMIT 10",
            ("a", "r", 1, "n"),
        ).fetchall()
    steps = " ".join(row["detail"] for row in plan)
    assert "SEARCH" in steps
    assert "TEMP B-TREE" not in steps
