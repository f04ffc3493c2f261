"""An engine that does not answer, by a clock that moves with each question."""

from __future__ import annotations

from threading import Event

import pytest
from docker.errors import APIError, DockerException

from emulator.drivers.base import Unreachable
from emulator.drivers.docker.retry import REFUSAL_SECONDS, patiently


class Engine:
    """It answers to the question of that number."""

    def __init__(self, number: float, error: Exception):
        self.asked = 0
        self._number = number
        self._error = error

    def ask(self) -> str:
        self.asked += 1
        if self.asked < self._number:
            raise self._error
        return "answer"

    def now(self) -> float:
        return float(self.asked)


AWAY = DockerException("Connection refused")
REFUSES = APIError("the daemon is starting")


@pytest.mark.parametrize(
    ("number", "error"), [(1, AWAY), (10 * REFUSAL_SECONDS, AWAY), (REFUSAL_SECONDS / 2, REFUSES)]
)
def test_an_engine_that_is_back(number: float, error: Exception) -> None:
    engine = Engine(number, error)
    assert patiently(engine.ask, Event(), monotonic=engine.now, pause_seconds=0) == "answer"
    assert engine.asked == number


def test_the_emulator_ends_before() -> None:
    engine, closing = Engine(float("inf"), AWAY), Event()
    closing.set()
    with pytest.raises(Unreachable, match="Connection refused"):
        patiently(engine.ask, closing, monotonic=engine.now)
    assert engine.asked == 1


def test_an_engine_that_refuses_for_good() -> None:
    engine = Engine(float("inf"), REFUSES)
    with pytest.raises(APIError, match="starting"):
        patiently(engine.ask, Event(), monotonic=engine.now, pause_seconds=0)
    assert engine.asked == REFUSAL_SECONDS + 1


def test_a_mistake_is_no_matter_of_time() -> None:
    engine = Engine(2, KeyError("label"))
    with pytest.raises(KeyError):
        patiently(engine.ask, Event(), monotonic=engine.now)
    assert engine.asked == 1
