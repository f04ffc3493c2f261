"""What S3 has of a running job's files, written down and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.data.checkpoints.mirror import Killed, Memory
from emulator.data.checkpoints.plan import Stamp
from emulator.workloads.transfers.checkpoint_sync import Entries, Journal


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    memory = Memory({"step": Stamp(1, 2, 3)}, {"step"})
    for killed in (None, {}, {"algo-1": Killed(1, 2)}):
        entries = Entries({"checkpoints": {"algo-1": memory}}, killed)
        Journal(tmp_path / "sync.json").save(entries)
        assert Journal(tmp_path / "sync.json").load() == entries


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"killed": null}',
        '{"memories": {"checkpoints": 1}, "killed": null}',
        '{"memories": {"checkpoints": {"algo-1": {}}}, "killed": null}',
        '{"memories": {"c": {"algo-1": {"known": {"step": {"x": 2}}, "made": []}}}, "killed": {}}',
        '{"memories": {}, "killed": {"algo-1": {}}}',
    ],
)
def test_a_foreign_journal_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sync.json").write_text(text)
    assert Journal(tmp_path / "sync.json").load() is None
