"""A network of a job's own: its instances, the emulator, a way out for HTTP, and nothing else.

It is a network namespace (network_namespaces(7)) with a loopback interface and, where the kernel
can make one, an eth0 that leads nowhere: scripts that name the service's interface find it.
Whatever comes in from outside is a socket that was made inside and is served here.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MAKER = Path(__file__).with_name("network_maker.py")
_DIALER = Path(__file__).with_name("network_dialer.py")
_SECONDS = 20.0
TRIES = 5
"""While mounts of other programs go; see mount_went()."""
_MOST = 8
"""Descriptors that one message may carry."""


@dataclass(frozen=True)
class JobNetwork:
    """Descriptors of this process alone: the network is gone when it ends."""

    user: int | None
    """The user namespace the network belongs to; None for root, who needs none."""
    net: int
    listeners: tuple[socket.socket, ...]
    """Sockets on the network's 127.0.0.1 that listen on the ports asked for, in this order."""
    nsenter: str
    """The program that enters it."""

    @property
    def entry(self) -> tuple[str, ...]:
        """What comes before a command that this process starts to have it run inside."""
        return entry(self.nsenter, str(os.getpid()), self.user, self.net)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What another process must have to enter it."""
        return (self.net,) if self.user is None else (self.user, self.net)

    def close(self) -> None:
        """Let go of it; it lasts until its last process and connection are gone."""
        for listening in self.listeners:
            listening.close()
        os.close(self.net)
        if self.user is not None:
            os.close(self.user)


def entry(nsenter: str, pid: str, user: int | None, net: int) -> tuple[str, ...]:
    """What enters a network whose descriptors a process of this user has."""
    # By their place in that process: an instance must not inherit the descriptors.
    place = f"/proc/{pid}/fd"
    owner = () if user is None else (f"--user={place}/{user}",)
    return (nsenter, *owner, "--preserve-credentials", f"--net={place}/{net}", "--")


class Dialer:
    """Connects to what listens inside of a network that a process of this user has."""

    def __init__(self, pid: int, user: int | None, net: int):
        """`user` and `net` are descriptors of that process."""
        self._words = entry(_find_nsenter(), str(pid), user, net)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None
        self._closed = False

    def dial(self, port: int) -> socket.socket:
        """A connection to a port of the network's loopback interface. Raises OSError.

        The first one takes the time to start a process inside.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.ENETDOWN, "the network is gone")
            ours = self._ours or self._start()
            try:
                ours.send(str(port).encode())
                told, descriptors, _, _ = socket.recv_fds(ours, 16, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                self._end()  # the next call starts another one
                raise
            if not told:
                self._end()
                raise OSError(errno.ENETDOWN, "the network cannot be entered")
        if told != b"+":
            raise OSError(int(told), os.strerror(int(told)))
        return socket.socket(fileno=descriptors[0])

    def close(self) -> None:
        """End the process inside; no more connections can be made."""
        with self._lock:
            self._closed = True
            self._end()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._child = subprocess.Popen(
                    [*self._words, sys.executable, "-I", "-S", str(_DIALER), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        ours.settimeout(_SECONDS)
        self._ours = ours
        return ours

    def _end(self) -> None:
        """Only under the lock."""
        child, self._child = self._child, None
        ours, self._ours = self._ours, None
        if ours:
            ours.close()
        if child:
            child.kill()
            child.wait()


def enter_network(pid: int, user: int | None, net: int, ports: Sequence[int]) -> JobNetwork:
    """A network that a process of this user has, with new listening sockets on these ports.

    Raises OSError.
    """
    nsenter = _find_nsenter()
    command = [*entry(nsenter, str(pid), user, net), sys.executable, "-I", "-S", str(_MAKER)]
    return _made(command, "", ports, user is not None, nsenter)


def address_of(number: int) -> str:
    """The address on eth0 of an instance by its number, from 1 on.

    Of the block for tests of networks (RFC 2544), which no real one uses: scripts can reach
    whatever the machine itself does, through the proxy.
    """
    return f"198.18.{number // 256}.{number % 256}"


def make_network(
    bwrap: Path, user_namespace: bool, ports: Sequence[int], addresses: Sequence[str] = ()
) -> JobNetwork:
    """A new network, with an eth0 if there are addresses for it. Takes about 20 ms.

    Raises OSError where there can be none, or no eth0 in it.

    bubblewrap makes it and brings its loopback interface up, in a user namespace of its
    own where this user needs one: an ordinary user keeps his number inside.
    """
    sandbox = [str(bwrap), "--unshare-net", "--dev-bind", "/", "/", "--die-with-parent"]
    if user_namespace:  # whose number is not root's inside
        sandbox += ["--unshare-user", "--cap-add", "CAP_NET_BIND_SERVICE"]
        sandbox += ["--cap-add", "CAP_NET_ADMIN"] if addresses else []
    maker = [*sandbox, "--", sys.executable, "-I", "-S", str(_MAKER)]
    nsenter, tries = _find_nsenter(), TRIES
    while True:
        tries -= 1
        try:
            return _made(maker, ",".join(addresses), ports, user_namespace, nsenter)
        except OSError as error:
            if not (tries and mount_went(str(error))):
                raise


def mount_went(complaint: str) -> bool:
    """Whether bubblewrap failed for a mount that went while it took over all of the machine's.

    Those of containers come and go; it works the next time.
    """
    return "Unable to apply mount flags" in complaint


def _find_nsenter() -> str:
    nsenter = shutil.which("nsenter")
    if nsenter is None:
        raise OSError("nsenter (of util-linux) is not installed")
    return nsenter


def _made(
    maker: Sequence[str], addresses: str, ports: Sequence[int], user_namespace: bool, nsenter: str
) -> JobNetwork:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [*maker, str(theirs.fileno()), addresses, *map(str, ports)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        user, net, *sockets = _receive(ours, child)
        listeners = tuple(socket.socket(fileno=number) for number in sockets)
        if not user_namespace:
            os.close(user)
        return JobNetwork(user if user_namespace else None, net, listeners, nsenter)


def _receive(ours: socket.socket, child: subprocess.Popen[bytes]) -> list[int]:
    """The descriptors that the child sends. Raises OSError."""
    ours.settimeout(_SECONDS)
    try:
        # Closed on exec from the first moment on: other threads start programs, too.
        _, descriptors, _, _ = socket.recv_fds(ours, 1, _MOST, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        child.kill()
        raise
    finally:
        complaint = child.communicate()[1].decode(errors="replace").strip()
    if not descriptors:
        raise OSError(complaint or f"exit code {child.returncode}")
    return descriptors
