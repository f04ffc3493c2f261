"""The endpoint as clients meet it: boto3, a real server, real stores; nothing trains."""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi import FastAPI
from http_server import serving

from emulator.aws.gateway import BODY_LIMIT, Gateway
from emulator.aws.operation import Call, Operations
from emulator.aws.s3.proxy import S3Proxy
from emulator.aws.services import iam, sts, training_jobs
from emulator.database import Database
from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources import KINDS
from emulator.resources.training import job_id
from emulator.settings import Settings
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SETTINGS = Settings(role_arn="arn:aws:iam::123456789012:role/service-role/Trainer")
SESSION = boto3.Session()  # keeps the models it has read
START = 1_700_000_000.0
REQUEST_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Desk:
    """Takes jobs in and lets them lie; its clock moves by a second a job."""

    def __init__(self, store: JobStore):
        self.store = store
        self.now = START

    def submit(self, spec: WorkloadSpec) -> None:
        self.now += 1
        self.store.create(spec, self.now)

    def stop(self, key: WorkloadId) -> None:
        def step(life: Lifecycle) -> Lifecycle:
            if life.status.terminal:
                raise ValidationError(
                    "The request was rejected because the training job is in status "
                    f"{life.status.value}."
                )
            return life.request_stop(self.now)

        self.store.change(key, step)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(JobStore(Database(tmp_path / "state.db", MIGRATIONS), KINDS))


def broken(call: Call) -> None:
    raise RuntimeError("a secret detail")


@pytest.fixture
def endpoint(desk: Desk) -> Iterator[str]:
    services: dict[str, Operations] = {
        "sagemaker": {**training_jobs.operations(desk, desk.store), "DescribeModel": broken},
        "sts": sts.operations(SETTINGS, clock=lambda: START),
        "iam": iam.operations(SETTINGS),
        "logs": {},
    }
    app = FastAPI()
    app.mount("/", Gateway(services, SETTINGS))
    # No store answers: what would go there is told by the words of its refusal.
    with serving(app, S3Proxy("http://127.0.0.1:9", "key", "secret")) as url:
        yield url


def client(service: str, endpoint: str, region: str = "us-east-1", **options: Any) -> Any:
    # Nothing is checked on this side: what is wrong has to get through to the emulator.
    config = Config(retries={"max_attempts": 0}, parameter_validation=False, **options)
    return SESSION.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id="emulator",
        aws_secret_access_key="emulator-secret",
        config=config,
    )


@pytest.fixture
def sagemaker(endpoint: str) -> Any:
    return client("sagemaker", endpoint)


def request(name: str = "a-job", **changes: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "my:latest", "TrainingInputMode": "File"},
        "RoleArn": SETTINGS.role_arn,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


def error_of(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**params)
    found = error.value.response["Error"]
    return found["Code"], found["Message"]


