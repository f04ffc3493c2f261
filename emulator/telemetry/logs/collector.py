"""Turns what the instances of a job write into events of their log streams."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from emulator.model.errors import ResourceNotFound
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.telemetry.logs.streams import LogStore, LogWriter

MAX_MESSAGE_BYTES = 256 * 1024 - 26
"""What fits in one event, less its 26 bytes of overhead (CloudWatch Logs quotas)."""
PARTIAL_SECONDS = 5.0
"""A line without an end, such as a progress bar, is shown after this long."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
"""All but the newline, at which lines are split."""
_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Looks at the output beside the log; nothing of it may block but `close`."""

    def feed(self, host: str, data: bytes) -> None:
        """The next bytes of an instance, as they came."""
        ...

    def finish(self, host: str) -> None:
        """The instance has ended; may be said more than once."""
        ...

    def close(self) -> None:
        """Nothing comes any more; may be called more than once."""
        ...


@dataclass
class _Instance:
    writer: LogWriter
    received: int = 0
    """Bytes of its output that came, those of an emulator before this one included."""
    lock: Lock = field(default_factory=Lock)
    rest: bytes = b""
    """What came after the last newline."""
    rest_since: float = 0.0
    lost: int = 0
    """Lines that the disk did not take since it last took one."""


class LineCollector:
    """The log streams of a set of instances, one an instance, open from its start to its end."""

    def __init__(
        self,
        store: LogStore,
        scope: Scope,
        group: str,
        streams: Mapping[str, str],
        label: str,
        clock: Callable[[], float],
        go_on: bool = False,
    ):
        """Make the streams (name by host), also those that stay empty: clients wait until there
        is one for every instance.

        `label` is what errors call it all; `clock` gives epoch seconds. `go_on`: where an earlier
        emulator left off.
        """
        self._clock = clock
        self._label = label
        self._lost_some = False
        self._observers: list[Observer] = []
        self._instances: dict[str, _Instance] = {}
        for host, name in streams.items():
            known = go_on and store.path(scope, group, name).exists()
            received = store.received(scope, group, name) if known else 0
            self._instances[host] = _Instance(store.writer(scope, group, name), received)

    @property
    def received(self) -> dict[str, int]:
        """By host, how many bytes of its output came."""
        return {host: instance.received for host, instance in self._instances.items()}

    def observe(self, observer: Observer) -> None:
        """Show the output to somebody else, too; to be called before the first of it."""
        self._observers.append(observer)

    def feed(self, host: str, data: bytes) -> None:
        """The next bytes of an instance; whole lines are readable when this returns."""
        for observer in self._observers:
            observer.feed(host, data)
        instance = self._instances[host]
        with instance.lock:
            waited = bool(instance.rest)
            instance.received += len(data)
            lines, newline, instance.rest = (instance.rest + data).rpartition(b"\n")
            if newline or not waited:
                instance.rest_since = self._clock()
            if newline:
                self._write_output(instance, lines)
            while len(instance.rest) > MAX_MESSAGE_BYTES:
                cut = _character_start(instance.rest, MAX_MESSAGE_BYTES)
                piece, instance.rest = instance.rest[:cut], instance.rest[cut:]
                self._write_output(instance, piece)

    def say(self, host: str, message: str) -> None:
        """A line of the emulator's own in an instance's stream."""
        instance = self._instances[host]
        with instance.lock:
            self._write(instance, message.splitlines())

    def say_all(self, message: str) -> None:
        """The same line in every instance's stream."""
        for host in self._instances:
            self.say(host, message)

    def flush_stale(self) -> None:
        """Show unfinished lines that have been waiting for PARTIAL_SECONDS."""
        due = self._clock() - PARTIAL_SECONDS
        for instance in self._instances.values():
            with instance.lock:
                if instance.rest and instance.rest_since <= due:
                    cut = _character_start(instance.rest, len(instance.rest))
                    self._flush(instance, cut)

    def finish(self, host: str) -> None:
        """The instance has ended: its last line may lack its end."""
        instance = self._instances[host]
        with instance.lock:
            self._flush(instance, len(instance.rest))
        for observer in self._observers:
            observer.finish(host)

    def close(self) -> None:
        """Finish every stream; everything said and fed is readable afterwards."""
        for host in self._instances:
            self.finish(host)
        for observer in self._observers:
            # Before the streams, as it may have something to say in them.
            observer.close()
        for instance in self._instances.values():
            instance.writer.close()

    def leave(self) -> None:
        """Write nothing more: the instances go on, and so will whoever comes after."""
        for observer in self._observers:
            observer.close()
        for instance in self._instances.values():
            with instance.lock:
                instance.writer.close()

    def _flush(self, instance: _Instance, cut: int) -> None:
        piece, instance.rest = instance.rest[:cut], instance.rest[cut:]
        if piece:
            self._write_output(instance, piece)
        instance.rest_since = self._clock()

    def _write_output(self, instance: _Instance, piece: bytes) -> None:
        self._write(instance, _messages(piece), instance.received - len(instance.rest))

    def _write(self, instance: _Instance, messages: list[str], received: int | None = None) -> None:
        if not messages:
            return
        gap = [f"{instance.lost} lines are missing here."] if instance.lost else []
        try:
            instance.writer.write_all([*gap, *messages], int(self._clock() * 1000), received)
        except OSError as error:
            # A full disk must not take the job down with its logs, nor fill a terminal.
            if not self._lost_some:
                self._lost_some = True
                _log.error("%s: lines of its log are lost: %s", self._label, error)
            instance.lost += len(messages)
        else:
            instance.lost = 0


