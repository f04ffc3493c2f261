"""Jobs leave the backlog by priority, then in the order in which they came."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from emulator.model.scope import Scope
from emulator.resources.training import job_id
from emulator.workloads.run.backlog import Backlog

SCOPE = Scope("123456789012", "us-east-1")


def filled(*jobs: tuple[str, int]) -> Backlog:
    backlog = Backlog()
    for name, priority in jobs:
        backlog.add(job_id(SCOPE, name), priority)
    return backlog


def order(backlog: Backlog) -> list[str]:
    found = []
    while entry := backlog.pop():
        found.append(entry.key.name)
    return found


def test_priority_comes_before_arrival() -> None:
    assert order(filled(("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0))) == [*"bdaec"]


def test_a_job_that_was_taken_out_never_has_its_turn() -> None:
    backlog = filled(("a", 0), ("b", 0), ("c", 0))
    assert backlog.remove(job_id(SCOPE, "b"))
    assert not backlog.remove(job_id(SCOPE, "b"))
    assert job_id(SCOPE, "b") not in backlog
    assert len(backlog) == 2
    assert order(backlog) == ["a", "c"]


def test_a_name_that_comes_again_has_the_later_place() -> None:
    backlog = filled(("a", 0), ("b", 0))
    backlog.remove(job_id(SCOPE, "a"))
    backlog.add(job_id(SCOPE, "a"), 0)
    assert order(backlog) == ["b", "a"]


def test_whoever_leaves_has_no_timers() -> None:
    cancelled: list[str] = []
    backlog = Backlog()
    for name in "ab":
        timer: Any = SimpleNamespace(cancel=lambda name=name: cancelled.append(name))
        backlog.add(job_id(SCOPE, name), 0).timers.append(timer)
    backlog.remove(job_id(SCOPE, "b"))
    backlog.pop()
    assert cancelled == ["b", "a"]


def test_the_line_is_the_order_in_which_jobs_leave() -> None:
    backlog = filled(("a", 0), ("b", 5), ("c", 0))
    backlog.remove(job_id(SCOPE, "a"))
    assert [key.name for key in backlog.line()] == ["b", "c"]
    assert order(backlog) == ["b", "c"]
