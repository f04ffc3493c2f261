"""Real parts that several tests share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore

SLOWEST = (
    "test_docker_launchers.py",
    "test_examples.py",
    "test_runtime.py",
    "test_kill_rounds.py",
    "test_docker_jobs.py",
    "test_docker_life.py",
    "test_process_launchers.py",
    "test_gpus.py",
    "test_restart.py",
    "test_process_mpi.py",
    "test_process_ordinary_user.py",
)
"""Files of a minute and more. Workers take whole files: what is long must not come last."""

ACCESS_KEY = "emulator"
SECRET_KEY = "emulator-secret"

# No deadline: a busy machine is no defect. `make check` takes the quick profile.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("full")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files; all others keep their order, the unit tests last."""
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOWEST)))


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """One SeaweedFS for the whole run."""
    with EmbeddedStore(tmp_path_factory.mktemp("state"), ACCESS_KEY, SECRET_KEY) as store:
        yield store


@pytest.fixture(scope="session")
def object_store(embedded_store: EmbeddedStore) -> ObjectStore:
    """A client of that store; take a `bucket` for a test's own objects."""
    return ObjectStore(
        embedded_store.endpoint, ACCESS_KEY, SECRET_KEY, trouble=embedded_store.trouble
    )


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """A bucket of this test alone."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    object_store.ensure_bucket(name)
    return name
