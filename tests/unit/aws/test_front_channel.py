"""Messages between the emulator's processes where files or bytes are lost on the way."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from emulator.aws.front.channel import connection_of, pair, read


def test_a_process_that_can_open_no_more_files_gets_the_message_without_them() -> None:
    mine, its = pair()
    with mine, its:
        socket.send_fds(mine, [b'{"connection": 0}'], [mine.fileno(), its.fileno()])
        before = len(list(Path("/proc/self/fd").iterdir()))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            message, files = read(its)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (message, files) == ({"connection": 0}, [])
        assert connection_of(files) is None
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_of_two_files_is_closed() -> None:
    file = os.open(os.devnull, os.O_RDONLY)
    assert connection_of([file]) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_message_that_is_cut_leaves_no_file_open() -> None:
    mine, its = pair()
    with mine, its, Path(os.devnull).open("rb") as file:
        socket.send_fds(mine, [b'{"connection": '], [file.fileno()])
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ValueError, match="Expecting value"):
            read(its)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
