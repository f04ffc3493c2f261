"""What the outside wants of a running job."""

from __future__ import annotations

from threading import Event, Lock

from emulator.model.run_record import Reason


class CancelToken:
    """Told by any thread, listened to by the job's own."""

    def __init__(self) -> None:
        self.end = Event()
        """The job shall end early; whatever waits or loads data listens to it."""
        self.reason: Reason | None = None
        """The first reason that was given: a shutdown does not undo a stop."""
        self.leaves = False
        """At the emulator's end, instances that can go on without it do."""
        self.at_once = False
        """Nobody waits for what the instances do after SIGTERM."""
        self._lock = Lock()
        self._call = Event()
        self._shutdown = Event()
        self._away: float | None = None

    def stop(self, reason: Reason = Reason.STOP) -> None:
        with self._lock:
            self.reason = self.reason or reason
            if reason is Reason.SHUTDOWN:
                self._shutdown.set()
            self._call.set()
            self.end.set()

    @property
    def hurry(self) -> bool:
        """The emulator itself is going down."""
        return self._shutdown.is_set()

    def until_shutdown(self, seconds: float) -> bool:
        """Wait, whatever else is wanted of the job; True as soon as the emulator goes down."""
        return self._shutdown.wait(seconds)

    def shut_down(self, leaves: bool) -> None:
        self.leaves = leaves
        self.stop(Reason.SHUTDOWN)

    def interrupt(self, away: float) -> None:
        """Take the spot instances away; there are new ones after `away` seconds."""
        with self._lock:
            self._away = away
            self._call.set()

    def take_interruption(self) -> float | None:
        """Seconds without spot capacity, if the instances are taken away; told once."""
        with self._lock:
            away, self._away = self._away, None
            if not self.end.is_set():
                self._call.clear()
            return away

    def calls(self) -> bool:
        """Does the job have to leave what it is doing?"""
        return self._call.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait; True as soon as the job has to leave what it is doing."""
        return self._call.wait(seconds)
