"""When a file was made: `os.stat` does not tell it on Linux, statx(2) does."""

from __future__ import annotations

import ctypes
import struct

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_SIZE = 256
_MASK = struct.Struct("=I")
_BIRTH = struct.Struct("=qI")
_BIRTH_OFFSET = 80

# None in a C library without it.
_statx = getattr(ctypes.CDLL(None), "statx", None)


def birth_of(descriptor: int) -> int | None:
    """The time of an open file's creation (ns since the epoch); None where it is not known."""
    if _statx is None:
        return None
    answer = ctypes.create_string_buffer(_SIZE)
    if _statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer) != 0:
        return None
    if not _MASK.unpack_from(answer)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(answer, _BIRTH_OFFSET)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
