"""ssh between sandboxes, as far as it needs no network."""

from __future__ import annotations

import shlex

import pytest

pytest.importorskip("paramiko")

from emulator.drivers.process.job_ssh import destination


@pytest.mark.parametrize(
    ("line", "host", "command"),
    [
        ("algo-2 touch /tmp/done", "algo-2", "touch /tmp/done"),
        ("-x algo-2 'orted -mca a b; exit'", "algo-2", "orted -mca a b; exit"),
        ("-o BatchMode=yes -p 22 root@algo-3 true", "algo-3", "true"),
        ("-p22 -oBatchMode=yes algo-1 -n -l job ls -la /", "algo-1", "ls -la /"),
    ],
)
def test_what_is_asked_of_whom(line: str, host: str, command: str) -> None:
    assert destination(shlex.split(line)) == (host, command)
