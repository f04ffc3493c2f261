"""A start that fails late; no engine is needed to see what is left of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.drivers.docker import driver as docker
from emulator.drivers.docker.driver import DockerRuntime
from emulator.model.errors import InternalServerError


class Fleet:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_containers_that_cannot_be_told_to_begin_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet()

    class Started(DockerRuntime):
        """Its containers run already."""

        def __init__(self) -> None:
            self._lock_memory = False
            self._client: Any = None
            self._host: Any = SimpleNamespace(files={})
            self._keepers: Any = SimpleNamespace(place=lambda *_: None)

        def _placement(self, *_: Any) -> Any:
            return None

        def _create(self, *_: Any, **__: Any) -> Any:
            return {}

        def _fleet(self, *_: Any) -> Any:
            return fleet

        def _start(self, *_: Any) -> None: ...

    monkeypatch.setattr(docker, "job_request", lambda *_: None)
    monkeypatch.setattr(docker, "check_gpus", lambda *_: None)
    monkeypatch.setattr(docker, "_tell", lambda *_: None)
    monkeypatch.setattr(docker, "_runs", lambda _: [tmp_path / "gone"])
    plan: Any = SimpleNamespace(arn="arn", network_isolation=False)
    with pytest.raises(InternalServerError, match="No such file"):
        Started().launch(plan, lambda *_: None)
    assert fleet.closed == 1
