"""A CreateProcessingJob request as a workload, its files, and how the job is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emulator.aws.services.processing_jobs import describe
from emulator.aws.services.processing_rules import check
from emulator.model.errors import NotBuilt, ValidationError
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.processing import PROCESSING, processing_job

SCOPE = Scope("123456789012", "us-east-1")
ENTRYPOINT = ["python3", "/opt/ml/processing/input/code/x.py"]


def source(path: str | None = "/opt/ml/processing/in", **members: Any) -> dict[str, Any]:
    where = {} if path is None else {"LocalPath": path}
    return {"S3Uri": "s3://bucket/data", "S3DataType": "S3Prefix", **where, **members}


def result(path: str = "/opt/ml/processing/out", mode: str = "EndOfJob") -> dict[str, Any]:
    return {"S3Uri": "s3://bucket/results", "LocalPath": path, "S3UploadMode": mode}


def inputs(*sources: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"InputName": f"i{n}", "S3Input": each} for n, each in enumerate(sources, start=1)]


def outputs(*results: dict[str, Any]) -> dict[str, Any]:
    named = [{"OutputName": f"o{n}", "S3Output": each} for n, each in enumerate(results, start=1)]
    return {"Outputs": named}


def request(**members: Any) -> dict[str, Any]:
    return {
        "ProcessingJobName": "Job",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "AppSpecification": {"ImageUri": "image:1", "ContainerEntrypoint": ENTRYPOINT},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 10}
        },
        **members,
    }


def job(**members: Any) -> WorkloadSpec:
    asked = request(**members)
    check(asked)
    return processing_job(asked, SCOPE)


def test_the_least_request_runs_its_command_for_a_day() -> None:
    spec = job()
    assert (spec.entrypoint, spec.arguments) == (tuple(ENTRYPOINT), ())
    assert spec.arn == "arn:aws:sagemaker:us-east-1:123456789012:processing-job/job"
    assert spec.max_runtime == 86_400
    assert [host.name for host in spec.hosts] == ["algo-1"]
    assert not spec.needs_image
    assert (spec.channels, spec.outputs, spec.saved, spec.platform) == ((), (), (), {})


def test_without_an_entry_point_the_image_has_the_command() -> None:
    spec = job(AppSpecification={"ImageUri": "image:1", "ContainerArguments": ["a"]})
    assert spec.needs_image
    assert (spec.entrypoint, spec.arguments) == (None, ("a",))


def test_inputs_are_channels_at_their_paths() -> None:
    spec = job(
        ProcessingInputs=inputs(
            source("/opt/ml/processing/input/code/"),
            source(
                "/opt/ml/processing/pipe",
                S3InputMode="Pipe",
                S3CompressionType="Gzip",
                S3DataDistributionType="ShardedByS3Key",
            ),
        )
    )
    code, pipe = spec.channels
    assert (code.path, code.input_mode, code.manifest) == (
        "/opt/ml/processing/input/code",
        "File",
        False,
    )
    assert (pipe.input_mode, pipe.compression, pipe.distribution) == (
        "Pipe",
        "Gzip",
        "ShardedByS3Key",
    )
    assert pipe.s3 == {
        "S3DataType": "S3Prefix",
        "S3Uri": "s3://bucket/data",
        "S3DataDistributionType": "ShardedByS3Key",
    }


def test_outputs_go_to_s3_at_the_end_or_all_the_time() -> None:
    spec = job(
        ProcessingOutputConfig=outputs(
            result("/opt/ml/processing/out/"), result("/opt/ml/processing/log", "Continuous")
        )
    )
    [at_end], [continuous] = spec.outputs, spec.saved
    assert (at_end.name, at_end.path, at_end.archive) == ("o1", "/opt/ml/processing/out", False)
    assert str(at_end.target) == "s3://bucket/results"
    assert (continuous.kind, continuous.path, continuous.mirrored, continuous.manifest) == (
        "o2",
        "/opt/ml/processing/log",
        False,
        None,
    )
    assert {"/opt/ml/processing/out", "/opt/ml/processing/log"} <= set(spec.directories)
    assert spec.output_uris == ("s3://bucket/results",) * 2


def test_what_the_application_manages_is_left_to_it() -> None:
    spec = job(
        ProcessingInputs=[{"InputName": "i", "AppManaged": True, "S3Input": source(None)}],
        ProcessingOutputConfig={
            "Outputs": [{"OutputName": "o", "AppManaged": True, "S3Output": result()}]
        },
    )
    assert (spec.channels, spec.outputs, spec.saved) == ((), (), ())


def test_an_output_inside_an_input_has_a_volume_of_its_own() -> None:
    spec = job(
        ProcessingInputs=inputs(source("/opt/ml/processing/data")),
        ProcessingOutputConfig=outputs(
            result("/opt/ml/processing/data/done"), result("/opt/ml/processing/database")
        ),
    )
    assert {volume.path: volume.directory for volume in spec.volumes} == {
        "/opt/ml/config": "ml/config",
        "/opt/ml/output": "ml/output",
        "/opt/ml/processing": "ml/processing",
        "/opt/ml/processing/data/done": "ml/outputs/1",
    }


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc", "n" * 300, "", "\u00e4", "a b"])
def test_names_of_any_kind_are_no_paths(name: str) -> None:
    spec = job(
        ProcessingInputs=[{"InputName": name, "S3Input": source()}],
        ProcessingOutputConfig={
            "Outputs": [
                {"OutputName": name, "S3Output": result()},
                {"OutputName": "log", "S3Output": result("/opt/ml/processing/l", "Continuous")},
            ]
        },
    )
    assert (spec.channels[0].name, spec.outputs[0].name, spec.saved[0].kind) == (".1", ".1", "log")


def test_the_config_files_are_those_of_the_developer_guide() -> None:
    cluster = {"InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30, "InstanceCount": 3}
    spec = job(
        ProcessingResources={"ClusterConfig": cluster},
        Environment={"KEY": "VALUE"},
        ProcessingInputs=inputs(source()),
        ProcessingOutputConfig=outputs(result()),
    )
    files = PROCESSING.config_files(spec, spec.hosts[1], "eth0")
    assert json.loads(files["/opt/ml/config/resourceconfig.json"]) == {
        "current_host": "algo-2",
        "hosts": ["algo-1", "algo-2", "algo-3"],
    }
    assert json.loads(files["/opt/ml/config/processingjobconfig.json"]) == {
        "ProcessingJobArn": spec.arn,
        "ProcessingJobName": "Job",
        "AppSpecification": {
            "ImageUri": "image:1",
            "ContainerEntrypoint": ENTRYPOINT,
            "ContainerArguments": None,
        },
        "Environment": {"KEY": "VALUE"},
        "ProcessingInputs": [
            {
                "InputName": "i1",
                "AppManaged": False,
                "S3Input": {
                    "LocalPath": "/opt/ml/processing/in",
                    "S3Uri": "s3://bucket/data",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3CompressionType": "None",
                    "S3DownloadMode": "StartOfJob",
                },
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "o1", "AppManaged": False, "S3Output": result()}],
            "KmsKeyId": None,
        },
        "ProcessingResources": {"ClusterConfig": {**cluster, "VolumeKmsKeyId": None}},
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    }


def test_the_log_names_what_has_no_effect() -> None:
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    spec = job(
        NetworkConfig={"VpcConfig": vpc, "EnableInterContainerTrafficEncryption": True},
        ProcessingOutputConfig={**outputs(result()), "KmsKeyId": "key"},
    )
    assert PROCESSING.notes(spec) == (
        "Kept, but without effect in sagemaker-emulator: "
        "ProcessingOutputConfig.KmsKeyId (nothing is encrypted on this machine), "
        "NetworkConfig.VpcConfig (jobs have a network of their own on this machine).",
    )
    assert PROCESSING.notes(job()) == ()


def test_a_job_is_shown_with_its_defaults_and_its_end() -> None:
    spec = job(ProcessingInputs=inputs(source()), ExperimentConfig={"TrialName": "t"})
    life = Lifecycle.begin(1.0).enter(Phase.DOWNLOADING, "", 2.0).enter(Phase.RUNNING, "", 3.0)
    failed = replace(life.finish(Phase.FAILED, "", 4.0, "AlgorithmError: , exit code: 1"))
    shown = describe(Job(spec, replace(failed, exit_message="no room")))
    assert shown["ProcessingJobStatus"] == "Failed"
    assert shown["FailureReason"] == "AlgorithmError: , exit code: 1"
    assert shown["ExitMessage"] == "no room"
    assert (shown["CreationTime"], shown["ProcessingStartTime"]) == (1.0, 2.0)
    assert (shown["ProcessingEndTime"], shown["LastModifiedTime"]) == (4.0, 4.0)
    assert shown["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 1
    assert shown["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}
    assert shown["ExperimentConfig"] == {"TrialName": "t"}
    assert shown["ProcessingOutputConfig"] is None


def test_a_job_at_its_limit_is_stopped() -> None:
    life = Lifecycle.begin(1.0).enter(Phase.DOWNLOADING, "", 2.0).enter(Phase.RUNNING, "", 3.0)
    life = life.request_stop(4.0).enter(Phase.STOPPING, "", 4.0)
    ended = life.finish(Phase.MAX_RUNTIME_EXCEEDED, "", 5.0)
    assert describe(Job(job(), ended))["ProcessingJobStatus"] == "Stopped"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"ProcessingInputs": [{"InputName": "sql", "DatasetDefinition": {}}]},
            "CreateProcessingJob with DatasetDefinition (input sql) is not built into",
        ),
        (
            {
                "ProcessingOutputConfig": {
                    "Outputs": [
                        {
                            "OutputName": "fs",
                            "AppManaged": True,
                            "FeatureStoreOutput": {"FeatureGroupName": "g"},
                        }
                    ]
                }
            },
            "CreateProcessingJob with FeatureStoreOutput (output fs) is not built into",
        ),
        (
            {
                "ProcessingResources": {
                    "ClusterConfig": {
                        "VolumeSizeInGB": 1,
                        "InstancePreferences": [{"InstanceType": "ml.m5.large"}],
                    }
                }
            },
            "CreateProcessingJob with InstancePreferences is not built into",
        ),
    ],
)
def test_what_is_not_built_is_refused_by_name(members: dict[str, Any], words: str) -> None:
    with pytest.raises(NotBuilt) as refused:
        check(request(**members))
    assert refused.value.message.startswith(words)


CLUSTER = {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ProcessingResources": {"ClusterConfig": {"VolumeSizeInGB": 1}}}, "Value null at"),
        (
            {"ProcessingResources": {"ClusterConfig": {**CLUSTER, "SelectedInstanceCount": 1}}},
            "SelectedInstanceCount is read-only",
        ),
        ({"ProcessingInputs": [{"InputName": "i"}]}, "has no S3Input"),
        ({"ProcessingInputs": inputs(source(None))}, "LocalPath is required"),
        ({"ProcessingInputs": inputs(source("/opt/ml/processing"))}, "must begin with"),
        ({"ProcessingInputs": inputs(source("/opt/ml/processing/../model"))}, "must begin with"),
        ({"ProcessingInputs": inputs(source("/opt/ml/processing/a\0b"))}, "must begin with"),
        ({"ProcessingInputs": inputs(source(S3CompressionType="Gzip"))}, "only be used when Pipe"),
        ({"ProcessingInputs": inputs(source(), source())}, "is used more than once"),
        (
            {
                "ProcessingInputs": inputs(
                    source("/opt/ml/processing/a"),
                    source("/opt/ml/processing/a/b", S3InputMode="Pipe"),
                )
            },
            "cannot lie in another input's",
        ),
        ({"ProcessingOutputConfig": outputs(result("/tmp/out"))}, "must begin with"),
        ({"ProcessingOutputConfig": {"Outputs": [{"OutputName": "o"}]}}, "has no S3Output"),
        (
            {
                "ProcessingInputs": inputs(source("/opt/ml/processing/x")),
                "ProcessingOutputConfig": outputs(result("/opt/ml/processing/x/")),
            },
            "that of an input and of an output",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(members: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        check(request(**members))
    assert words in refused.value.message
