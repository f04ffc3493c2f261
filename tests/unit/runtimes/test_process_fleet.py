from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.model.errors import InternalServerError
from emulator.runtimes.process_fleet import ProcessFleet
from emulator.runtimes.process_instances import Bare, Instance, Sandboxed


class Started:
    """Starts real processes, and knows them."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.released = 0

    def sleeper(self) -> Instance:
        test = self

        class Watched(Bare):
            def release(self) -> None:
                test.released += 1

        self.instances.append(Watched(["/bin/sleep", "60"], {}))
        return self.instances[-1]


def refusal(starts: dict[str, Callable[[], Instance]]) -> tuple[list[BaseException], list[str]]:
    """What making such a fleet raises, and what was cleaned; fails where it takes for ever."""
    raised: list[BaseException] = []
    cleaned: list[str] = []

    def make() -> None:
        try:
            ProcessFleet(starts, lambda *_: None, lambda: cleaned.append("all"))
        except InternalServerError as error:
            raised.append(error)

    # Not in this thread: a fleet that nobody finishes would hang the test.
    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    maker.join(30)
    assert not maker.is_alive(), "the job would wait for ever"
    return raised, cleaned


def test_whatever_a_start_raises_is_the_jobs_failure() -> None:
    started = Started()
    raised, cleaned = refusal(
        {"algo-1": started.sleeper, "algo-2": lambda: Bare(["/bin/echo", "a\0b"], {})}
    )
    assert "could not be started" in str(raised[0])
    assert cleaned == ["all"]
    assert started.instances[0].process.returncode is not None
    assert started.released == 1


def test_an_end_that_could_not_be_seen_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.pidfd_open", no_more)
    started = Started()
    raised, cleaned = refusal({"algo-1": started.sleeper})
    assert "Too many open files" in str(raised[0])
    assert cleaned == ["all"]
    assert started.instances[0].process.returncode is not None


def test_a_word_with_a_nul_becomes_no_option_of_the_sandbox() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ValueError, match="NUL"):
        Sandboxed(Path("/bin/true"), ["--setenv", "A", "1\0--bind\0/\0/host"], ["true"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
