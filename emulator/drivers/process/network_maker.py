"""Makes a job's network usable, and usable from outside; run as a script inside of it.

    python network_maker.py SOCKET ADDRESSES PORT…

Makes the interface eth0 with these addresses (separated by commas; "" for no interface), opens
what names the network and a listening socket a port, hands all of that over through SOCKET
(SCM_RIGHTS), and ends. A socket belongs to the network it was made in wherever its descriptor
goes, and a namespace lasts as long as somebody has a descriptor of it: so no process has to
stay behind, and nothing is left when the receiver ends.
"""

from __future__ import annotations

# Every job waits for this: the module `socket` would double the time.
import _socket
import os
import sys
from array import array
from struct import pack, unpack_from

BACKLOG = 1024
NAMESPACES = ("user", "net")
INTERFACE = "eth0"
_PEER = "eth0-peer"
_PREFIX = 16

# linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, veth.h
_NETLINK_ROUTE = 0
_NEWLINK, _NEWADDR = 16, 20
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_NAME, _LINK_INFO, _INFO_KIND, _INFO_DATA, _VETH_PEER = 3, 18, 1, 2, 1
_ADDRESS, _LOCAL = 1, 2
_UP = 1


def _attribute(kind: int, value: bytes) -> bytes:
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _ask(kernel: _socket.socket, kind: int, body: bytes, more: int = 0) -> None:
    flags = _REQUEST | _ACK | more
    kernel.send(pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body)
    (error,) = unpack_from("=i", kernel.recv(4096), 16)
    if error:
        raise OSError(-error, f"the interface {INTERFACE}: {os.strerror(-error)}")


def _make_interface(addresses: list[str]) -> None:
    """A pair of interfaces of which one has the addresses; both ends stay in this network."""
    kernel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_ROUTE)
    new = _CREATE | _EXCLUSIVE
    peer = _attribute(_VETH_PEER, _link() + _attribute(_NAME, _PEER.encode() + b"\0"))
    kind = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, peer)
    name = _attribute(_NAME, INTERFACE.encode() + b"\0")
    _ask(kernel, _NEWLINK, _link() + name + _attribute(_LINK_INFO, kind), new)
    index = _socket.if_nametoindex(INTERFACE)
    # One end cannot be up before there is the other.
    for end in (index, _socket.if_nametoindex(_PEER)):
        _ask(kernel, _NEWLINK, _link(end, _UP))
    for address in map(_socket.inet_aton, addresses):
        which = pack("=BBBBi", _socket.AF_INET, _PREFIX, 0, 0, index)
        body = which + _attribute(_LOCAL, address) + _attribute(_ADDRESS, address)
        _ask(kernel, _NEWADDR, body, new)
    kernel.close()


def _link(index: int = 0, flags: int = 0) -> bytes:
    return pack("=BBHiII", 0, 0, 0, index, flags, flags)


def _open_low_ports() -> None:
    """Let every user listen on port 22, as in Docker's networks (moby, libnetwork)."""
    try:
        setting = os.open("/proc/sys/net/ipv4/ip_unprivileged_port_start", os.O_WRONLY)
        os.write(setting, b"0")
    except OSError:
        return  # read-only in a container; only launchers with an sshd need it


def _listen(port: int) -> _socket.socket:
    listening = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(BACKLOG)
    return listening


def _main(receiver: int, addresses: list[str], ports: list[int]) -> None:
    if addresses:
        _make_interface(addresses)
    _open_low_ports()
    namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    listeners = [_listen(port) for port in ports]
    descriptors = array("i", [*namespaces, *(listening.fileno() for listening in listeners)])
    with_rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)
    _socket.socket(fileno=receiver).sendmsg([b"!"], [with_rights])


if __name__ == "__main__":
    _main(
        int(sys.argv[1]),
        [address for address in sys.argv[2].split(",") if address],
        [int(port) for port in sys.argv[3:]],
    )
    os._exit(0)  # tidying up would only take time
