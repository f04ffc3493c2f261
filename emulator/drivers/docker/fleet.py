"""The containers of one running job: their output, their ends, their removal."""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from docker.client import DockerClient
from docker.errors import APIError, DockerException, NotFound

from emulator.drivers.base import OutputSink, Unreachable, Usage, dial
from emulator.drivers.docker.engine import ENGINE_GONE, side_by_side
from emulator.drivers.docker.ownership import hand_over
from emulator.drivers.docker.retry import patiently
from emulator.drivers.docker.usage import usage_in
from emulator.drivers.docker.watch import Watch
from emulator.model.plan import Exit

_RESEND_SECONDS = 1.0
_REFUSAL_SECONDS = 10.0
log = logging.getLogger(__name__)


class DockerFleet:
    """See `Fleet`; each container has a thread that follows it to its end."""

    def __init__(
        self,
        client: DockerClient,
        labels: list[str],
        containers: Mapping[str, str],
        sink: OutputSink,
        run_dirs: Sequence[Path] = (),
        received: Mapping[str, int] | None = None,
        *,
        foreign_root: bool = False,
        closing: threading.Event | None = None,
    ):
        """`labels` find all that belongs to the job, `containers` are its ids by host.

        `foreign_root`: root in the containers is not the emulator's own user. `closing` is
        set when the emulator ends; until then an engine that is away is waited for.
        """
        self._closing = closing or threading.Event()
        self._to_hand_over = foreign_root
        self._client = client
        self._labels = labels
        self._run_dirs = run_dirs
        self._containers = containers
        self._addresses: dict[str, str] = {}
        """By host, once somebody has asked for it."""
        self._sink = sink
        self._exits: queue.SimpleQueue[Exit] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._kill_sent = threading.Event()
        self._undelivered: dict[str, str] = {}
        """Signals that have not reached their instances, by host."""
        self._sent_at = 0.0
        self._threads: dict[str, threading.Thread] = {}
        self._watches = {
            host: Watch(
                client,
                host,
                container,
                sink,
                self._closed,
                self._kill_sent,
                (received or {}).get(host, 0),
            )
            for host, container in containers.items()
        }

    def attach(self, host: str) -> None:
        """Listen to the container of this host, which is about to be started."""
        self._watches[host].attach()

    def watch(self, host: str) -> None:
        """Follow the container of this host, which has been started."""
        watch = self._watches[host]
        thread = threading.Thread(
            target=lambda: self._exits.put(watch.until_end()), name=f"watch {host}", daemon=True
        )
        thread.start()
        self._threads[host] = thread

    def ended_at_once(self, host: str, code: int, reason: str) -> None:
        """The command of this host could not even be executed."""
        self._sink(host, f"{reason}\n".encode())
        self._exits.put(Exit(host, code, time.time()))

    def next_exit(self, timeout: float) -> Exit | None:
        if self._undelivered and time.monotonic() - self._sent_at >= _RESEND_SECONDS:
            self._send()
        try:
            return self._exits.get(timeout=timeout)
        except queue.Empty:
            return None

    @property
    def out_of_reach(self) -> bool:
        """See OutOfReach in base.py."""
        return bool(self._undelivered)

    def terminate(self) -> None:
        self._signal("SIGTERM")

    def kill(self, host: str | None = None) -> None:
        self._kill_sent.set()
        self._signal("SIGKILL", host)

    def dial(self, host: str, port: int) -> socket.socket:
        """See Reachable in base.py."""
        address = self._addresses.get(host)
        if address is None:
            address = self._addresses[host] = self._address_of(host)
        return dial(address, port)

    def _address_of(self, host: str) -> str:
        """On the job's own network. Raises OSError where the container has none now."""
        try:
            found = self._client.api.inspect_container(self._containers[host])
        except DockerException as error:
            raise OSError(errno.EHOSTUNREACH, f"{host} cannot be looked at: {error}") from error
        networks = found["NetworkSettings"]["Networks"].values()
        address = next((one["IPAddress"] for one in networks if one.get("IPAddress")), None)
        if address is None:
            raise OSError(errno.EHOSTUNREACH, f"{host} has no address")
        return str(address)

    def usage(self) -> Mapping[str, Usage]:
        """See Measured in base.py."""
        found = {}
        for host, thread in self._threads.items():
            if not thread.is_alive():
                continue
            try:
                stats = self._client.api.stats(self._containers[host], stream=False, one_shot=True)
            except (DockerException, *ENGINE_GONE) as error:  # also an engine that is too old
                log.debug("%s cannot be measured: %s", host, error)
                continue
            if usage := usage_in(stats):
                found[host] = usage
        return found

    def hand_over(self) -> None:
        """See HandsOver in base.py."""
        if not self._to_hand_over:
            return
        ended = not any(thread.is_alive() for thread in self._threads.values())
        _try_hand_over(self._client, self._containers.values(), self._closing)
        # What still ran may have written more since.
        self._to_hand_over = not ended

    def close(self) -> None:
        self._closed.set()
        if self._to_hand_over:
            self.kill()  # nothing is written any more
            self.hand_over()
        try:
            remove_in_time(self._client, self._labels, self._closing)
        except Unreachable as error:
            log.warning("Containers of a job are left to the next emulator: %s", error)
        for thread in self._threads.values():
            thread.join(timeout=5)
        for watch in self._watches.values():
            watch.detach()
        for directory in self._run_dirs:
            shutil.rmtree(directory, ignore_errors=True)

    def leave(self) -> None:
        """See Leavable in base.py: what the containers say from now on stays in the engine."""
        self._closed.set()
        for watch in self._watches.values():
            watch.detach()

    def _signal(self, signal: str, only: str | None = None) -> None:
        hosts = self._containers if only is None else [only]
        self._undelivered.update(dict.fromkeys(hosts, signal))
        self._send()

    def _send(self) -> None:
        """What cannot be delivered now is sent again by next_exit()."""
        self._sent_at = time.monotonic()
        for host, signal in tuple(self._undelivered.items()):
            thread = self._threads.get(host)
            try:
                if thread and thread.is_alive():
                    self._client.api.kill(self._containers[host], signal)
            except APIError as error:
                log.debug("%s has ended before %s: %s", host, signal, error)
            except ENGINE_GONE as error:
                log.warning("%s did not get %s yet: %s", host, signal, error)
                return
            del self._undelivered[host]