def raw(
    endpoint: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    line = http.client.HTTPConnection(urlsplit(endpoint).netloc)
    line.request(method, "/", body, headers or {})
    answer = line.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    content = answer.read()
    line.close()
    return answer.status, found, content


# --- training jobs -------------------------------------------------------------------------


def test_create_and_describe(sagemaker: Any) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/a-job"
    created = sagemaker.create_training_job(**request(Tags=[{"Key": "a", "Value": "b"}]))
    assert created["TrainingJobArn"] == arn
    shown = sagemaker.describe_training_job(TrainingJobName="a-job")
    assert shown["TrainingJobArn"] == arn
    assert shown["TrainingJobStatus"] == "InProgress"
    assert shown["CreationTime"].timestamp() == START + 1
    assert shown["OutputDataConfig"]["KmsKeyId"] == ""
    assert "TrainingEndTime" not in shown
    assert REQUEST_ID.fullmatch(shown["ResponseMetadata"]["RequestId"])


def test_a_name_can_be_used_once_in_a_region(sagemaker: Any, endpoint: str) -> None:
    sagemaker.create_training_job(**request())
    with pytest.raises(sagemaker.exceptions.ResourceInUse) as error:
        sagemaker.create_training_job(**request())
    assert error.value.response["Error"]["Message"] == (
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists "
        "(arn:aws:sagemaker:us-east-1:123456789012:training-job/a-job)"
    )
    elsewhere = client("sagemaker", endpoint, "eu-central-1")
    assert ":eu-central-1:" in elsewhere.create_training_job(**request())["TrainingJobArn"]


def test_an_unknown_job(sagemaker: Any) -> None:
    wanted = ("ValidationException", "Requested resource not found.")
    assert error_of(sagemaker.describe_training_job, TrainingJobName="nobody") == wanted
    assert error_of(sagemaker.stop_training_job, TrainingJobName="nobody") == wanted


def test_stop_says_stopping_at_once_and_answers_nothing(sagemaker: Any, desk: Desk) -> None:
    sagemaker.create_training_job(**request())
    answer = sagemaker.stop_training_job(TrainingJobName="a-job")["ResponseMetadata"]
    assert answer["HTTPHeaders"]["content-length"] == "0"
    assert answer["HTTPHeaders"]["content-type"] == "application/x-amz-json-1.1"
    shown = sagemaker.describe_training_job(TrainingJobName="a-job")
    assert (shown["TrainingJobStatus"], shown["SecondaryStatus"]) == ("Stopping", "Starting")
    desk.store.change(
        job_id(Scope("123456789012", "us-east-1"), "a-job"),
        lambda life: life.enter(Phase.STOPPING, "Stopping", START).finish(
            Phase.STOPPED, "Training job stopped", START
        ),
    )
    assert error_of(sagemaker.stop_training_job, TrainingJobName="a-job") == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def names(page: dict[str, Any]) -> list[str]:
    return [job["TrainingJobName"] for job in page["TrainingJobSummaries"]]


def test_list_pages_sorts_and_filters(sagemaker: Any) -> None:
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    for name in ("b", "a", "c-x", "d"):
        sagemaker.create_training_job(**request(name))
    assert names(sagemaker.list_training_jobs()) == ["d", "c-x", "a", "b"]
    assert names(sagemaker.list_training_jobs(SortBy="Name", SortOrder="Ascending")) == [
        *("a", "b", "c-x", "d")
    ]
    assert names(sagemaker.list_training_jobs(NameContains="x")) == ["c-x"]
    assert names(sagemaker.list_training_jobs(CreationTimeAfter=START + 2)) == ["d", "c-x"]
    assert names(sagemaker.list_training_jobs(LastModifiedTimeBefore=START + 2)) == ["b"]
    pages = sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 3})
    assert [names(page) for page in pages] == [["d", "c-x", "a"], ["b"]]
    assert names(sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")) == []
    plan = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/a-plan"
    assert names(sagemaker.list_training_jobs(TrainingPlanArnEquals=plan)) == []


def test_a_status_filters_what_a_page_took(sagemaker: Any) -> None:
    for name in ("a", "b", "c"):
        sagemaker.create_training_job(**request(name))
    sagemaker.stop_training_job(TrainingJobName="a")
    page = sagemaker.list_training_jobs(StatusEquals="Stopping", MaxResults=2)
    assert names(page) == []
    rest = sagemaker.list_training_jobs(
        StatusEquals="Stopping", MaxResults=2, NextToken=page["NextToken"]
    )
    assert names(rest) == ["a"]
    assert "NextToken" not in rest


@pytest.mark.parametrize(
    "token", ["nonsense", "bm9uc2Vuc2U=", "WzFd", "W3t9LCAieCJd", "WzEsICJ4Il0=", "bnVsbA=="]
)
def test_a_made_up_token(sagemaker: Any, token: str) -> None:
    code, _ = error_of(sagemaker.list_training_jobs, NextToken=token)
    assert code == "ValidationException"


# --- bad input -----------------------------------------------------------------------------


def test_a_broken_constraint(sagemaker: Any) -> None:
    assert error_of(sagemaker.create_training_job, **request("-bad-")) == (
        "ValidationException",
        "1 validation error detected: Value '-bad-' at 'trainingJobName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    )


def test_members_that_do_not_go_together(sagemaker: Any) -> None:
    code, message = error_of(
        sagemaker.create_training_job, **request(EnableManagedSpotTraining=True)
    )
    assert code == "ValidationException"
    assert message.startswith("Invalid MaxWaitTimeInSeconds.")


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("SageMaker.ListTrainingJobs", b"{", "SerializationException"),
        ("SageMaker.ListTrainingJobs", b'{"MaxResults": "1"}', "SerializationException"),
        ("SageMaker.NoSuchOperation", b"{}", "UnknownOperationException"),
        ("SageMaker.DescribeTrainingJob", b"{}", "ValidationException"),
        ("NoSuchService.Anything", b"{}", "NotImplementedException"),
        ("Nothing", b"{}", "NotImplementedException"),
    ],
)
def test_a_request_by_hand(endpoint: str, target: str, body: bytes, code: str) -> None:
    status, headers, content = raw(endpoint, body, {"X-Amz-Target": target})
    assert json.loads(content)["__type"] == code
    assert status in (400, 501)
    assert headers["content-type"] == "application/x-amz-json-1.1"


