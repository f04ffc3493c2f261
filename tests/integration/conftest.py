"""What the tests with containers share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from docker.client import DockerClient

from emulator.drivers.docker.engine import connect


@pytest.fixture
def client() -> Iterator[DockerClient]:
    """A client of this machine's Docker engine."""
    with closing(connect()) as client:
        yield client


@pytest.fixture
def emulator() -> str:
    """A name for the labels of containers: tests may share the engine with other runs of them."""
    return f"test-{uuid.uuid4().hex[:12]}"
