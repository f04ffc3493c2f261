"""An engine that does not answer, by a clock that moves only while one waits."""

from __future__ import annotations

import pytest
from docker.errors import DockerException

from emulator.model.errors import InternalServerError
from emulator.runtimes.docker_patience import patiently
from emulator.runtimes.docker_watch import PATIENCE_SECONDS


class Engine:
    def __init__(self, back_at: float):
        self.now = 0.0
        self._back_at = back_at

    def ask(self) -> str:
        if self.now < self._back_at:
            raise DockerException("Connection refused")
        return "answer"

    def pause(self, seconds: float) -> None:
        self.now += seconds


def test_an_engine_that_comes_back() -> None:
    engine = Engine(back_at=PATIENCE_SECONDS / 2)
    assert patiently(engine.ask, lambda: engine.now, engine.pause) == "answer"
    assert engine.now == PATIENCE_SECONDS / 2


def test_an_engine_that_does_not() -> None:
    engine = Engine(back_at=10 * PATIENCE_SECONDS)
    with pytest.raises(InternalServerError, match="Connection refused"):
        patiently(engine.ask, lambda: engine.now, engine.pause)
    assert engine.now == PATIENCE_SECONDS


def test_a_mistake_is_no_matter_of_time() -> None:
    engine = Engine(back_at=0)

    def mistake() -> str:
        raise KeyError("label")

    with pytest.raises(KeyError):
        patiently(mistake, lambda: engine.now, engine.pause)
    assert engine.now == 0
