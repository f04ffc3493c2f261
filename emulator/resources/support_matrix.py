"""What becomes of the members of a request: acted on, kept and shown, or refused.

A resource has one table. A row speaks for its member and for everything below it that has no
row of its own. docs/coverage.md is made from the tables, and a job's log names the members that
its request has in vain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Treatment(str, Enum):
    """What the emulator does with a member."""

    ACTS = "acts"
    """It has the effect that it has at AWS."""
    ECHOES = "echoes"
    """It is kept and shown, and has no effect."""
    REFUSES = "refuses"
    """A request with it is answered with an error that names it."""


@dataclass(frozen=True)
class Member:
    """One row; `path` has `[]` after the name of every list."""

    path: str
    treatment: Treatment
    note: str
    quiet: bool = False
    """Nothing is missed when it has no effect, so no log speaks of it."""


def acts(path: str, note: str) -> Member:
    """A member with the effect that it has at AWS."""
    return Member(path, Treatment.ACTS, note)


def echoes(path: str, note: str, quiet: bool = False) -> Member:
    """A member that is kept and shown; `note` says why it has no effect."""
    return Member(path, Treatment.ECHOES, note, quiet)


def refuses(path: str, note: str) -> Member:
    """A member that is refused; `note` says why."""
    return Member(path, Treatment.REFUSES, note)


class SupportMatrix:
    """The table of one operation's members."""

    def __init__(self, table: tuple[Member, ...]):
        self.table = table
        self._rows = {member.path: member for member in table}

    def member_at(self, path: str) -> Member | None:
        """The row that speaks for a path; None if the table has forgotten it."""
        while path:
            if path in self._rows:
                return self._rows[path]
            path = path.rpartition(".")[0]
        return None

    def in_vain(self, request: Mapping[str, Any]) -> list[str]:
        """The members that this request has without effect, each with the reason."""
        return [
            f"{member.path.replace('[]', '')} ({member.note})"
            for member in self.table
            if member.treatment is Treatment.ECHOES
            and not member.quiet
            and any(
                _means_something(self._without_rows_below(member.path, value))
                for value in _values(request, member.path.split("."))
            )
        ]

    def _without_rows_below(self, path: str, value: Any) -> Any:
        """What the row speaks for: members with rows of their own are not its affair."""
        if not isinstance(value, Mapping):
            return value
        return {name: item for name, item in value.items() if f"{path}.{name}" not in self._rows}


def told(named: list[str]) -> tuple[str, ...]:
    """The line of the job's log that names what its request has in vain, or none."""
    if not named:
        return ()
    return (f"Kept, but without effect in sagemaker-emulator: {', '.join(named)}.",)


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
        return
    name, rest = path[0], path[1:]
    found = value.get(name.removesuffix("[]")) if isinstance(value, Mapping) else None
    for item in found if name.endswith("[]") and isinstance(found, list) else [found]:
        yield from _values(item, rest)


def _means_something(value: Any) -> bool:
    """Whether it asks for anything: the SDKs send switches that are off and empty lists."""
    if isinstance(value, Mapping):
        if value.get("DisableProfiler") is True:
            return False
        return any(map(_means_something, value.values()))
    if isinstance(value, list):
        return any(map(_means_something, value))
    return bool(value)
