"""Mount a FUSE file system for a program that expects `fusermount3` and finds none.

Run as a script by an interpreter, in the place of that program; only root may do what it
does. It imports nothing of the emulator. The caller speaks as to the real one: options and
a directory as arguments, and a socket, named by `_FUSE_COMMFD`, over which it gets the
descriptor of /dev/fuse (fusermount3(1), mount_util of libfuse).
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import sys

_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
"""MS_RDONLY, MS_NOSUID, MS_NODEV."""
_DETACH = 2
"""MNT_DETACH: also what somebody still looks at."""
_PASSED_ON = ("allow_other", "default_permissions")


def mount(options: list[str], directory: str) -> int:
    """Mount; returns the descriptor that serves the file system. Raises OSError."""
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    named = dict(option.partition("=")[::2] for option in options)
    flags = _NO_SUID | _NO_DEVICES | (_READ_ONLY if "ro" in named else 0)
    data = [f"fd={descriptor}", "rootmode=40000", f"user_id={os.getuid()}"]
    data += [f"group_id={os.getgid()}", *(name for name in _PASSED_ON if name in named)]
    kind = f"fuse.{named['subtype']}" if "subtype" in named else "fuse"
    call = (named.get("fsname", "fuse"), directory, kind, flags, ",".join(data))
    _checked("mount", *call)
    return descriptor


def unmount(directory: str) -> None:
    """Raises OSError."""
    _checked("umount2", directory, _DETACH)


def main(arguments: list[str]) -> None:
    """What the real program does with these arguments."""
    if "-u" in arguments:
        unmount(arguments[-1])
        return
    options = arguments[arguments.index("-o") + 1].split(",") if "-o" in arguments else []
    descriptor = mount(options, arguments[-1])
    with socket.socket(fileno=int(os.environ["_FUSE_COMMFD"])) as caller:
        caller.sendmsg(
            [b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        )


def _checked(call: str, *arguments: str | int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [os.fsencode(each) if isinstance(each, str) else each for each in arguments]
    if getattr(libc, call)(*encoded) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"fusermount3: {error}")
