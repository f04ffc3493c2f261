"""The table of what is covered, against botocore's model and the page made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.coverage import MATRICES, document, input_of, member_paths
from emulator.aws.services.training_rules import check
from emulator.model.errors import ApiError
from emulator.resources.support_matrix import Treatment
from emulator.resources.training.support_matrix import unacted

ROOT = Path(__file__).parents[3]
PLAIN = json.loads((ROOT / "tests/data/requests/v3/none.json").read_text())


def test_the_page_is_the_one_that_the_code_makes() -> None:
    page = (ROOT / "docs" / "coverage.md").read_text()
    assert page == document(), "run: make coverage-table"


@pytest.mark.parametrize("operation", MATRICES)
def test_every_member_of_the_model_has_a_row_and_every_row_a_member(operation: str) -> None:
    matrix, paths = MATRICES[operation], list(member_paths(input_of(operation)))
    rows = [member.path for member in matrix.table]
    assert [path for path in paths if matrix.member_at(path) is None] == []
    assert [path for path in rows if path not in paths] == []
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("operation", MATRICES)
def test_whoever_has_no_effect_says_why(operation: str) -> None:
    table = MATRICES[operation].table
    assert [m.path for m in table if m.treatment is not Treatment.ACTS and not m.note] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ServerlessJobConfig": {"BaseModelArn": "arn", "JobType": "FineTuning"}},
        {"ResourceConfig": {"InstancePreferences": [{"InstanceType": "ml.m5.large"}]}},
        {"ResourceConfig": {**PLAIN["ResourceConfig"], "SelectedInstanceType": "ml.m5.large"}},
        {"ResourceConfig": {**PLAIN["ResourceConfig"], "SelectedInstanceCount": 1}},
    ],
)
def test_what_the_table_calls_refused_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        check({**PLAIN, **changes})


def test_a_plain_request_has_nothing_in_vain() -> None:
    assert unacted(PLAIN) == ()
    off = {
        "ProfilerConfig": {"DisableProfiler": True, "S3OutputPath": "s3://b/p"},
        # As SDK v2 sends it with every job of a framework.
        "DebugHookConfig": {"S3OutputPath": "s3://b/d", "CollectionConfigurations": []},
        "EnableInterContainerTrafficEncryption": True,
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
        "DebugRuleConfigurations": [],
        "OutputDataConfig": {"S3OutputPath": "s3://b/o", "KmsKeyId": ""},
    }
    assert unacted({**PLAIN, **off}) == ()


def test_what_is_in_vain_is_said_in_one_line() -> None:
    source = {"S3DataSource": {"S3Uri": "s3://b/k", "HubAccessConfig": {"HubContentArn": "arn"}}}
    channels = [{"ChannelName": "a", "DataSource": {}}, {"ChannelName": "b", "DataSource": source}]
    vpc = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    [line] = unacted({**PLAIN, "InputDataConfig": channels, "VpcConfig": vpc})
    assert line == (
        "Kept, but without effect in sagemaker-emulator: "
        "InputDataConfig.DataSource.S3DataSource.HubAccessConfig (there is no model hub), "
        "VpcConfig (jobs have a network of their own on this machine)."
    )


def test_a_warm_pool_that_cannot_be_is_said_to_be_in_vain() -> None:
    kept = {**PLAIN["ResourceConfig"], "KeepAlivePeriodInSeconds": 60}
    groups = {"InstanceGroups": [{"InstanceGroupName": "g"}], "KeepAlivePeriodInSeconds": 60}
    spot = {"EnableManagedSpotTraining": True}
    assert unacted({**PLAIN, "ResourceConfig": kept}) == ()
    assert unacted({**PLAIN, **spot}) == ()
    assert unacted({**PLAIN, "ResourceConfig": {**groups, "KeepAlivePeriodInSeconds": 0}}) == ()
    [line] = unacted({**PLAIN, **spot, "ResourceConfig": kept})
    assert "KeepAlivePeriodInSeconds (warm pools cannot be used with spot instances)" in line
    [line] = unacted({**PLAIN, "ResourceConfig": groups})
    assert "(warm pools cannot be used with heterogeneous clusters)" in line
