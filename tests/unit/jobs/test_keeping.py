"""Files that S3 did not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.jobs.keeping import keep
from emulator.model.job import JobSpec
from emulator.model.scope import Scope

SPEC = JobSpec.from_request(
    {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/Role",
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    },
    Scope("123456789012", "us-east-1"),
)


def test_a_directory_is_moved_and_an_empty_one_takes_its_place(tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_text("x")
    place = keep(tmp_path / "kept", SPEC, "model", {"algo-1": root})
    assert (place / "algo-1" / "model" / "weights").read_text() == "x"
    assert list(root.iterdir()) == []


def test_nothing_is_kept_of_what_is_not_there(tmp_path: Path) -> None:
    keep(tmp_path / "kept", SPEC, "model", {"algo-1": tmp_path / "none" / "model"}, depth=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["output/way", "output/way/board"])
def test_what_a_link_leads_to_stays_where_it_is(tmp_path: Path, link: str) -> None:
    (tmp_path / "home" / "board").mkdir(parents=True)
    (tmp_path / "home" / "board" / "key").write_text("not the job's")
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(
        tmp_path / "home" if link == "output/way" else tmp_path / "home" / "board"
    )
    root = tmp_path / "output" / "way" / "board"
    place = keep(tmp_path / "kept", SPEC, "tensorboard", {"algo-1": root}, depth=2)
    assert (tmp_path / "home" / "board" / "key").exists()
    assert not (place / "algo-1" / "tensorboard").is_symlink()
