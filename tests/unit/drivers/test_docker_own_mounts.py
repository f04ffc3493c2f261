from __future__ import annotations

from pathlib import Path

from emulator.drivers.docker.own_mounts import OwnMounts

MOUNTS = OwnMounts.of(
    [
        {"Type": "bind", "Source": "/home/me/project", "Destination": "/project"},
        {"Type": "bind", "Source": "/srv/state", "Destination": "/project/state"},
        {"Type": "tmpfs", "Source": "", "Destination": "/tmp"},
    ]
)


def test_the_nearest_mount_counts() -> None:
    assert MOUNTS.outside(Path("/project/state/jobs")) == Path("/srv/state/jobs")
    assert MOUNTS.outside(Path("/project/train.py")) == Path("/home/me/project/train.py")
    assert MOUNTS.inside(Path("/srv/state/jobs")) == Path("/project/state/jobs")


def test_what_is_not_mounted_has_the_same_path() -> None:
    assert MOUNTS.outside(Path("/tmp/x")) == MOUNTS.inside(Path("/tmp/x")) == Path("/tmp/x")
    assert MOUNTS.outside(Path("/projects")) == Path("/projects")
    assert OwnMounts().outside(Path("/a")) == Path("/a")


def test_the_way_back_leads_to_the_same_place() -> None:
    for path in (Path("/project"), Path("/project/state/a/b"), Path("/elsewhere")):
        assert MOUNTS.inside(MOUNTS.outside(path)) == path