def test_an_unknown_member_is_skipped_as_on_aws(endpoint: str) -> None:
    status, _, content = raw(
        endpoint, b'{"Foo": 1}', {"X-Amz-Target": "SageMaker.ListTrainingJobs"}
    )
    assert (status, content) == (200, b'{"TrainingJobSummaries":[]}')


def test_a_body_that_is_far_too_large(endpoint: str) -> None:
    target = {"X-Amz-Target": "SageMaker.ListTrainingJobs"}
    status, _, content = raw(endpoint, b" " * (BODY_LIMIT + 1), target)
    assert status == 413
    assert json.loads(content)["__type"] == "RequestEntityTooLarge"


def test_a_bug_is_answered_without_its_trace(
    sagemaker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "emulator.aws.gateway"):
        code, message = error_of(sagemaker.describe_model, ModelName="m")
    assert code == "InternalFailure"
    assert "secret" not in message
    assert "a secret detail" in caplog.text


@pytest.mark.parametrize("region", ["..", ".", "US-EAST-1", "a%2Fb", "-"])
def test_a_region_that_cannot_be_is_refused(endpoint: str, region: str) -> None:
    """Logs of a region lie in a directory of its name."""
    line = http.client.HTTPConnection(endpoint.removeprefix("http://"))
    headers = {
        "X-Amz-Target": "SageMaker.ListTrainingJobs",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=me/20260101/{region}/sagemaker/aws4_request",
    }
    line.request("POST", "/", "{}", headers)
    answer = line.getresponse()
    assert (answer.status, json.loads(answer.read())) == (
        400,
        {
            "__type": "InvalidSignatureException",
            "message": "Credential should be scoped to a valid region.",
        },
    )
    line.close()


# --- what is not built ---------------------------------------------------------------------


def test_an_operation_that_is_not_built_is_named(sagemaker: Any, endpoint: str) -> None:
    words = "is not built into sagemaker-emulator yet."
    assert error_of(sagemaker.list_models) == ("NotImplementedException", f"ListModels {words}")
    users = client("iam", endpoint).list_users
    assert error_of(users) == ("NotImplementedException", f"ListUsers {words}")


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("dynamodb", "list_tables"),
        ("cloudwatch", "list_metrics"),
        ("ecr", "describe_repositories"),
        ("sqs", "list_queues"),
        ("sns", "list_topics"),
        ("lambda", "list_functions"),
    ],
)
def test_a_service_that_is_not_built_is_named(endpoint: str, service: str, call: str) -> None:
    code, message = error_of(getattr(client(service, endpoint), call))
    assert code == "NotImplementedException"
    assert message == f"The service {service} is not built into sagemaker-emulator yet."


