"""Which directories are copied to S3 while a job runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.model.errors import ValidationError
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri, SavedDirectory, WorkloadSpec
from emulator.resources.training import training_job
from emulator.resources.training.saved import refuse_unusable
from emulator.workloads.plan.layout import InstanceDirs

ALWAYS = ["/opt/ml/input", "/opt/ml/model", "/opt/ml/output"]


def job(**members: Any) -> WorkloadSpec:
    request = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/Role",
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        **members,
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


def test_a_plain_job_saves_nothing_on_its_way() -> None:
    assert job().saved == ()


def test_everything_at_its_default_place() -> None:
    spec = job(
        CheckpointConfig={"S3Uri": "s3://b/ckpt/"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://b/tb"},
        DebugHookConfig={"S3OutputPath": "s3://b/debug/"},
        ProfilerConfig={"S3OutputPath": "s3://b"},
    )
    assert spec.saved == (
        SavedDirectory(
            "checkpoints",
            "/opt/ml/checkpoints",
            S3Uri("b", "ckpt/"),
            mirrored=True,
            manifest="/opt/ml/input/data/checkpoints-manifest",
        ),
        SavedDirectory(
            "tensorboard", "/opt/ml/output/tensorboard", S3Uri("b", "tb/job/tensorboard-output")
        ),
        SavedDirectory("debug", "/opt/ml/output/tensors", S3Uri("b", "debug/job/debug-output")),
        SavedDirectory("profiler", "/opt/ml/output/profiler", S3Uri("b", "job/profiler-output")),
    )
    assert [volume.path for volume in spec.volumes] == [*ALWAYS, "/opt/ml/checkpoints"]


@pytest.mark.parametrize(
    ("path", "place", "own_mount"),
    [
        ("/opt/ml/output/tb/", "ml/output/tb", False),
        ("/opt/ml/model/tb", "ml/model/tb", False),
        ("/opt/ml/outputs", "ml/saved/opt-ml-outputs", True),
        ("/logs/tb", "ml/saved/logs-tb", True),
        ("/state/tb", "ml/checkpoints/tb", False),
        ("/opt/ml/output/a/../tb", "ml/output/tb", False),
        ("/opt/ml/output/../../../home/me", "ml/saved/home-me", True),
        ("//opt/ml/output/./tb", "ml/output/tb", False),
    ],
)
def test_places_of_ones_own(path: str, place: str, own_mount: bool) -> None:
    spec = job(
        CheckpointConfig={"S3Uri": "s3://b/ckpt", "LocalPath": "/state"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://b/tb", "LocalPath": path},
    )
    board = spec.saved[1]
    assert InstanceDirs(Path("/x"), spec.volumes).at(board.path) == Path("/x", place)
    own = [board.path] if own_mount else []
    assert [volume.path for volume in spec.volumes] == [*ALWAYS, "/state", *own]


@pytest.mark.parametrize(
    ("path", "depth"),
    [("/opt/ml/output/tb", 1), ("/opt/ml/output/a/tb", 2), ("/logs/tb", 1), ("/state", 1)],
)
def test_how_much_of_its_place_a_script_can_replace(path: str, depth: int) -> None:
    spec = job(
        CheckpointConfig={"S3Uri": "s3://b/ckpt", "LocalPath": "/state"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://b/tb", "LocalPath": "/logs/tb"},
    )
    assert InstanceDirs(Path("/x"), spec.volumes).depth(path) == depth


def test_two_configurations_of_one_path_are_one_directory() -> None:
    spec = job(
        CheckpointConfig={"S3Uri": "s3://b/ckpt", "LocalPath": "/opt/ml/output/tensors"},
        DebugHookConfig={"S3OutputPath": "s3://b/debug"},
    )
    assert [saved.kind for saved in spec.saved] == ["checkpoints"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/opt/ml/model", "ml/model"),
        ("/opt/ml/model/ckpt", "ml/model/ckpt"),
        ("/opt/ml/output/data/", "ml/output/data"),
        ("/opt/ml/checkpoints/../model", "ml/model"),
    ],
)
def test_checkpoints_within_the_model_or_the_output(path: str, place: str) -> None:
    spec = job(CheckpointConfig={"S3Uri": "s3://b/ckpt", "LocalPath": path})
    (saved,) = spec.saved
    assert InstanceDirs(Path("/x"), spec.volumes).at(saved.path) == Path("/x", place)
    assert [volume.path for volume in spec.volumes] == ALWAYS


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/opt",
        "/opt/ml/",
        "/opt/ml/input/data/train",
        "/tmp",
        "/usr/",
        "/proc/x",
        "/a/..",
    ],
)
def test_places_that_containers_cannot_do_without(path: str) -> None:
    config = {"S3OutputPath": "s3://b/tb", "LocalPath": path}
    with pytest.raises(ValidationError, match=r"cannot be used for tensorboard: .*would hide"):
        refuse_unusable(job(TensorBoardOutputConfig=config))
    config = {"S3Uri": "s3://b/c", "LocalPath": path}
    with pytest.raises(ValidationError, match=r"cannot be used for checkpoints: .*would hide"):
        refuse_unusable(job(CheckpointConfig=config))


@pytest.mark.parametrize("path", ["/state", "/tmp/ckpt", "/opt/ml/code/x", "/opt/ml/model"])
def test_places_that_are_fine(path: str) -> None:
    refuse_unusable(job(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": path}))


def test_a_profiler_without_a_place_in_s3() -> None:
    assert job(ProfilerConfig={"DisableProfiler": True}).saved == ()
