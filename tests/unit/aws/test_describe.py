"""How a job is shown, against answers seen from the service."""

from __future__ import annotations

from typing import Any

from emulator.aws.services.describe import describe, summarize
from emulator.aws.wire.json_protocol import JsonProtocol
from emulator.aws.wire.service_models import operation_model, service_model
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.resources.training.words import WORDS

REQUEST: dict[str, Any] = {
    "TrainingJobName": "My-job",
    "AlgorithmSpecification": {"TrainingImage": "my:latest", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "InputDataConfig": [
        {
            "ChannelName": "train",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/train"}},
        }
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 100},
    "Tags": [{"Key": "a", "Value": "b"}],
}
CREATED = 1_700_000_000.123


def job(life: Lifecycle | None = None, artifacts: str | None = None, **changes: Any) -> Job:
    spec = training_job({**REQUEST, **changes}, Scope("123456789012", "us-east-1"))
    return Job(spec, life or Lifecycle.begin(CREATED, WORDS.starting), artifacts)


def present(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if value is not None}


def finished(secondary: Phase = Phase.COMPLETED) -> Lifecycle:
    return (
        Lifecycle.begin(CREATED, WORDS.starting)
        .enter(Phase.DOWNLOADING, "Downloading input data", CREATED + 1)
        .enter(Phase.RUNNING, "Training", CREATED + 2)
        .enter(Phase.UPLOADING, "Uploading", CREATED + 10)
        .finish(secondary, "done", CREATED + 194.175)
    )


def test_a_new_job_has_every_default_and_nothing_of_its_future() -> None:
    shown = present(describe(job()))
    assert {name: value for name, value in shown.items() if name != "Tags"} == {
        "TrainingJobName": "My-job",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/my-job",
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "AlgorithmSpecification": {
            "TrainingImage": "my:latest",
            "TrainingInputMode": "File",
            "EnableSageMakerMetricsTimeSeries": False,
        },
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "s3://b/train",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
                "CompressionType": "None",
                "RecordWrapperType": "None",
            }
        ],
        "OutputDataConfig": {
            "KmsKeyId": "",
            "S3OutputPath": "s3://b/out",
            "CompressionType": "GZIP",
        },
        "ResourceConfig": REQUEST["ResourceConfig"],
        "StoppingCondition": {"MaxRuntimeInSeconds": 100},
        "CreationTime": CREATED,
        "LastModifiedTime": CREATED,
        "SecondaryStatusTransitions": [
            {
                "Status": "Starting",
                "StartTime": CREATED,
                "EndTime": None,
                "StatusMessage": "Starting the training job",
            }
        ],
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "ProfilingStatus": "Disabled",
    }


def test_tags_are_not_part_of_the_answer() -> None:
    model = service_model("sagemaker")
    assert model is not None
    operation = operation_model(model, "DescribeTrainingJob")
    body = JsonProtocol(model, "1.1").serialize(operation, describe(job()), "id")
    assert b'"Tags"' not in body
    assert b"null" not in body


def test_a_completed_job_has_its_times_and_its_model() -> None:
    shown = present(describe(job(finished(), "s3://b/out/My-job/output/model.tar.gz")))
    assert shown["TrainingJobStatus"] == "Completed"
    assert shown["ModelArtifacts"] == {"S3ModelArtifacts": "s3://b/out/My-job/output/model.tar.gz"}
    assert shown["TrainingStartTime"] == CREATED + 1
    assert shown["TrainingEndTime"] == round(CREATED + 194.175, 3)
    assert shown["TrainingTimeInSeconds"] == shown["BillableTimeInSeconds"] == 193
    last, before = (shown["SecondaryStatusTransitions"][at] for at in (-1, -2))
    assert last["StartTime"] == last["EndTime"] == before["EndTime"] == shown["TrainingEndTime"]


def test_a_failed_job_says_why() -> None:
    life = Lifecycle.begin(CREATED, WORDS.starting).finish(
        Phase.FAILED, "failed", CREATED + 1, "ClientError: x"
    )
    shown = present(describe(job(life)))
    assert shown["FailureReason"] == "ClientError: x"
    assert not {"ModelArtifacts", "TrainingEndTime", "TrainingTimeInSeconds"} & set(shown)


def test_what_the_emulator_does_not_act_on_is_echoed() -> None:
    more = {
        "VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "RemoteDebugConfig": {"EnableRemoteDebug": True},
        "ExperimentConfig": {"TrialName": "t"},
        "EnableNetworkIsolation": True,
        "HyperParameters": {"a": '"quoted"'},
        "Environment": {"A": "B"},
    }
    shown = describe(job(**more))
    assert {name: shown[name] for name in more} == more


def test_metrics_series_are_on_for_framework_images_and_defined_metrics() -> None:
    def default(**algorithm: Any) -> bool:
        specification = {**REQUEST["AlgorithmSpecification"], **algorithm}
        shown = describe(job(AlgorithmSpecification=specification))
        return bool(shown["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"])

    registry = "763104351884.dkr.ecr.us-west-2.amazonaws.com"
    assert default(TrainingImage=f"{registry}/huggingface-pytorch-training:2.1")
    assert default(MetricDefinitions=[{"Name": "l", "Regex": "x"}])
    assert not default(TrainingImage=f"{registry}/xgboost:1.7")
    assert not default(
        TrainingImage=f"{registry}/pytorch-training:2.2", EnableSageMakerMetricsTimeSeries=False
    )


def test_profiler_and_debugger_are_filled_in() -> None:
    shown = describe(
        job(ProfilerConfig={"S3OutputPath": "s3://b/p"}, DebugHookConfig={"S3OutputPath": "s3://b"})
    )
    assert shown["ProfilerConfig"] == {
        "S3OutputPath": "s3://b/p",
        "ProfilingIntervalInMilliseconds": 500,
        "DisableProfiler": False,
    }
    assert shown["ProfilingStatus"] == "Enabled"
    assert shown["DebugHookConfig"] == {"S3OutputPath": "s3://b", "CollectionConfigurations": []}
    assert describe(job(ProfilerConfig={"DisableProfiler": True}))["ProfilingStatus"] == "Disabled"


def test_instance_count_is_there_or_groups_are() -> None:
    single = {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    assert describe(job(ResourceConfig=single))["ResourceConfig"]["InstanceCount"] == 1
    group = {"InstanceGroupName": "g", "InstanceType": "ml.m5.large", "InstanceCount": 2}
    groups = {"InstanceGroups": [group], "VolumeSizeInGB": 1}
    assert describe(job(ResourceConfig=groups))["ResourceConfig"] == groups


def test_a_summary() -> None:
    assert present(summarize(job(finished()))) == {
        "TrainingJobName": "My-job",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/my-job",
        "CreationTime": CREATED,
        "TrainingEndTime": round(CREATED + 194.175, 3),
        "LastModifiedTime": round(CREATED + 194.175, 3),
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
    }
