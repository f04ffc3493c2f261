"""The instances of one job of the process runtime, from their start to the last byte."""

from __future__ import annotations

import logging
import os
import queue
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field

from emulator.model.errors import InternalServerError
from emulator.model.plan import Exit
from emulator.runtimes.base import OutputSink, Usage
from emulator.runtimes.process_instances import Instance
from emulator.runtimes.process_usage import usage_of_trees

_log = logging.getLogger(__name__)
_CHUNK = 65_536


@dataclass
class _Member:
    host: str
    instance: Instance
    reader: threading.Thread
    ended: float = 0.0
    gone: threading.Event = field(default_factory=threading.Event)

    def abandon(self) -> None:
        """End it, and let go of it, as soon as it has been started."""
        process = self.instance.process
        process.kill()
        process.wait()
        self.instance.release()
        if self.reader.ident is None and process.stdout:  # there is nobody else to close it
            process.stdout.close()


class ProcessFleet:
    """A Fleet (see base.py) of child processes of the emulator."""

    def __init__(
        self,
        starts: Mapping[str, Callable[[], Instance]],
        sink: OutputSink,
        clean: Callable[[], None],
    ):
        """Start all; `clean` runs once, after everything has ended. Raises JobError."""
        self._sink = sink
        self._clean = clean
        self._ended: queue.SimpleQueue[_Member] = queue.SimpleQueue()
        self._draining: _Member | None = None
        self._closed = False
        started: Future[None] = Future()
        self._members: list[_Member] = []
        # Instances die with the thread that started them (PR_SET_PDEATHSIG is about
        # threads), so one thread starts them and stays until the last one is gone.
        self._keeper = threading.Thread(
            target=self._keep, args=(starts, started), name="fleet", daemon=True
        )
        try:
            self._keeper.start()
        except RuntimeError as error:  # no more threads
            clean()
            raise _not_started(error) from error
        # Whatever goes wrong in there: the job's thread must never wait in vain.
        if failure := started.exception():
            self._keeper.join()
            clean()
            raise _not_started(failure) from failure

    def next_exit(self, timeout: float) -> Exit | None:
        deadline = time.monotonic() + timeout
        if self._draining is None:
            try:
                self._draining = self._ended.get(timeout=max(0.0, timeout))
            except queue.Empty:
                return None
        member = self._draining
        member.reader.join(max(0.0, deadline - time.monotonic()))
        if member.reader.is_alive():
            return None
        self._draining = None
        code = member.instance.process.returncode
        return Exit(
            host=member.host,
            code=128 - code if code < 0 else code,
            at=member.ended,
            lost=member.instance.lost(),
        )

    def terminate(self) -> None:
        for member in self._running():
            member.instance.terminate()

    def kill(self, host: str | None = None) -> None:
        for member in self._running():
            if host in (None, member.host):
                member.instance.kill()

    def usage(self) -> Mapping[str, Usage]:
        """See Measured in base.py."""
        return usage_of_trees(
            {member.host: member.instance.process.pid for member in self._running()}
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.kill()
        self._keeper.join()
        for member in self._members:
            member.reader.join()
            member.instance.release()
        self._clean()

    def _running(self) -> list[_Member]:
        return [member for member in self._members if not member.gone.is_set()]

    def _keep(self, starts: Mapping[str, Callable[[], Instance]], started: Future[None]) -> None:
        try:
            ends = self._start_all(starts)
        except BaseException as error:  # noqa: BLE001 - the top of this thread
            for member in self._members:
                member.abandon()
            started.set_exception(error)
            return
        started.set_result(None)
        with ends:
            self._watch(ends)

    def _start_all(self, starts: Mapping[str, Callable[[], Instance]]) -> selectors.DefaultSelector:
        """Start all; what it returns tells of each end.

        It is complete before anybody hears of the start: a job whose ends are not seen would
        go on until its time is up.
        """
        for host, start in starts.items():
            member = self._member(host, start())
            self._members.append(member)
            member.reader.start()
        with ExitStack() as held:
            ends = held.enter_context(selectors.DefaultSelector())
            for member in self._members:
                member.instance.started()
                descriptor = os.pidfd_open(member.instance.process.pid)
                held.callback(os.close, descriptor)
                ends.register(descriptor, selectors.EVENT_READ, member)
            held.pop_all()  # from here on each is closed at its end
            return ends

    def _member(self, host: str, instance: Instance) -> _Member:
        reader = threading.Thread(
            target=self._read, args=(host, instance), name=f"output of {host}", daemon=True
        )
        return _Member(host, instance, reader)

    def _watch(self, ends: selectors.DefaultSelector) -> None:
        """Note each end when it happens, until there is none to wait for."""
        while ends.get_map():
            for key, _ in ends.select():
                member = key.data
                member.ended = time.time()
                member.instance.process.wait()
                ends.unregister(key.fileobj)
                os.close(key.fd)
                member.gone.set()
                self._ended.put(member)

    def _read(self, host: str, instance: Instance) -> None:
        """Hand over everything the instance writes; ends when nobody can write any more."""
        pipe = instance.process.stdout
        assert pipe is not None  # noqa: S101 - every instance is started with one
        with pipe:
            try:
                while chunk := os.read(pipe.fileno(), _CHUNK):
                    self._sink(host, chunk)
            except Exception:  # noqa: BLE001 - the top of this thread
                _log.exception("The output of %s is lost from here on", host)
                while os.read(pipe.fileno(), _CHUNK):
                    pass  # a full pipe would stop the script


def _not_started(error: BaseException) -> InternalServerError:
    return InternalServerError(f"An instance could not be started: {error}")
