"""What the supervising process writes down of instances that may have ended already."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emulator.drivers.process import supervisor


def test_a_first_process_that_has_ended_already_is_none(tmp_path: Path) -> None:
    """bubblewrap waits for it: a command that ends at once is gone before it is looked at."""
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    child: Any = SimpleNamespace(host="algo-1", pid=os.getpid(), first=ended.pid, status=1)
    place = tmp_path / "record.json"
    supervisor._write_record({"told": {}, "record": str(place)}, [child])
    (told,) = json.loads(place.read_text())["instances"].values()
    assert told["first"] is None
    assert told["pid"] == [os.getpid(), supervisor.birth(os.getpid())]
