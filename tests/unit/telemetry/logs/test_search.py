"""Many streams as one sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.model.scope import Scope
from emulator.telemetry.logs.search import search
from emulator.telemetry.logs.streams import LogPage, LogStore

SCOPE = Scope("123456789012", "us-east-1")


class CountingStore(LogStore):
    """Counts the events that are read."""

    read = 0

    def forward(self, *args: Any, **options: Any) -> LogPage:
        page = super().forward(*args, **options)
        self.read += len(page.events)
        return page


def test_of_many_streams_only_a_few_events_are_in_memory(tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    names = [f"job-{number}/algo-1" for number in range(100)]
    for name in names:
        writer = store.writer(SCOPE, "group", name)
        writer.write_all(["x"] * 200, 1)
        writer.close()
    page = search(store, SCOPE, "group", names, lambda _: True, limit=1)
    assert [found.stream for found in page.found] == [names[0]]
    assert store.read <= 100 * 100
    store.read = 0
    page = search(store, SCOPE, "group", names[:1], lambda _: True, limit=1)
    assert store.read == 200


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b.", "a/b.c", "ü", "a%2F", "A", "a/b.c.d"])
def test_streams_by_the_start_of_their_names(tmp_path: Path, prefix: str) -> None:
    store = LogStore(tmp_path)
    names = ["a", "a%2Fb", "a-b", "a/b.c", "a/b.log", "b", "ü/1"]
    for name in names:
        store.writer(SCOPE, "group", name).close()
    found = store.stream_names(SCOPE, "group", prefix)
    assert found == [name for name in sorted(names) if name.startswith(prefix)]
