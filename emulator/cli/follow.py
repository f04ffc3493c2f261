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


class LogReader:
    """Remembers how far the streams of a log group were read."""

    def __init__(
        self,
        remote: Remote,
        group: str,
        prefix: str,
        host_of: Callable[[str], str],
        host: str | None = None,
    ):
        """`host_of` gives the instance of a stream; `host` is the only one that is wanted."""
        self._remote = remote
        self._group = group
        self._prefix = prefix
        self._host_of = host_of
        self._host = host
        self._tokens: dict[str, str] = {}

    def lines(self) -> list[Line]:
        """All events that are new since the last call, oldest first."""
        fresh = [line for stream in self._streams() for line in self._read(stream)]
        # Stable: lines of one host keep their order within a millisecond.
        return sorted(fresh, key=lambda line: line.at)

    def _streams(self) -> list[str]:
        wanted = {"logGroupName": self._group}
        if self._prefix:
            wanted["logStreamNamePrefix"] = self._prefix
        try:
            found = pages(
                self._remote.logs, "DescribeLogStreams", "logStreams", "nextToken", **wanted
            )
            names = [stream["logStreamName"] for stream in found]
        except ApiError as error:
            # The group of jobs appears with the first line of the first one.
            if error.code == "ResourceNotFoundException":
                return []
            raise
        chosen = [name for name in names if self._host in (None, self._host_of(name))]
        return sorted(chosen, key=lambda name: (len(self._host_of(name)), name))

    def _read(self, stream: str) -> Iterator[Line]:
        while True:
            position = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._remote.logs.call(
                "GetLogEvents",
                logGroupName=self._group,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            for event in page["events"]:
                yield Line(self._host_of(stream), event["timestamp"], event["message"])
            token = page["nextForwardToken"]
            if token == self._tokens.get(stream) or not page["events"]:
                self._tokens[stream] = token
                return
            self._tokens[stream] = token


class JobReader(LogReader):
    """Remembers how far a job was read."""

    def __init__(self, remote: Remote, job: str, host: str | None = None, kind: JobKind = TRAINING):
        super().__init__(remote, kind.log_group, f"{job}/", host_of, host)
        self._kind = kind
        self._job = job
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


def host_of(stream: str) -> str:
    """algo-N of a stream name `<job>/algo-N-<epoch>`."""
    return stream.rsplit("/", 1)[-1].rsplit("-", 1)[0]