def end_job(client: DockerClient, labels: list[str], closing: threading.Event) -> None:
    """Kill what runs of a job and give what it has written to this process's user."""
    containers = _ids(client, labels)
    for container in containers:
        with contextlib.suppress(APIError):  # it has ended before
            client.api.kill(container)
    _try_hand_over(client, containers, closing)


def remove_in_time(client: DockerClient, labels: list[str], closing: threading.Event) -> None:
    """Remove what has these labels, as soon as the engine answers.

    What is left when the engine refuses is found by its labels at the next start, as it is
    when the emulator ends before: that raises Unreachable.
    """
    try:
        patiently(lambda: remove_job(client, labels), closing, _REFUSAL_SECONDS)
    except DockerException as error:
        log.warning("Containers of a job are left behind: %s", error)


def _try_hand_over(
    client: DockerClient, containers: Iterable[str], closing: threading.Event
) -> None:
    containers = tuple(containers)
    try:
        patiently(lambda: hand_over(client, containers), closing, 0)
    except (DockerException, Unreachable) as error:
        # So it is for an image without a shell.
        log.warning("What containers wrote as root stays root's: %s", error)


def _ids(client: DockerClient, labels: list[str]) -> list[str]:
    found = client.api.containers(all=True, filters={"label": labels})
    return [container["Id"] for container in found]


def remove_job(client: DockerClient, labels: list[str]) -> None:
    """Remove every container, network and volume that has these labels; kills what runs."""
    side_by_side(lambda container: _remove(client, container), _ids(client, labels))
    for network in client.api.networks(filters={"label": labels}):
        _remove_network(client, network["Id"])
    for volume in client.api.volumes(filters={"label": labels})["Volumes"] or ():
        with contextlib.suppress(NotFound):
            client.api.remove_volume(volume["Name"], force=True)


def _remove(client: DockerClient, container: str) -> None:
    with contextlib.suppress(NotFound):
        try:
            client.api.remove_container(container, v=True, force=True)
        except APIError as error:
            # 409: somebody else is removing it at this moment.
            if error.status_code != 409:
                raise


def _remove_network(client: DockerClient, network: str) -> None:
    with contextlib.suppress(NotFound):
        # What is on it still is the emulator's own container, if it runs in one.
        for container in client.api.inspect_network(network).get("Containers") or {}:
            with contextlib.suppress(NotFound):
                client.api.disconnect_container_from_network(container, network, force=True)
        client.api.remove_network(network)
