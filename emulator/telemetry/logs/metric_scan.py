"""The metrics of one job, found beside its log and never in its way."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

BACKLOG_BYTES = 32 * 1024 * 1024
"""Output that waits to be searched; what comes beyond it is not searched at all."""
FINISH_SECONDS = 30.0
"""How long the end of a job may wait for the search of its last output."""

_PROGRAM = Path(__file__).with_name("metric_definitions.py")
_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A value in the output."""

    definition: int
    """Its place in MetricDefinitions."""
    value: float
    at: float
    """Epoch seconds at which the output came."""
    host: str
    """The instance that wrote it."""


class _Record(NamedTuple):
    kind: str
    host: str
    data: bytes
    at: float


class MetricScan:
    """Searches a job's output in a process of its own; see metrics.py for why."""

    def __init__(
        self,
        patterns: Sequence[str],
        found: Callable[[list[Found]], None],
        dropped: Callable[[int], None],
        clock: Callable[[], float],
    ):
        """`found` takes values as they come, `dropped` each definition that proves too slow.

        Both are called from a thread of the scan. Raises OSError.
        """
        self._found = found
        self._dropped = dropped
        self._clock = clock
        self._lock = Lock()
        self._waiting = 0
        self._gaps: set[str] = set()
        self.lost_bytes = 0
        """Output that came too fast to be searched."""
        self._records: SimpleQueue[_Record | None] = SimpleQueue()
        self._sent: SimpleQueue[tuple[float, str]] = SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._threads = [
            Thread(target=self._send, args=(patterns,), name="metrics out", daemon=True),
            Thread(target=self._receive, name="metrics in", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def feed(self, host: str, data: bytes) -> None:
        """The next bytes of an instance; returns at once."""
        with self._lock:
            if self._waiting + len(data) > BACKLOG_BYTES:
                self.lost_bytes += len(data)
                self._gaps.add(host)
                return
            if host in self._gaps:
                # Half a line would be taken for a whole one, and half a number as well.
                _, newline, data = data.partition(b"\n")
                if not newline:
                    return
                self._gaps.discard(host)
                self._records.put(_Record("forget", host, b"", 0))
            self._waiting += len(data)
        self._records.put(_Record("data", host, data, self._clock()))

    def finish(self, host: str) -> None:
        """The instance has ended."""
        self._records.put(_Record("finish", host, b"", self._clock()))

    def close(self) -> None:
        """Every value has been handed over when this returns, unless that takes too long."""
        self._records.put(None)
        for thread in self._threads:
            thread.join(FINISH_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            _log.warning("The search for metrics did not end in time")
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def _send(self, patterns: Sequence[str]) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was started with one
        try:
            with pipe:
                pipe.write(json.dumps(list(patterns)).encode() + b"\n")
                while record := self._records.get():
                    self._sent.put((record.at, record.host))
                    header = [record.kind, record.host, len(record.data)]
                    pipe.write(json.dumps(header).encode() + b"\n" + record.data)
                    pipe.flush()
                    with self._lock:
                        self._waiting -= len(record.data)
        except OSError:
            _log.exception("The search for metrics ended early")

    def _receive(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - it was started with one
        known: set[int] = set()
        with pipe:
            for line in pipe:
                found, dropped = json.loads(line)
                at, host = self._sent.get()
                try:
                    if found:
                        self._found([Found(number, value, at, host) for number, value in found])
                    for number in dropped:
                        if number not in known:
                            known.add(number)
                            self._dropped(number)
                except Exception:  # noqa: BLE001 - the top of this thread
                    _log.exception("Metrics of a training job are lost")
