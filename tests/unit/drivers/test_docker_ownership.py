from __future__ import annotations

import os

import pytest

from emulator.drivers.docker.ownership import handover, wanted


@pytest.mark.parametrize(
    ("user", "options", "expected"),
    [
        (1000, ["name=seccomp,profile=default"], True),
        (1000, ["name=seccomp,profile=default", "name=rootless"], False),
        (0, [], False),
    ],
)
def test_only_where_root_is_somebody_else(
    monkeypatch: pytest.MonkeyPatch, user: int, options: list[str], expected: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert wanted(options) is expected


def test_what_the_containers_could_write_is_handed_over() -> None:
    mounts = [
        {"Source": "/jobs/b", "RW": True},
        {"Source": "/data", "RW": False},
        {"Source": "/jobs/a", "RW": True},
    ]
    labels = {"job": "fit", "sagemaker-emulator.host": "algo-1"}
    container = {"Image": "sha256:1", "Mounts": mounts, "Config": {"Labels": labels}}
    assert handover([container, container], "1000:100") == {
        "Image": "sha256:1",
        "User": "0",
        "Entrypoint": ["/bin/sh", "-c", 'exec chown -R "$@"', "/bin/sh"],
        "Cmd": ["1000:100", "/handover/0", "/handover/1"],
        "Labels": {"job": "fit"},
        "HostConfig": {
            "NetworkMode": "none",
            "UsernsMode": "host",
            "Mounts": [
                {"Type": "bind", "Source": "/jobs/a", "Target": "/handover/0"},
                {"Type": "bind", "Source": "/jobs/b", "Target": "/handover/1"},
            ],
        },
    }


def test_nothing_writable_needs_no_container() -> None:
    assert handover([], "1000:100") is None
