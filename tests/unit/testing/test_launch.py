"""What a script is given where its interpreter has no training toolkit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.testing import launch

RESOURCES = {
    "current_host": "algo-2",
    "hosts": ["algo-1", "algo-2"],
    "network_interface_name": "eth0",
    "current_instance_type": "ml.m5.xlarge",
    "current_group_name": "homogeneousCluster",
}


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"epochs": 3, "batch-size": 8}, ["--batch-size", "8", "--epochs", "3"]),
        ({"lr": 0.1, "e": True}, ["-e", "True", "--lr", "0.1"]),
        ({"layers": [1, 2]}, ["--layers", "[1, 2]"]),
        ({"flag": None}, ["--flag"]),
        ({"text": "two words"}, ["--text", "two words"]),
    ],
)
def test_hyperparameters_become_arguments(
    hyperparameters: dict[str, Any], words: list[str]
) -> None:
    assert launch.arguments(hyperparameters) == words


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ('"a"', "a"), ("true", True), ("plain", "plain"), ("1.5", 1.5)]
)
def test_a_value_is_its_json_or_its_text(text: str, value: Any) -> None:
    assert launch.decoded(text) == value


def test_variables_say_what_the_toolkit_says() -> None:
    told = launch.variables(
        {"batch-size": 8, "opts": {"a": 1}}, RESOURCES, {"train": {}}, "/code", "t.py", 2
    )
    assert told["SM_HOSTS"] == '["algo-1", "algo-2"]'
    assert told["SM_CURRENT_HOST"] == "algo-2"
    assert told["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"
    assert told["SM_HP_BATCH_SIZE"] == "8"
    assert json.loads(told["SM_HP_OPTS"]) == {"a": 1}
    assert told["SM_NUM_GPUS"] == "2"
    assert told["SM_MODEL_DIR"] == "/opt/ml/model"


def test_torchrun_knows_its_node() -> None:
    words = launch.torchrun(RESOURCES, gpus=2)
    assert {"--nnodes=2", "--node_rank=1", "--master_addr=algo-1", "--nproc_per_node=2"} <= {*words}


@pytest.mark.parametrize(
    ("visible", "count"), [("void", 0), ("", 0), ("GPU-1,GPU-2", 2), ("GPU-1", 1)]
)
def test_gpus_are_those_of_the_instance(
    visible: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", visible)
    assert launch.count_gpus() == count


def test_what_a_failing_script_wrote_last_is_its_failure_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "OPT_ML", tmp_path)
    (tmp_path / "output").mkdir()
    code = launch.run([sys.executable, "-c", "raise RuntimeError('no luck')"], {})
    assert code == 1
    assert (tmp_path / "output/failure").read_text().endswith("RuntimeError: no luck")


def test_a_killed_script_has_the_exit_code_of_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "OPT_ML", tmp_path)
    (tmp_path / "output").mkdir()
    assert launch.run(["/bin/sh", "-c", "kill -9 $$"], {}) == 137