def job_lines(
    store: LogStore, spec: WorkloadSpec, clock: Callable[[], float], go_on: bool = False
) -> LineCollector:
    """The streams `<name>/<host>-<epoch seconds>` of a job.

    `go_on`: the newest ones that it has, where an earlier emulator left off.
    """
    scope, group = spec.scope, spec.kind.log_group
    started = int(clock())
    streams = {}
    for host in (each.name for each in spec.hosts):
        prefix = f"{spec.name}/{host}-"
        earlier = _newest(store, scope, group, prefix) if go_on else None
        streams[host] = earlier or f"{prefix}{started}"
    return LineCollector(store, scope, group, streams, spec.label, clock, go_on)


def notice(store: LogStore, spec: WorkloadSpec, message: str, clock: Callable[[], float]) -> None:
    """A line of the emulator's own in the streams of a workload that no collector serves.

    Streams are made for its instances when it has none. Raises OSError.
    """
    scope, group, job = spec.scope, spec.kind.log_group, spec.name
    try:
        names = store.stream_names(scope, group, f"{job}/")
    except ResourceNotFound:
        names = []
    for name in names or [f"{job}/{host.name}-{int(clock())}" for host in spec.hosts]:
        with closing(store.writer(scope, group, name)) as writer:
            writer.write(message, int(clock() * 1000))


def _newest(store: LogStore, scope: Scope, group: str, prefix: str) -> str | None:
    """The job's stream with this beginning that was made last; its name ends in when."""
    try:
        names = store.stream_names(scope, group, prefix)
    except ResourceNotFound:
        return None
    # Anybody may have made others that begin alike, with PutLogEvents.
    made = [name for name in names if re.fullmatch(r"[0-9]{1,18}", name.removeprefix(prefix))]
    return max(made, key=lambda name: int(name.removeprefix(prefix)), default=None)


def _messages(lines: bytes) -> list[str]:
    """Lines as the service shows them: control characters as `#ooo`, a tab as `#011` (seen).

    All lines of a chunk are decoded at once: a burst is mostly this work.
    """
    text = _CONTROL.sub(lambda match: f"#{ord(match[0]):03o}", lines.decode("utf-8", "replace"))
    messages = text.split("\n")
    if len(text) * 4 <= MAX_MESSAGE_BYTES:
        return messages
    return [piece for message in messages for piece in _pieces(message)]


def _pieces(message: str) -> list[str]:
    """A message in parts that fit in one event each."""
    if len(message) * 4 <= MAX_MESSAGE_BYTES:
        return [message]
    data = message.encode()
    pieces = []
    while len(data) > MAX_MESSAGE_BYTES:
        cut = _character_start(data, MAX_MESSAGE_BYTES)
        pieces.append(data[:cut].decode())
        data = data[cut:]
    return [*pieces, data.decode()]


def _character_start(data: bytes, limit: int) -> int:
    """The last place up to `limit` that does not cut a UTF-8 character in two."""
    for cut in range(limit, max(limit - 4, 0), -1):
        lead = data[cut - 1]
        if lead < 0x80:
            return cut
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return cut if cut - 1 + length <= limit else cut - 1
    return limit
