"""Content of /opt/ml/input/config, compared with what the service was seen to write."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from job_examples import channel, groups, job

from emulator.model.workload import WorkloadSpec
from emulator.resources.training.config_files import CONFIG, config_files


def files(spec: WorkloadSpec, number: int = 0) -> dict[str, str]:
    written = config_files(spec, spec.hosts[number], "eth0")
    assert {PurePosixPath(path).parent for path in written} == {PurePosixPath(CONFIG)}
    return {PurePosixPath(path).name: text for path, text in written.items()}


def loaded(spec: WorkloadSpec, name: str, number: int = 0) -> Any:
    return json.loads(files(spec, number)[name])


def test_resources_of_one_instance_have_the_size_the_service_writes() -> None:
    text = files(job())["resourceconfig.json"]
    assert text == (
        '{"current_host":"algo-1","current_instance_type":"ml.g4dn.12xlarge",'
        '"current_group_name":"homogeneousCluster","hosts":["algo-1"],'
        '"instance_groups":[{"instance_group_name":"homogeneousCluster",'
        '"instance_type":"ml.g4dn.12xlarge","hosts":["algo-1"]}],'
        '"network_interface_name":"eth0"}'
    )
    assert len(text) == 280


def test_input_data_has_the_size_the_service_writes() -> None:
    text = files(job(InputDataConfig=[channel("training")]))["inputdataconfig.json"]
    assert text == (
        '{"training":{"TrainingInputMode":"File","S3DistributionType":"FullyReplicated",'
        '"RecordWrapperType":"None"}}'
    )
    assert len(text) == 107


def test_a_content_type_comes_first_and_a_channel_has_a_mode_of_its_own() -> None:
    spec = job(InputDataConfig=[channel("a", ContentType="text/csv", InputMode="Pipe")])
    assert files(spec)["inputdataconfig.json"].startswith('{"a":{"ContentType":"text/csv","Tra')
    assert loaded(spec, "inputdataconfig.json")["a"]["TrainingInputMode"] == "Pipe"


def test_hyperparameters_stay_the_strings_they_were() -> None:
    assert files(job())["hyperparameters.json"] == "{}"
    spec = job(HyperParameters={"b": '"hello"', "a": "1", "é": "ü"})
    assert files(spec)["hyperparameters.json"] == '{"b":"\\"hello\\"","a":"1","é":"ü"}'


def test_what_is_always_there_and_what_only_if_asked_for() -> None:
    always = {
        "hyperparameters.json",
        "inputdataconfig.json",
        "resourceconfig.json",
        "init-config.json",
        "metric-definition-regex.json",
        "upstreamoutputdataconfig.json",
        "trainingjobconfig.json",
    }
    assert set(files(job())) == always
    spec = job(
        CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/state"},
        DebugHookConfig={"S3OutputPath": "s3://b/d"},
        ProfilerConfig={"S3OutputPath": "s3://b/p"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://b/t"},
    )
    written = files(spec)
    assert written["checkpointconfig.json"] == '{"LocalPath":"/state"}'
    assert json.loads(written["debughookconfig.json"]) == {
        "LocalPath": "/opt/ml/output/tensors",
        "S3OutputPath": "s3://b/d",
    }
    assert written["profilerconfig.json"] == '{"S3OutputPath":"s3://b/p"}'
    assert written["tensorboardoutputconfig.json"] == (
        '{"S3OutputPath":"s3://b/t","LocalPath":"/opt/ml/output/tensorboard"}'
    )


def test_hosts_are_in_the_order_of_their_numbers() -> None:
    spec = job(ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 11})
    resources = loaded(spec, "resourceconfig.json", 10)
    assert resources["current_host"] == "algo-11"
    assert resources["hosts"] == [f"algo-{n}" for n in range(1, 12)]


def test_instance_groups_own_their_hosts_and_their_channels() -> None:
    spec = job(
        ResourceConfig=groups(("data", 1), ("train", 2)),
        InputDataConfig=[channel("a", s3={"InstanceGroupNames": ["train"]}), channel("b")],
    )
    resources = loaded(spec, "resourceconfig.json", 2)
    assert resources["current_group_name"] == "train"
    assert [(g["instance_group_name"], g["hosts"]) for g in resources["instance_groups"]] == [
        ("data", ["algo-1"]),
        ("train", ["algo-2", "algo-3"]),
    ]
    assert list(loaded(spec, "inputdataconfig.json", 0)) == ["b"]
    assert list(loaded(spec, "inputdataconfig.json", 1)) == ["a", "b"]


def test_the_platforms_own_file_in_the_form_seen() -> None:
    spec = job(
        ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
        InputDataConfig=[channel("data", s3={"S3DataDistributionType": "ShardedByS3Key"})],
        CheckpointConfig={"S3Uri": "s3://bucket/state"},
    )
    source = {
        "s3DataSource": {
            "s3DataType": "S3_PREFIX",
            "s3Uri": "s3://bucket/data",
            "s3DataDistributionType": "SHARDED_BY_S3_KEY",
            "attributeNames": None,
        },
        "fileSystemDataSource": None,
        "compressionType": "NONE",
        "recordWrapper": "NONE",
        "shuffleConfig": None,
        "inputMode": "FILE",
        "sharded": True,
    }
    written = loaded(spec, "init-config.json")
    assert list(written) == [
        "inputMode",
        "channels",
        "checkpointChannel",
        "hostConfig",
        "enableAdditionalPlatformLoggingForCustomer",
        "jobRunInfo",
    ]
    assert written["channels"] == {"data": source}
    assert list(written["channels"]["data"]) == list(source)
    assert written["hostConfig"] == {"clusterSize": 2, "hostNumber": 1}
    checkpoints = written["checkpointChannel"]
    assert (checkpoints["name"], checkpoints["outputPath"]) == (
        "checkpoints",
        "/opt/ml/checkpoints",
    )
    assert checkpoints["channel"]["s3DataSource"]["s3Uri"] == "s3://bucket/state"
    assert checkpoints["channel"]["sharded"] is False


def test_a_file_system_stands_where_s3_would() -> None:
    source = {"FileSystemDataSource": {"FileSystemId": "fs-1", "DirectoryPath": "/x"}}
    spec = job(InputDataConfig=[{"ChannelName": "fs", "DataSource": source}])
    written = loaded(spec, "init-config.json")["channels"]["fs"]
    assert written["s3DataSource"] is None
    assert written["fileSystemDataSource"] == {"fileSystemId": "fs-1", "directoryPath": "/x"}


def test_the_request_again_with_its_enums_in_the_services_spelling() -> None:
    spec = job(
        InputDataConfig=[channel("data", CompressionType="Gzip", RecordWrapperType="RecordIO")],
        HyperParameters={"InputMode": "FastFile"},
        CheckpointConfig={"S3Uri": "s3://b/c"},
    )
    written = loaded(spec, "trainingjobconfig.json")
    data = written["InputDataConfig"][0]
    assert data["DataSource"]["S3DataSource"]["S3DataType"] == "S3_PREFIX"
    assert data["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FULLY_REPLICATED"
    assert (data["CompressionType"], data["RecordWrapperType"]) == ("GZIP", "RECORD_IO")
    assert written["AlgorithmSpecification"]["TrainingInputMode"] == "FILE"
    assert written["HyperParameters"] == {"InputMode": "FastFile"}
    assert written["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert list(written)[-3:] == ["Tags", "BaseTags", "TrainingJobArn"]
    assert written["TrainingJobArn"].endswith(":training-job/job")


@pytest.mark.parametrize("number", [0, 1])
def test_every_file_is_compact_and_has_no_newline_at_its_end(number: int) -> None:
    spec = job(ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 2})
    for name, text in files(spec, number).items():
        assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False), name
