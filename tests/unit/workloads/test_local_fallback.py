"""Files that S3 did not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.data.outputs.tree import scan
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.workloads.transfers.local_fallback import keep, keep_files, new_place

SPEC = training_job(
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
    place = new_place(tmp_path / "kept", SPEC, 0)
    keep(place, "model", {"algo-1": root})
    assert (place / "algo-1" / "model" / "weights").read_text() == "x"
    assert list(root.iterdir()) == []


def test_nothing_is_kept_of_what_is_not_there(tmp_path: Path) -> None:
    place = new_place(tmp_path / "kept", SPEC, 0)
    keep(place, "model", {"algo-1": tmp_path / "none" / "model"}, depth=2)
    assert not place.exists()


def test_no_job_gets_the_place_of_another(tmp_path: Path) -> None:
    places = [new_place(tmp_path, SPEC, now) for now in (0, 0.5, 3600)]
    assert [place.name for place in places] == [
        "job.19700101T000000Z",
        "job.19700101T000000Z.2",
        "job.19700101T010000Z",
    ]


def test_single_files_are_kept_and_stay_where_they_are(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    (root / "step").mkdir(parents=True)
    (root / "step" / "w.pt").write_text("x")
    (file,) = (found for found in scan(root, print) if found.is_file)
    keep_files(tmp_path / "place", "checkpoints", {"algo-1": {"step/w.pt": file}})
    (root / "step" / "w.pt").unlink()
    assert (tmp_path / "place" / "algo-1" / "checkpoints" / "step" / "w.pt").read_text() == "x"


@pytest.mark.parametrize("link", ["output/way", "output/way/board"])
def test_what_a_link_leads_to_stays_where_it_is(tmp_path: Path, link: str) -> None:
    (tmp_path / "home" / "board").mkdir(parents=True)
    (tmp_path / "home" / "board" / "key").write_text("not the job's")
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(
        tmp_path / "home" if link == "output/way" else tmp_path / "home" / "board"
    )
    root = tmp_path / "output" / "way" / "board"
    place = new_place(tmp_path / "kept", SPEC, 0)
    keep(place, "tensorboard", {"algo-1": root}, depth=2)
    assert (tmp_path / "home" / "board" / "key").exists()
    assert not (place / "algo-1" / "tensorboard").is_symlink()
