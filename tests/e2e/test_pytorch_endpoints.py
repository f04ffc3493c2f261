"""Endpoints of AWS's PyTorch image, in both runtimes: with this project's model server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from e2e_endpoints import BUCKET, ROLE, Hosting, archive
from emulators import start_emulator

pytestmark = pytest.mark.timeout(600)
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"

# As SDK v3's ModelBuilder does it, the model brings libraries and copies them to /lib.
STREAMING = b"""
import os
import shutil

def model_fn(model_dir):
    shutil.copytree(os.path.join(model_dir, "shared_libs"), "/lib", dirs_exist_ok=True)
    return model_dir

def transform_fn(model, body, content_type, accept, context):
    if body == b"bad":
        raise ValueError("not this one")
    return (part for part in (open("/lib/libmine.so").read(), body)), "text/plain"
"""


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def hosting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosting]:
    running = start_emulator(tmp_path_factory.mktemp("pytorch") / "state", runtime=request.param)
    yield Hosting(running, request.param)
    running.end()


def model(hosting: Hosting, archives: dict[str, bytes], **container: str) -> str:
    """A model of archives below a prefix of its own: the first, or with Mode MultiModel all."""
    name = f"pytorch-{uuid.uuid4().hex[:8]}"
    s3 = hosting.emulator.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET)
    for key, content in archives.items():
        s3.put_object(Bucket=BUCKET, Key=f"{name}/{key}", Body=content)
    key = "" if container else next(iter(archives))
    hosting.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/{name}/{key}",
            **container,
        },
    )
    return name


def deployed(hosting: Hosting, model_name: str) -> tuple[str, Any]:
    """The endpoint's name, and its description once nothing is in progress."""
    name = hosting.create(hosting.config({"ModelName": model_name}))
    return name, hosting.settled(name)


def test_a_generator_is_streamed(hosting: Hosting) -> None:
    content = archive(
        **{
            "code/inference.py": STREAMING,
            "code/requirements.txt": b"numpy\n",
            "shared_libs/libmine.so": b"L",
        }
    )
    name, described = deployed(hosting, model(hosting, {"model.tar.gz": content}))
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")

    answer = hosting.invoker.invoke_endpoint_with_response_stream(EndpointName=name, Body=b"x")
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert (answer["ContentType"], b"".join(parts)) == ("text/plain", b"Lx")
    assert hosting.call(name, b"x") == b"Lx"
    with pytest.raises(hosting.invoker.exceptions.ModelError) as failed:
        hosting.call(name, b"bad")
    assert failed.value.response["OriginalStatusCode"] == 500
    assert failed.value.response["OriginalMessage"].startswith("not this one\nTraceback")
    hosting.delete(name)


@pytest.mark.parametrize("hosting", ["process"], indirect=True)
def test_a_model_that_cannot_be_loaded_fails_the_endpoint_with_its_error(hosting: Hosting) -> None:
    content = archive(**{"code/inference.py": b"def model_fn(model_dir): return nothing_here"})
    name, described = deployed(hosting, model(hosting, {"model.tar.gz": content}))

    assert described["EndpointStatus"] == "Failed"
    assert "NameError: name 'nothing_here' is not defined" in described["FailureReason"]
    assert any("Traceback" in line for line in hosting.log(name))
    hosting.delete(name)


def test_several_models_on_one_instance(hosting: Hosting) -> None:
    answers = "def model_fn(d): return {!r}\ndef transform_fn(m, b, c, a): return m"
    archives = {
        f"{each}.tar.gz": archive(**{"code/inference.py": answers.format(each).encode()})
        for each in ("one", "two")
    }
    name, described = deployed(hosting, model(hosting, archives, Mode="MultiModel"))
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")

    assert hosting.call(name, TargetModel="one.tar.gz") == b"one"
    assert hosting.call(name, TargetModel="two.tar.gz") == b"two"
    hosting.delete(name)