def test_sagemakers_other_endpoints_are_named(endpoint: str) -> None:
    runtime = client("sagemaker-runtime", endpoint)
    _, message = error_of(runtime.invoke_endpoint, EndpointName="e", Body=b"")
    assert "sagemaker-runtime" in message
    metrics = client("sagemaker-metrics", endpoint)
    _, message = error_of(metrics.batch_put_metrics, TrialComponentName="t", MetricData=[])
    assert "sagemaker-metrics" in message


# --- which service a request names ---------------------------------------------------------


def test_what_names_no_service_is_s3s(endpoint: str) -> None:
    for method in ("GET", "PUT", "HEAD", "DELETE", "OPTIONS"):
        assert raw(endpoint, method=method)[1]["server"] == "AmazonS3"
    with pytest.raises(ClientError) as error:
        client("s3", endpoint).head_object(Bucket="b", Key="k")
    metadata = error.value.response["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["server"] == "AmazonS3"


def test_an_unsigned_form_is_found_by_its_action(endpoint: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, headers, content = raw(endpoint, b"Action=GetCallerIdentity&Version=2011-06-15", form)
    assert status == 200
    assert headers["content-type"] == "text/xml"
    assert b"<Account>123456789012</Account>" in content
    status, _, content = raw(endpoint, b"Action=Nothing", form)
    assert status == 501
    assert b"<Code>NotImplementedException</Code>" in content


def test_a_presigned_get_caller_identity(endpoint: str) -> None:
    url = client("sts", endpoint).generate_presigned_url("get_caller_identity", HttpMethod="GET")
    line = http.client.HTTPConnection(urlsplit(endpoint).netloc)
    line.request("GET", url.removeprefix(endpoint))
    assert b"<Account>123456789012</Account>" in line.getresponse().read()
    line.close()


# --- sts and iam ---------------------------------------------------------------------------


def test_the_caller_is_a_role_that_the_sdk_can_use(endpoint: str) -> None:
    identity = client("sts", endpoint).get_caller_identity()
    assert identity["Account"] == "123456789012"
    # How the SDK's get_execution_role() goes on from here.
    role = re.fullmatch("arn:aws:sts::123456789012:assumed-role/(.+?)/.*", identity["Arn"])
    assert role
    found = client("iam", endpoint).get_role(RoleName=role[1])["Role"]
    assert found["Arn"] == SETTINGS.role_arn
    assert found["Path"] == "/service-role/"


def test_a_role_trusts_sagemaker(endpoint: str) -> None:
    role = client("iam", endpoint).get_role(RoleName="Any")["Role"]
    assert role["Arn"] == "arn:aws:iam::123456789012:role/Any"
    assert role["Path"] == "/"
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_everything_is_allowed(endpoint: str) -> None:
    results = client("iam", endpoint).simulate_principal_policy(
        PolicySourceArn=SETTINGS.role_arn, ActionNames=["s3:PutObject", "logs:PutLogEvents"]
    )["EvaluationResults"]
    assert [(r["EvalActionName"], r["EvalDecision"]) for r in results] == [
        ("s3:PutObject", "allowed"),
        ("logs:PutLogEvents", "allowed"),
    ]


def test_assume_role_gives_credentials_of_the_store(endpoint: str) -> None:
    answer = client("sts", endpoint).assume_role(
        RoleArn="arn:aws:iam::111122223333:role/path/Other", RoleSessionName="me"
    )
    credentials = answer["Credentials"]
    assert credentials["AccessKeyId"] == "111122223333"
    assert credentials["SecretAccessKey"] == "emulator-secret"
    assert credentials["SessionToken"]
    assert credentials["Expiration"].timestamp() == START + 3600
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/Other/me"


def test_a_form_is_validated_too(endpoint: str) -> None:
    code, message = error_of(client("sts", endpoint).assume_role, RoleArn="short")
    assert code == "ValidationError"
    assert "'roleArn' failed to satisfy constraint" in message
    assert "Value null at 'roleSessionName'" in message
