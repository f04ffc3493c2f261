"""What S3 has of a running job's files, written down and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.jobs.syncing import Journal
from emulator.storage.mirror import Memory
from emulator.storage.sync import Stamp


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    memory = Memory({"step": Stamp(1, 2, 3)}, {"step"})
    Journal(tmp_path / "sync.json").save({"checkpoints": {"algo-1": memory}})
    loaded = Journal(tmp_path / "sync.json").load()
    assert loaded == {"checkpoints": {"algo-1": memory}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"checkpoints": 1}',
        '{"checkpoints": {"algo-1": {}}}',
        '{"checkpoints": {"algo-1": {"known": {"step": {"other": 2}}, "made": []}}}',
    ],
)
def test_a_foreign_journal_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sync.json").write_text(text)
    assert Journal(tmp_path / "sync.json").load() == {}
