"""Makes connections inside a job's network; run as a script inside of it.

    python network_dialer.py SOCKET

Each message on SOCKET (SOCK_SEQPACKET) is a port; the answer is "+" with a connection to that port
of the network's 127.0.0.1 (SCM_RIGHTS), or the number of an error. Ends with the other end.
A socket belongs to the network it was made in wherever its descriptor goes.
"""

from __future__ import annotations

# The first request of an endpoint waits for this: the module `socket` would double the time.
import _socket
import os
import sys
from array import array

_SECONDS = 0.25
"""In which a container has to accept a connection (developer guide)."""


def _connect(port: int) -> _socket.socket:
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_SECONDS)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(None)  # whoever gets the descriptor shares its flags
    except BaseException:
        connection.close()
        raise
    return connection


def _main(asked: _socket.socket) -> None:
    while message := asked.recv(16):
        try:
            connection = _connect(int(message))
        except TimeoutError:
            asked.sendmsg([b"110"])  # ETIMEDOUT; this error has no number
        except OSError as error:
            asked.sendmsg([str(error.errno).encode()])
        else:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [connection.fileno()]))
            asked.sendmsg([b"+"], [rights])
            connection.close()


if __name__ == "__main__":
    _main(_socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # tidying up would only take time
