from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from emulator.data.state_lock import StateLock
from emulator.drivers.process.shared_memory import SharedMemory
from emulator.model.errors import SetupError
from emulator.parts import build, listen
from emulator.settings import Settings


def test_a_second_emulator_touches_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        state_dir=tmp_path / "state", s3_endpoint="http://127.0.0.1:9", runtime="process"
    )
    settings.state_dir.mkdir()
    monkeypatch.setattr(StateLock, "take", partial(StateLock.take, wait=0.0))
    swept: list[Path] = []
    monkeypatch.setattr(SharedMemory, "__init__", lambda _, state_dir: swept.append(state_dir))
    first = StateLock.take(settings.state_dir / "emulator.lock")
    try:
        with ExitStack() as resources, pytest.raises(SetupError, match="Another emulator"):
            build(settings, "http://127.0.0.1:4570", lambda _: lambda: None, resources)
    finally:
        first.release()
    assert swept == []


def test_a_port_that_becomes_free_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port)
        threading.Timer(0.1, holder.close).start()
        listen("127.0.0.1", port, patience=60).close()
