"""Whether an image exists, asked of an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine, hang_up, nonsense

from emulator.drivers.images.resolution import Images, Presence, presence_in, repository_of

OWN = "123456789012.dkr.ecr.us-east-1.amazonaws.com/own"
AWS = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.2.0-cpu-py310"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine.running(tmp_path) as engine:
        engine.has_image(f"{OWN}:1")
        engine.registry = {
            "hub/there:1": (200, ""),
            "hub/there:2": (404, "manifest unknown: manifest unknown"),
            "hub/gone:1": (403, "denied: requested access to the resource is denied"),
            "hub/secret:1": (401, "no basic auth credentials"),
            "-hub/x:1": (400, "invalid reference format"),
        }
        yield engine


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (f"{OWN}:1", Presence.THERE),
        ("hub/there:1", Presence.PULLABLE),
        ("hub/there:2", Presence.NO_TAG),
        ("hub/gone:1", Presence.NO_REPOSITORY),
        ("hub/secret:1", Presence.UNKNOWN),
        ("nowhere.example/x:1", Presence.UNKNOWN),
        ("-hub/x:1", Presence.NO_REFERENCE),
        (AWS, Presence.UNKNOWN),  # it has not been built yet
    ],
)
def test_what_a_registry_says(engine: FakeEngine, image: str, expected: Presence) -> None:
    assert Images(engine.client()).look_up(image) is expected


def test_an_engine_that_is_the_only_registry(engine: FakeEngine) -> None:
    images = Images(engine.client())
    assert images.look_up(f"{OWN}:1", engine_alone=True) is Presence.THERE
    assert images.look_up(f"{OWN}:2", engine_alone=True) is Presence.NO_TAG
    assert images.look_up("hub/there:1", engine_alone=True) is Presence.NO_REPOSITORY
    assert not any("/distribution" in request for request in engine.requests)


@pytest.mark.parametrize("fault", [nonsense, hang_up])
def test_an_engine_in_trouble(engine: FakeEngine, fault: object) -> None:
    engine.fails("/images/", fault)  # type: ignore[arg-type]
    assert Images(engine.client()).look_up(f"{OWN}:1") is Presence.UNKNOWN


def test_a_registry_that_does_not_answer_is_not_waited_for(engine: FakeEngine) -> None:
    engine.fails("/distribution/", lambda _: engine.until(lambda: engine.away))
    assert Images(engine.client()).look_up("hub/there:1", seconds=0.05) is Presence.UNKNOWN


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ("name unknown: The repository with name 'x' does not exist", Presence.NO_REPOSITORY),
        ("errors:\nmanifest unknown: Requested image not found", Presence.NO_TAG),
        ("unauthorized: authentication required", Presence.UNKNOWN),
        ('Get "https://x/v2/": dial tcp: lookup x: no such host', Presence.UNKNOWN),
        ('Get "https://x/v2/": context deadline exceeded', Presence.UNKNOWN),
    ],
)
def test_the_words_of_registries(refusal: str, expected: Presence) -> None:
    assert presence_in(404, refusal) is expected


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("debian", "debian"),
        ("debian:12", "debian"),
        ("localhost:5000/a/b", "localhost:5000/a/b"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b"),
        ("a/b:1@sha256:0", "a/b"),
    ],
)
def test_the_repository_of_an_image(image: str, repository: str) -> None:
    assert repository_of(image) == repository
