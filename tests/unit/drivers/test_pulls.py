"""Pulls that end before their image is there; no engine is needed to give up on one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.drivers.docker import engine_answers as pulls
from emulator.drivers.docker.engine_answers import Record, records
from emulator.drivers.images import resolution as images
from emulator.drivers.images.resolution import Images
from emulator.model.errors import InternalServerError

SECONDS = 20.0


class Pull:
    """An engine that says so much, then nothing until it is told to."""

    def __init__(self, *said: Record):
        self._said = said
        self.goes_on = threading.Event()
        self.over = threading.Event()

    def __call__(self) -> Iterator[Record]:
        try:
            yield from self._said
            assert self.goes_on.wait(SECONDS)
            while True:
                yield {"status": "Extracting"}
        finally:
            self.over.set()


@pytest.fixture
def pull() -> Iterator[Pull]:
    pull = Pull({"id": "a"}, {"id": "b"})
    yield pull
    pull.goes_on.set()
    assert pull.over.wait(SECONDS)  # nobody goes on pulling


def test_all_records_in_order() -> None:
    said = [{"id": str(number)} for number in range(100)]
    assert list(records(lambda: said, lambda: False)) == said


def test_a_pull_is_given_up_while_the_engine_is_silent(pull: Pull) -> None:
    heard: list[Record] = []
    for record in records(pull, lambda: len(heard) == 2):
        heard.append(record)
    assert heard == [{"id": "a"}, {"id": "b"}]


def test_an_engine_that_falls_silent(pull: Pull) -> None:
    heard = records(pull, lambda: False, silence=0.1)
    assert [next(heard), next(heard)] == [{"id": "a"}, {"id": "b"}]
    with pytest.raises(TimeoutError, match="nothing of the pull"):
        next(heard)


def test_what_the_engine_refuses_is_raised_here() -> None:
    def refuse() -> Iterator[Record]:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        list(records(refuse, lambda: False))


def images_of(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> Images:
    client: Any = SimpleNamespace(api=SimpleNamespace(pull=lambda *_, **__: pull()))
    monkeypatch.setattr(Images, "_has", lambda *_: False)
    return Images(client)


def test_a_job_that_is_stopped_does_not_wait_for_its_image(
    pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        stopped.set()

    images_of(pull, monkeypatch).prepare("busybox", say, stopped.is_set)
    assert said == ["Pulling busybox"]


def test_a_silent_engine_fails_the_job(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        images, "records", lambda pull, cancelled: pulls.records(pull, cancelled, silence=0.1)
    )
    with pytest.raises(InternalServerError, match="nothing of the pull"):
        images_of(pull, monkeypatch).prepare("busybox", lambda _: None, lambda: False)
