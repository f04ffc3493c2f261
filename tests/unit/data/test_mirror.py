"""What a mirror does with directories that it cannot look at; no store is asked."""

from __future__ import annotations

from pathlib import Path

from emulator.data.checkpoints.mirror import LastRound, Memory, Mirror, Rules
from emulator.data.checkpoints.plan import Stamp
from emulator.data.objectstore.objects import ObjectStore
from emulator.model.workload import S3Uri

NOWHERE = ObjectStore("http://127.0.0.1:9", "key", "secret", tries=0)
"""What asks it for anything gets a StoreError."""
UNREADABLE = Path("n" * 256)
"""No file system has such a name: any look at it is an OSError, also for root."""


def mirror(root: Path) -> Mirror:
    memory = {"algo-1": Memory({"step": Stamp(1, 1, 1)}, {"step"})}
    target = S3Uri("bucket", "ckpt")
    return Mirror({"algo-1": root}, target, NOWHERE, "/opt/ml/checkpoints", Rules(), memory)


def test_an_unreadable_directory_is_pending_and_no_failure(tmp_path: Path) -> None:
    unreadable = mirror(tmp_path / UNREADABLE)
    unreadable.round(LastRound())
    assert unreadable.pending() == [("algo-1", ".")]


def test_what_cannot_be_seen_is_not_deleted_in_s3(tmp_path: Path) -> None:
    unreadable = mirror(tmp_path / UNREADABLE)
    unreadable.round(LastRound())
    assert "step" in unreadable.memory["algo-1"].known


def test_a_plain_file_where_the_directory_should_be_is_nothing_to_upload(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("x")
    plain = Mirror(
        {"algo-1": tmp_path / "board"}, S3Uri("bucket", "tb"), NOWHERE, "/tb", Rules(deletes=False)
    )
    assert not plain.round(LastRound())
    assert plain.pending() == []
