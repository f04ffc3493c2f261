"""Real parts that several tests share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore

ACCESS_KEY = "emulator"
SECRET_KEY = "emulator-secret"

# No deadline: a busy machine is no defect. `make check` takes the quick profile.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("full")


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
