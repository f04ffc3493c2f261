"""What lies on the disk before an instance starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_examples import TRAITS, channel, job

from emulator.model.errors import InternalServerError
from emulator.resources.training.config_files import CONFIG, config_files
from emulator.workloads.plan.layout import InstanceDirs, create_instances

SPEC = job(
    ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
    InputDataConfig=[channel("train"), channel("stream", InputMode="Pipe")],
)


def test_exactly_the_directories_of_the_contract(tmp_path: Path) -> None:
    dirs = create_instances(tmp_path, SPEC, TRAITS)["algo-2"]
    found = {str(p.relative_to(dirs.root)) for p in dirs.root.rglob("*") if p.is_dir()}
    assert found == {
        "ml",
        "ml/checkpoints",
        "ml/input",
        "ml/input/config",
        "ml/input/data",
        "ml/input/data/train",
        "ml/model",
        "ml/output",
        "ml/output/data",
        "scratch",
        "tmp",
    }
    assert dirs.tmp.stat().st_mode & 0o7777 == 0o1777


def test_checkpoints_within_the_model_have_their_directory_there(tmp_path: Path) -> None:
    spec = job(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model/ckpt"})
    dirs = create_instances(tmp_path, spec, TRAITS)["algo-1"]
    assert (dirs.at("/opt/ml/model") / "ckpt").is_dir()
    assert not (dirs.root / "ml/checkpoints").exists()


def test_each_host_has_its_own_config(tmp_path: Path) -> None:
    instances = create_instances(tmp_path, SPEC, TRAITS)
    for host in SPEC.hosts:
        config = instances[host.name].at(CONFIG)
        written = {f"{CONFIG}/{p.name}": p.read_text() for p in config.iterdir()}
        assert written == config_files(SPEC, host, TRAITS.network_interface)


def test_nothing_is_written_over_what_an_earlier_job_left(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("not the job's")
    config = InstanceDirs(tmp_path / "job" / "algo-1", SPEC.volumes).at(CONFIG)
    config.mkdir(parents=True)
    (config / "hyperparameters.json").symlink_to(precious)
    with pytest.raises(InternalServerError, match="earlier job"):
        create_instances(tmp_path / "job", SPEC, TRAITS)
    assert precious.read_text() == "not the job's"


def test_places_have_the_names_the_container_knows() -> None:
    dirs = InstanceDirs(Path("/jobs/j/algo-1"), SPEC.volumes)
    for path in ("input/data/train", "input/data/train-manifest", "output/failure", "output/data"):
        assert dirs.at(f"/opt/ml/{path}") == Path(f"/jobs/j/algo-1/ml/{path}")
    assert dirs.at("/opt/ml/checkpoints") == Path("/jobs/j/algo-1/ml/checkpoints")
    with pytest.raises(LookupError, match="/opt/ml/code is on no volume"):
        dirs.at("/opt/ml/code")
