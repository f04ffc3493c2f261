"""One container followed to its end, also across a restart of its engine."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import requests
from docker.client import DockerClient
from docker.errors import APIError, NotFound
from docker.types.daemon import CancellableStream
from urllib3.exceptions import HTTPError

from emulator.drivers.base import OutputSink
from emulator.drivers.docker.engine import ENGINE_GONE
from emulator.model.plan import Exit

log = logging.getLogger(__name__)

REMOVED = "The container was removed while it ran."
ENGINE_RESTARTED = "The Docker engine stopped while the container ran."
UNWATCHED = "The emulator failed while it watched the container, and ended it."
LEFT_ALONE = "Nobody waits for the container's end any more."

TROUBLE_SECONDS = 60.0
"""How long a container's output and state may make no sense before it is given up."""
_RETRY_SECONDS = 0.5
_SETTLE_SECONDS = 0.25
_SUSPICIONS = 8
_SIGKILLED = 137


class Watch:
    """Hands a container's output to the sink, then says how it ended."""

    def __init__(
        self,
        client: DockerClient,
        host: str,
        container: str,
        sink: OutputSink,
        closed: threading.Event,
        expected: threading.Event,
        received: int = 0,
        trouble_seconds: float = TROUBLE_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
    ):
        """`expected` is set once the container was told to end, `closed` once nobody listens."""
        self._client = client
        self._host = host
        self._container = container
        self._sink = sink
        self._closed = closed
        self._expected = expected
        self._received = received
        self._trouble_seconds = trouble_seconds
        self._retry_seconds = retry_seconds
        self._sink_failed = False
        self._attached: CancellableStream | None = None

    def attach(self) -> None:
        """Listen from the first byte on; the container must not have been started yet."""
        self._attached = self._client.api.attach(
            self._container, stdout=True, stderr=True, stream=True
        )

    def detach(self) -> None:
        """Give the connection back, if there is one."""
        if self._attached is not None:
            # Its own close() fails, and keeps the socket, once the engine has ended the stream.
            self._attached._response.close()
            self._attached = None

    def until_end(self) -> Exit:
        """Blocks until the container has ended. Never raises.

        An engine that is away is waited for, however long: the container may compute on, and
        holds its GPUs. Whatever else goes wrong is tried again for a while; then the container
        is killed, as an instance that nobody watches must not run on.
        """
        try:
            return self._until_end()
        except BaseException:
            log.exception("%s cannot be watched any more", self._host)
            self._kill()
            return self._lost(UNWATCHED)
        finally:
            self.detach()

    def _until_end(self) -> Exit:
        engine_left = False
        trouble_since: float | None = None
        while True:
            try:
                complete = self._pass_output_on()
                state = self._final_state()
                if state is not None and not complete:
                    self._read_log(follow=False)
                if state is not None:
                    return exit_of(self._host, state, ENGINE_RESTARTED if engine_left else "")
                trouble_since = None
            except NotFound:
                return self._lost(REMOVED)
            except Exception as error:
                if self._closed.is_set():
                    # detach() may have closed the stream under this thread.
                    return self._lost(LEFT_ALONE)
                if is_away(error):
                    if not engine_left:
                        log.warning("%s is out of sight: %s", self._host, error)
                    engine_left, trouble_since = True, None
                else:
                    # An engine that is shutting down may answer with errors.
                    engine_left = engine_left or isinstance(error, APIError)
                    now = time.monotonic()
                    trouble_since = now if trouble_since is None else trouble_since
                    if now - trouble_since > self._trouble_seconds:
                        raise
                    log.warning("%s is looked at again: %r", self._host, error)
                self.detach()
                self._closed.wait(self._retry_seconds)

    def _kill(self) -> None:
        try:
            self._client.api.kill(self._container, "SIGKILL")
        except Exception as error:  # noqa: BLE001 - it is removed by force with its job
            log.warning("%s could not be killed: %s", self._host, error)

    def _pass_output_on(self) -> bool:
        """Until the stream ends; True if it is sure to have been everything."""
        if self._attached is None:
            # An engine may end a followed log before its last lines (seen with 20.10).
            self._read_log(follow=True)
            return False
        for chunk in self._attached:
            self._hand_over(chunk)
        self.detach()
        return True

    def _read_log(self, *, follow: bool) -> None:
        """From the first byte not seen yet; the engine keeps all of them."""
        skip = self._received
        for chunk in self._client.api.logs(self._container, stream=True, follow=follow):
            if news := chunk[skip:]:
                self._hand_over(news)
            skip = max(0, skip - len(chunk))

    def _final_state(self) -> Mapping[str, Any] | None:
        """None if the container still runs (its engine went and came, and left it running)."""
        state: Mapping[str, Any] = self._client.api.inspect_container(self._container)["State"]
        if state["Running"]:
            self._closed.wait(_SETTLE_SECONDS)
            state = self._client.api.inspect_container(self._container)["State"]
        if not state["Running"] and state["ExitCode"] == _SIGKILLED and not state["OOMKilled"]:
            return self._killed_by_whom(state)
        return None if state["Running"] else state

    def _killed_by_whom(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """A kill that nobody asked for may be the first sign of something else.

        `docker rm --force` kills a container before it vanishes, an engine that shuts down
        before it falls silent: both then show here as an error.
        """
        for _ in range(_SUSPICIONS):
            if self._expected.is_set() or self._closed.wait(_SETTLE_SECONDS):
                break
            state = self._client.api.inspect_container(self._container)["State"]
        return state

    def _hand_over(self, news: bytes) -> None:
        self._received += len(news)
        if self._sink_failed or self._closed.is_set():
            return
        try:
            self._sink(self._host, news)
        except Exception:
            # Whatever is wrong with the sink, the job itself goes on.
            self._sink_failed = True
            log.exception("The output of %s is lost from here on", self._host)

    def _lost(self, reason: str) -> Exit:
        return Exit(self._host, 255, time.time(), lost=reason)


def is_away(error: Exception) -> bool:
    """Whether a call failed because the engine does not answer, or broke off its answer."""
    # What an answer says may also make no sense to the client: that is no matter of time.
    broken_answer = isinstance(error, requests.exceptions.JSONDecodeError)
    return isinstance(error, (*ENGINE_GONE, HTTPError)) and not broken_answer


def exit_of(host: str, state: Mapping[str, Any], lost: str = "") -> Exit:
    """An instance's end from the State of a ContainerInspect answer.

    `lost` says that the engine was away meanwhile; a command that ended well did so all
    the same.
    """
    code = int(state["ExitCode"])
    return Exit(
        host,
        code,
        epoch_of(state["FinishedAt"]),
        out_of_memory=bool(state["OOMKilled"]) and code != 0,
        lost=lost if code != 0 else "",
    )


def epoch_of(timestamp: str) -> float:
    """RFC 3339 with up to nine decimals, as the engine writes it, in epoch seconds."""
    whole, decimals, zone = re.fullmatch(r"([^.Z+]+)(?:\.(\d+))?(Z|[+-].*)", timestamp).groups()  # type: ignore[union-attr]
    moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return moment.timestamp() + float(f"0.{decimals or 0}")
