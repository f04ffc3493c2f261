"""MetricDefinitions: the values that a training job writes into its output.

The scan runs this file as a program in a process of its own (see metric_scan.py): Python holds
its interpreter lock while a regular expression is matched, and one that backtracks for ever
would stop the whole emulator. It imports nothing but the standard library for that reason.
"""

from __future__ import annotations

import json
import math
import re
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TextIO

LINE_BYTES = 16 * 1024
"""How much of a line is searched: the time of some patterns grows with the square of it."""
SLOW_SECONDS = 0.05
"""Processor time after which a search is given up; twice as long in the worst case."""
PATIENCE = 10
"""After so many searches that were given up, a definition is not applied any more."""

_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z])")
_LINE_ENDS = re.compile(rb"[\r\n]")


class TooSlow(Exception):
    """A regular expression took too long on one line."""


def compile_metric(pattern: str) -> re.Pattern[str]:
    """The regular expression of a MetricDefinition; raises ValueError.

    Python's, as in the examples of AWS's documentation; groups may be named `(?<name>…)`, too.
    """
    try:
        return re.compile(_NAMED_GROUP.sub("(?P<", pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def values_in(pattern: re.Pattern[str], line: str) -> list[float]:
    """What group 1 of every match says, as the service keeps it: in single precision (seen).

    Text that is not a finite number is no value: CloudWatch takes neither NaN nor Infinity.
    """
    if not pattern.groups:
        return []
    found = (_single(match[1]) for match in pattern.finditer(line))
    return [value for value in found if value is not None]


def _single(text: str | None) -> float | None:
    if not text or "_" in text:  # a digit separator to Python alone
        return None
    try:
        (value,) = struct.unpack("f", struct.pack("f", float(text)))
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


class MetricScanner:
    """Finds the values in the output of a job's instances, however it is cut into pieces."""

    def __init__(
        self,
        patterns: Sequence[str],
        search: Callable[[re.Pattern[str], str], list[float]] = values_in,
    ):
        """`search` may raise TooSlow."""
        self._patterns: list[re.Pattern[str] | None] = [compile_metric(text) for text in patterns]
        self._search = search
        self._given_up = [0] * len(patterns)
        self._rests: dict[str, bytes] = {}

    def feed(self, host: str, data: bytes) -> Iterator[tuple[int, float]]:
        """The next bytes of an instance: the number of a definition, and a value of it.

        A carriage return ends a line, too: progress bars write their values before it.
        """
        *lines, rest = _LINE_ENDS.split(self._rests.get(host, b"") + data)
        self._rests[host] = rest[:LINE_BYTES]
        for line in lines:
            if line:
                yield from self._values(line[:LINE_BYTES].decode("utf-8", "replace"))

    def finish(self, host: str) -> Iterator[tuple[int, float]]:
        """The instance has ended; its last line may lack its end."""
        yield from self.feed(host, b"\n")

    def forget(self, host: str) -> None:
        """What follows does not continue the line that was begun."""
        self._rests.pop(host, None)

    def dropped(self) -> list[int]:
        """The definitions that are too slow to be applied any more."""
        return [number for number, pattern in enumerate(self._patterns) if pattern is None]

    def _values(self, line: str) -> Iterator[tuple[int, float]]:
        for number, pattern in enumerate(self._patterns):
            if pattern is None:
                continue
            try:
                found = self._search(pattern, line)
            except TooSlow:
                self._given_up[number] += 1
                if self._given_up[number] >= PATIENCE:
                    self._patterns[number] = None
                continue
            for value in found:
                yield number, value


class Watchdog:
    """Gives up searches that take long, by a timer that ticks with this process's work.

    Python looks for signals while it matches. Only for the main thread, as a context: a timer
    that is left ticking kills the process as soon as nobody handles its signal any more.
    """

    def __init__(self) -> None:
        self._search = 0
        self._seen = 0
        self._busy = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Watchdog:
        self._before = signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, SLOW_SECONDS, SLOW_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)

    def search(self, pattern: re.Pattern[str], line: str) -> list[float]:
        """`values_in`; raises TooSlow."""
        self._search += 1
        self._busy = True
        try:
            return values_in(pattern, line)
        finally:
            self._busy = False

    def _tick(self, *_: object) -> None:
        if self._busy and self._search == self._seen:
            raise TooSlow
        self._seen = self._search


def scan(source: BinaryIO, target: TextIO) -> None:
    """Answer each record of the source with a line of JSON until there are no more.

    The first line is the list of patterns. A record is a line of JSON `[kind, host, length]`
    and as many bytes; the kinds are `data`, `finish` and `forget`. An answer is
    `[[number, value], …]`, with a second list of the definitions dropped by then.
    """
    with Watchdog() as watchdog:
        scanner = MetricScanner(json.loads(source.readline()), watchdog.search)
        while header := source.readline():
            kind, host, length = json.loads(header)
            data = source.read(length)
            found: list[tuple[int, float]] = []
            if kind == "forget":
                scanner.forget(host)
            else:
                found = list(scanner.finish(host) if kind == "finish" else scanner.feed(host, data))
            json.dump([found, scanner.dropped()], target)
            target.write("\n")
            target.flush()


if __name__ == "__main__":
    scan(sys.stdin.buffer, sys.stdout)
