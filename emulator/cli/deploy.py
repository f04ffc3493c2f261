"""deploy: a model.tar.gz as an endpoint, in one command."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from emulator.cli.artifacts import s3_client
from emulator.cli.follow import POLL_SECONDS
from emulator.cli.messages import ExitCode, err, fail, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import Remote, connect, plain_errors
from emulator.model.errors import ApiError

_BUCKET = "sagemaker-emulator-models"
_IMAGE = "sagemaker-emulator/pytorch-inference"
"""Its variants are cpu and gpu."""
_OTHER = re.compile(r"[^a-zA-Z0-9]+")


def deploy(
    model: Annotated[
        str, typer.Argument(help="A model.tar.gz, or its s3:// address.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the endpoint; default: the model's.")
    ] = None,
    instance_type: Annotated[
        str, typer.Option("--instance-type", help="E.g. ml.local.1gpu.")
    ] = "ml.m5.large",
    count: Annotated[int, typer.Option("--count", min=1, help="Instances.")] = 1,
    image: Annotated[
        str | None, typer.Option("--image", help="Default: this project's for PyTorch.")
    ] = None,
    variable: Annotated[
        list[str] | None, typer.Option("--env", help="A variable of the model, NAME=VALUE.")
    ] = None,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Make an endpoint of a model.tar.gz and wait until it serves.

    An endpoint of that name is updated.
    """
    settings = load_settings(state_dir=state_dir, config=config)
    remote = connect(settings, endpoint_url, port)
    stem = model.rstrip("/").rpartition("/")[2].removesuffix(".tar.gz")
    chosen = name or _OTHER.sub("-", stem).strip("-")[:50] or "model"
    environment = dict(_pair(each) for each in variable or ())
    with plain_errors(remote):
        url = model if model.startswith("s3://") else _uploaded(remote, Path(model), chosen)
        container = {
            "Image": image or f"{_IMAGE}:{'gpu' if 'gpu' in instance_type else 'cpu'}",
            "ModelDataUrl": url,
            "Environment": environment,
        }
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": chosen,
            "InitialInstanceCount": count,
            "InstanceType": instance_type,
        }
        _create(remote, chosen, settings.role_arn, container, variant)
        described = _awaited(remote, chosen)
    if reason := described.get("FailureReason"):  # of an update, too, that was given up
        fail(f"{chosen} does not serve this model: {reason}")
    out.print(f"{chosen}: InService")
    out.print(f"sagemaker-emulator invoke {chosen} --body ...", markup=False)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(f"--env {text} is not NAME=VALUE.", code=ExitCode.USAGE)
    return name, value


def _uploaded(remote: Remote, path: Path, name: str) -> str:
    """The model's address in S3."""
    if not path.is_file():
        fail(f"there is no file {path}.", code=ExitCode.USAGE)
    key = f"{name}/model.tar.gz"
    client = s3_client(remote)
    try:
        if not client.bucket_exists(_BUCKET):
            client.make_bucket(_BUCKET)
        client.fput_object(_BUCKET, key, str(path))
    except (MinioException, HTTPError, OSError) as error:
        fail(f"{path} cannot be uploaded: {error}.")
    return f"s3://{_BUCKET}/{key}"


def _create(
    remote: Remote, name: str, role: str, container: dict[str, Any], variant: dict[str, Any]
) -> None:
    """What there is of the name from an earlier time is replaced; raises ApiError."""
    for kind in ("Model", "EndpointConfig"):
        try:
            remote.sagemaker.call(f"Delete{kind}", **{f"{kind}Name": name})
        except ApiError as error:
            if "Could not find" not in error.message:
                raise
    call = remote.sagemaker.call
    call("CreateModel", ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])
    try:
        call("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
    except ApiError as error:
        if "already existing endpoint" not in error.message:
            raise
        call("UpdateEndpoint", EndpointName=name, EndpointConfigName=name)


def _awaited(remote: Remote, name: str) -> dict[str, Any]:
    """The endpoint once nothing is in progress."""
    with err.status(f"{name} is being started"):
        while True:
            described = remote.sagemaker.call("DescribeEndpoint", EndpointName=name)
            if described["EndpointStatus"] in ("InService", "Failed"):
                return described
            time.sleep(POLL_SECONDS)
