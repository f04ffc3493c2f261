"""A job's log lines and status changes, in order, each one once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from emulator.cli.kinds import TRAINING, JobKind
from emulator.cli.remote import TERMINAL, Remote, pages
from emulator.model.errors import ApiError

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Line:
    """One log event."""

    host: str
    at: int
    """Epoch milliseconds."""
    text: str


@dataclass(frozen=True)
class Change:
    """A secondary status, or its message, that was not there before."""

    status: str
    message: str


class JobReader:
    """Remembers how far a job was read."""

    def __init__(self, remote: Remote, job: str, host: str | None = None, kind: JobKind = TRAINING):
        self._remote = remote
        self._kind = kind
        self._job = job
        self._host = host
        self._tokens: dict[str, str] = {}
        self._seen: set[tuple[int, str]] = set()

    def changes(self, described: dict[str, Any]) -> list[Change]:
        """Status messages that are new since the last call."""
        fresh = []
        for number, entry in enumerate(described.get("SecondaryStatusTransitions", ())):
            key = (number, entry.get("StatusMessage", ""))
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(Change(entry["Status"], key[1]))
        return fresh

    def lines(self) -> list[Line]:
        """All events that are new since the last call, oldest first."""
        fresh = [line for stream in self._streams() for line in self._read(stream)]
        # Stable: lines of one host keep their order within a millisecond.
        return sorted(fresh, key=lambda line: line.at)

    def follow(self, sleep: Callable[[float], None]) -> Iterator[Line | Change | dict[str, Any]]:
        """Lines and changes until the job ends; the last item is its final description."""
        while True:
            # Described before it is read: every line is readable before the status is an end.
            described = self._remote.describe(self._job, self._kind)
            yield from self.changes(described)
            yield from self.lines()
            if self._kind.status(described) in TERMINAL:
                yield described
                return
            sleep(POLL_SECONDS)

    def _streams(self) -> list[str]:
        wanted = {"logGroupName": self._kind.log_group, "logStreamNamePrefix": f"{self._job}/"}
        try:
            found = pages(
                self._remote.logs, "DescribeLogStreams", "logStreams", "nextToken", **wanted
            )
            names = [stream["logStreamName"] for stream in found]
        except ApiError as error:
            # The group appears with the first line of the first job.
            if error.code == "ResourceNotFoundException":
                return []
            raise
        chosen = [name for name in names if self._host in (None, host_of(name))]
        return sorted(chosen, key=lambda name: (len(host_of(name)), name))

    def _read(self, stream: str) -> Iterator[Line]:
        while True:
            position = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._remote.logs.call(
                "GetLogEvents",
                logGroupName=self._kind.log_group,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            for event in page["events"]:
                yield Line(host_of(stream), event["timestamp"], event["message"])
            token = page["nextForwardToken"]
            if token == self._tokens.get(stream) or not page["events"]:
                self._tokens[stream] = token
                return
            self._tokens[stream] = token


def host_of(stream: str) -> str:
    """algo-N of a stream name `<job>/algo-N-<epoch>`."""
    return stream.rsplit("/", 1)[-1].rsplit("-", 1)[0]
