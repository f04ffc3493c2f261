"""ssh between the sandboxes of one job; run as a script by the job's own interpreter.

    python job_ssh.py sshd [-D …]                  serves port 22 of this instance
    python job_ssh.py ssh [OPTION…] HOST COMMAND…  runs a command on another one

mpirun's launchers start /usr/sbin/sshd and call ssh. OpenSSH's server wants to be root, to find its
user in /etc/passwd, and to write below /etc and /run; a sandbox's user is often none of that. So
paramiko, which the launchers themselves need, speaks the protocol. All instances of a job have the
same key, and a command gets the environment of the server, which is that of the launcher.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import paramiko

PORT = 22
_CHUNK = 32_768
_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
"""OpenSSH's options that take a value (ssh(1))."""
_LOST = 255
"""What ssh exits with when it cannot connect."""


def _key() -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key_file(str(Path.home() / ".ssh" / "id_ed25519"))


class _Server(paramiko.ServerInterface):
    def __init__(self, key: paramiko.PKey):
        self._key = key

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002
        return paramiko.AUTH_SUCCESSFUL if key == self._key else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        if kind == "session":
            return paramiko.OPEN_SUCCEEDED
        return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, os.fsdecode(command)), daemon=True).start()
        return True


def _execute(channel: paramiko.Channel, command: str) -> None:
    child = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path.home(),
        start_new_session=True,
    )
    assert child.stdin  # noqa: S101
    assert child.stdout  # noqa: S101
    assert child.stderr  # noqa: S101
    threading.Thread(target=_feed, args=(channel, child.stdin), daemon=True).start()
    readers = [
        threading.Thread(target=_pass_on, args=(child.stdout, channel.sendall)),
        threading.Thread(target=_pass_on, args=(child.stderr, channel.sendall_stderr)),
    ]
    for reader in readers:
        reader.start()
    code = child.wait()
    for reader in readers:
        reader.join()
    channel.send_exit_status(code if code >= 0 else 128 - code)
    channel.close()


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    try:
        while data := channel.recv(_CHUNK):
            stdin.write(data)
            stdin.flush()
        stdin.close()
    except (OSError, paramiko.SSHException):
        return  # the command reads no more


def _pass_on(source: IO[bytes], send: Callable[[bytes], object]) -> None:
    """All of it, also when nobody wants it any more: the command must not block."""
    wanted = True
    while data := os.read(source.fileno(), _CHUNK):
        try:
            if wanted:
                send(data)
        except (OSError, paramiko.SSHException):
            wanted = False


def _serve() -> None:
    # The instances of a job share a network: each listens on its own address alone.
    address = socket.gethostbyname(socket.gethostname())
    key = _key()
    with socket.create_server((address, PORT), backlog=1024) as listening:
        while True:
            connection, _ = listening.accept()
            transport = paramiko.Transport(connection)
            transport.daemon = True
            transport.add_server_key(key)
            threading.Thread(target=_greet, args=(transport, key), daemon=True).start()


def _greet(transport: paramiko.Transport, key: paramiko.PKey) -> None:
    try:
        transport.start_server(server=_Server(key))
    except (OSError, EOFError, paramiko.SSHException):
        transport.close()


def destination(words: Sequence[str]) -> tuple[str, str]:
    """Host and command of an ssh command line; options stand before and after the host."""
    left = _without_options(words)
    host, command = left[0], _without_options(left[1:])
    return host.rpartition("@")[2], " ".join(command)


def _without_options(words: Sequence[str]) -> Sequence[str]:
    while words and words[0].startswith("-"):
        value_follows = len(words[0]) == len("-p") and words[0][1] in _WITH_VALUE
        words = words[2 if value_follows else 1 :]
    return words


def _connect(words: Sequence[str]) -> int:
    host, command = destination(words)
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        try:
            client.connect(host, PORT, username="job", pkey=_key(), look_for_keys=False)
            channel = client.get_transport().open_session()
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as error:
            sys.stderr.write(f"ssh: connect to host {host} port {PORT}: {error}\n")
            return _LOST
        threading.Thread(target=_send_stdin, args=(channel,), daemon=True).start()
        errors = threading.Thread(
            target=_receive, args=(channel.recv_stderr, sys.stderr.buffer), daemon=True
        )
        errors.start()
        _receive(channel.recv, sys.stdout.buffer)
        errors.join()
        code = channel.recv_exit_status()
    return code if code >= 0 else _LOST


def _send_stdin(channel: paramiko.Channel) -> None:
    try:
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            channel.sendall(data)
        channel.shutdown_write()
    except (OSError, ValueError, paramiko.SSHException):
        return


def _receive(read: Callable[[int], bytes], target: IO[bytes]) -> None:
    while data := read(_CHUNK):
        target.write(data)
        target.flush()


if __name__ == "__main__":
    if sys.argv[1] == "sshd":
        _serve()
    else:
        sys.exit(_connect(sys.argv[2:]))
