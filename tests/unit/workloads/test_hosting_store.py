"""Models, configurations and endpoints in the database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.database import Database
from emulator.model.errors import ValidationError
from emulator.model.hosting import Deployment, Endpoint, EndpointStatus
from emulator.model.scope import Scope
from emulator.workloads.serving.store import (
    MIGRATION,
    HostingStore,
    InstanceRow,
    Resource,
    endpoint_row,
)

SCOPE = Scope("111122223333", "us-east-1")


@pytest.fixture
def store(tmp_path):
    database = Database(tmp_path / "db", (MIGRATION,))
    yield HostingStore(database, lambda sources: Deployment(sources["name"], sources, ()))
    database.close()


def _model(name: str = "Net") -> Resource:
    return Resource("model", SCOPE, name, 1.0, 1.0, {"ModelName": name}, tags={"a": "b"})


def test_a_resource_is_read_as_it_was_created(store):
    store.create(_model())
    assert store.get("model", SCOPE, "Net") == _model()
    assert store.name_in_arn("model", SCOPE, "net") == "Net"


def test_a_name_is_taken_once_in_a_scope(store):
    store.create(_model())
    with pytest.raises(ValidationError, match=r"already existing model .*model/net"):
        store.create(_model())
    store.create(replace(_model(), scope=Scope("111122223333", "us-west-2")))


def test_names_that_differ_in_case_share_an_arn(store):
    store.create(_model())
    with pytest.raises(ValidationError, match="already existing"):
        store.create(_model("NET"))
    assert store.find("model", SCOPE, "NET") is None


def test_what_is_not_there_is_told_in_the_words_of_the_service(store):
    words = 'Could not find endpoint configuration "arn:aws:sagemaker:us-east-1:111122223333:'
    with pytest.raises(ValidationError, match=words):
        store.delete("endpoint-config", SCOPE, "none")


def test_an_endpoint_keeps_what_it_deploys(store):
    deployment = Deployment("first", {"name": "first"}, ())
    new = Endpoint(SCOPE, "E", EndpointStatus.CREATING, 1.0, 1.0, {}, pending=deployment)
    store.create(endpoint_row(new))
    assert store.endpoint(SCOPE, "E") == new

    store.change(
        SCOPE,
        "E",
        lambda endpoint: replace(
            endpoint,
            status=EndpointStatus.IN_SERVICE,
            current=endpoint.pending,
            pending=None,
            modified=2.0,
        ),
    )
    (read,) = store.endpoints()
    assert (read.status, read.current, read.pending) == (
        EndpointStatus.IN_SERVICE,
        deployment,
        None,
    )


def test_a_step_that_raises_changes_nothing(store):
    store.create(_model())

    def refuse(_):
        raise ValidationError("no")

    with pytest.raises(ValidationError):
        store.update("model", SCOPE, "Net", refuse)
    assert store.get("model", SCOPE, "Net") == _model()


def test_started_instances_are_found_until_nothing_is_left_of_them(store):
    row = InstanceRow("i-1", SCOPE, "E", 1, "AllTraffic", "process", 5.0, 8080)
    store.add_instance(row)
    store.note_serving("i-1")
    assert store.instances() == [replace(row, serves=True)]
    store.remove_instance("i-1")
    assert store.instances() == []
