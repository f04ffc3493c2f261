"""Where a container engine can put a writable layer above a directory."""

from __future__ import annotations

from pathlib import Path

_UPPER = frozenset({"btrfs", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})
"""File systems that may hold an overlay's upper layer; NFS and overlays themselves may not."""
_SEPARATORS = frozenset(",:\\")
"""Characters that mean something else in the options of an overlay."""


def can_hold_layers(directory: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether the kernel takes layers in `directory`, by the file system that it is on."""
    if _SEPARATORS & set(str(directory)):
        return False
    try:
        return file_system_of(directory.resolve(), mounts.read_text()) in _UPPER
    except OSError:
        return False


def file_system_of(directory: Path, mounts: str) -> str:
    """The type of the file system that `directory` is on; `mounts` as in proc(5). Pure."""
    found, depth = "", -1
    for line in mounts.splitlines():
        _, where, kind, *_ = line.split()
        point = Path(where.encode().decode("unicode_escape"))
        # The later one of two on the same directory hides the earlier one.
        if directory.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind, len(point.parts)
    return found
