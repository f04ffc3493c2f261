"""Makes a job's network usable from outside; run as a script inside of it.

    python network_maker.py SOCKET PORT…

Opens what names the network and a listening socket a port, hands all of that over through
SOCKET (SCM_RIGHTS), and ends. A socket belongs to the network it was made in wherever its
descriptor goes, and a namespace lasts as long as somebody has a descriptor of it: so no
process has to stay behind, and nothing is left when the receiver ends.
"""

from __future__ import annotations

# Every job waits for this: the module `socket` would double the time.
import _socket
import os
import sys
from array import array

BACKLOG = 1024
NAMESPACES = ("user", "net")


def _listen(port: int) -> _socket.socket:
    listening = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(BACKLOG)
    return listening


def _main(receiver: int, ports: list[int]) -> None:
    namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    listeners = [_listen(port) for port in ports]
    descriptors = array("i", [*namespaces, *(listening.fileno() for listening in listeners)])
    with_rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)
    _socket.socket(fileno=receiver).sendmsg([b"!"], [with_rights])


if __name__ == "__main__":
    _main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]])
    os._exit(0)  # tidying up would only take time
