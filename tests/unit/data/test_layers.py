"""Which file systems can hold layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.data.cache.overlay import can_hold_layers, file_system_of

MOUNTS = """\
overlay / overlay rw,relatime 0 0
/dev/vda /data ext4 rw 0 0
server:/x /data/shared nfs4 rw 0 0
tmpfs /with\\040space tmpfs rw 0 0
/dev/vdb /twice ext4 rw 0 0
server:/y /twice nfs4 rw 0 0
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/root", "overlay"),
        ("/data/state", "ext4"),
        ("/data/shared/state", "nfs4"),
        ("/database", "overlay"),
        ("/with space/state", "tmpfs"),
        ("/twice", "nfs4"),
    ],
)
def test_the_nearest_mount_decides(directory: str, kind: str) -> None:
    assert file_system_of(Path(directory), MOUNTS) == kind


def test_what_cannot_hold_layers(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda / ext4 rw 0 0\n")
    assert can_hold_layers(tmp_path, mounts)
    assert not can_hold_layers(tmp_path / "a,b", mounts)
    mounts.write_text("overlay / overlay rw 0 0\n")
    assert not can_hold_layers(tmp_path, mounts)
    assert not can_hold_layers(tmp_path, tmp_path / "none")
