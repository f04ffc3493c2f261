"""The instances of one job of the process runtime, as the emulator follows them.

They are held by the process of supervisor.py. Here their output and their ends are read
from its files, so that it makes no difference which emulator has started them.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from emulator.drivers.base import OutputSink, Usage, dial
from emulator.drivers.process.job_network import Dialer
from emulator.drivers.process.records import Record, open_process, send, wait_for_end
from emulator.drivers.process.sandbox import Scratch
from emulator.drivers.process.usage import usage_of_trees
from emulator.drivers.tunnel import LOOPBACK
from emulator.model.plan import Exit

_log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_LOOK_SECONDS = 0.02
_KILLED = 137
_END_SECONDS = 10.0
"""What the ends of killed instances may take until they are known."""


class _Member:
    """One instance."""

    def __init__(self, host: str, told: Mapping[str, object], output: Path, offset: int):
        self.host = host
        self.pid: int = told["pid"][0]  # type: ignore[index]
        self.sandboxed = bool(told["sandboxed"])
        self.end: Exit | None = None
        self.told = False
        """Its end has been handed on."""
        # First: without its file there is nothing to give back.
        self._output = os.open(output, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self._output, offset, os.SEEK_SET)
        self.child = open_process(told["pid"])  # type: ignore[arg-type]
        self.first = open_process(told["first"])  # type: ignore[arg-type]

    def signal(self, number: int) -> None:
        if not self.sandboxed:
            # bare_child.py ends all that the command has started at this signal.
            send(self.child, signal.SIGUSR2 if number == signal.SIGKILL else number)
        elif self.first is not None:
            send(self.first, number)
        elif number == signal.SIGKILL:
            # Not otherwise: bubblewrap would die of it, and take the script along unasked.
            send(self.child, number)

    def read(self) -> bytes:
        return os.read(self._output, _CHUNK)

    def close(self) -> None:
        for descriptor in (self.child, self.first, self._output):
            if descriptor is not None:
                os.close(descriptor)


class ProcessFleet:
    """A Fleet (see base.py); it can be left, and taken over."""

    def __init__(
        self,
        record: Record,
        exits: Path,
        sink: OutputSink,
        let_go: Callable[[], None],
        remove: Callable[[], None],
        received: Mapping[str, int] | None = None,
        dialer: Dialer | None = None,
    ):
        """Follow the instances of a record.

        `received` tells how many bytes of each one's output are known. `let_go` gives back what
        this process holds of them, `remove` what is left of them once they have ended. `dialer`
        reaches them; without one they are on this machine's own network. Raises OSError, and
        RuntimeError where there can be no more threads.
        """
        self._dialer = dialer
        self._sink = sink
        self._let_go = let_go
        self._remove = remove
        self._exits = exits
        self._exits_read = 0
        self._late: list[Exit] = []
        """Those that ended because nobody had ended them in time."""
        self._asked = threading.Event()
        self._ended: queue.SimpleQueue[Exit] = queue.SimpleQueue()
        self._left = threading.Event()
        self._closed = False
        self._supervisor = open_process(record.supervisor)
        self._members: dict[str, _Member] = {}
        try:
            for host, told in record.instances.items():
                output = Scratch(Path(record.scratches[host])).output
                offset = (received or {}).get(host, 0)
                self._members[host] = _Member(host, told, output, offset)
            self._follower = threading.Thread(target=self._follow, name="fleet", daemon=True)
            self._follower.start()
        except BaseException:
            self._close_descriptors()
            raise

    def next_exit(self, timeout: float) -> Exit | None:
        try:
            return self._ended.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def terminate(self) -> None:
        self._asked.set()
        for member in self._running():
            member.signal(signal.SIGTERM)

    def kill(self, host: str | None = None) -> None:
        if host is None:
            self._asked.set()
        for member in self._running():
            if host in (None, member.host):
                member.signal(signal.SIGKILL)

    def dial(self, host: str, port: int) -> socket.socket:  # noqa: ARG002 - they share one network
        """See Reachable in base.py."""
        if self._dialer:
            return self._dialer.dial(port)
        return dial(LOOPBACK, port)

    def usage(self) -> Mapping[str, Usage]:
        """See Measured in base.py."""
        return usage_of_trees({member.host: member.pid for member in self._running()})

    def leave(self) -> None:
        """See Leavable in base.py."""
        if self._closed:
            return
        self._closed = True
        self._left.set()
        self._follower.join()
        self._let_go()
        self._close_descriptors()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.kill()
        self._follower.join(_END_SECONDS)
        if self._follower.is_alive():
            # Their ends cannot be written down on a full disk, and nobody needs them any more.
            send(self._supervisor, signal.SIGKILL)
            self._follower.join()
        for descriptor in (self._supervisor, *(m.child for m in self._members.values())):
            if descriptor is not None:
                wait_for_end(descriptor)
        self._let_go()
        self._close_descriptors()
        self._remove()

    def _running(self) -> list[_Member]:
        return [member for member in self._members.values() if member.end is None]

    def _close_descriptors(self) -> None:
        if self._dialer:
            self._dialer.close()
        for member in self._members.values():
            member.close()
        if self._supervisor is not None:
            os.close(self._supervisor)
            self._supervisor = None

    def _follow(self) -> None:
        """Hand on what the instances write, and each end once all before it is handed on."""
        try:
            while not self._left.is_set() and not all(m.told for m in self._members.values()):
                gone = self._supervisor_is_gone()
                self._read_exits()
                if gone:
                    self._note_lost()
                if not self._hand_on():
                    self._pause(gone)
        except Exception as error:  # noqa: BLE001 - the top of this thread: it owes each end
            _log.exception("The instances cannot be followed any more")
            for member in self._members.values():
                if not member.told:
                    member.signal(signal.SIGKILL)
                    end = Exit(member.host, _KILLED, time.time(), lost=f"not followed: {error}")
                    member.end, member.told = end, True
                    self._ended.put(end)

    def _hand_on(self) -> bool:
        """Whether there was anything."""
        any_output = False
        for member in self._members.values():
            if member.told:
                continue
            ended = member.end is not None
            if chunk := member.read():
                any_output = True
                self._feed(member, chunk)
            elif ended and member.end:
                member.told = True
                self._ended.put(member.end)
        return any_output

    def _feed(self, member: _Member, chunk: bytes) -> None:
        try:
            self._sink(member.host, chunk)
        except Exception:  # noqa: BLE001 - what one instance writes is no other's affair
            _log.exception("The output of %s is lost here", member.host)

    def _read_exits(self) -> None:
        with suppress(FileNotFoundError), self._exits.open("rb") as file:
            file.seek(self._exits_read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._exits_read += len(line)
                if not line.strip():
                    continue
                told = json.loads(line)
                end = Exit(told["host"], told["code"], told["at"], lost=told["lost"])
                if told["late"]:
                    self._late.append(end)
                else:
                    self._members[end.host].end = end
        # That their time was up is not how they failed: it is told to who ends them for it.
        while self._late and self._asked.is_set():
            end = self._late.pop()
            self._members[end.host].end = end

    def _note_lost(self) -> None:
        """Their supervising process was killed, and they died with it."""
        late = {end.host for end in self._late}
        for member in self._running():
            if member.host in late:
                continue
            why = "the process that supervised it was killed"
            member.end = Exit(member.host, _KILLED, time.time(), lost=why)

    def _supervisor_is_gone(self) -> bool:
        return self._supervisor is None or wait_for_end(self._supervisor, 0)

    def _pause(self, gone: bool) -> None:
        if self._supervisor is None or gone:
            self._left.wait(_LOOK_SECONDS)
            return
        wait_for_end(self._supervisor, _LOOK_SECONDS)
