"""Endpoints as tests make them: the serving container of tests/images, in either runtime."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError
from emulators import RunningEmulator

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from own_serving import IMAGE, PROGRAM

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
BUCKET = "endpoint-models"
PATIENCE = 120.0


def archive(**members: bytes) -> bytes:
    """A tar.gz with these files; two underscores in a name stand for a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class Hosting:
    """Endpoints of one emulator."""

    emulator: RunningEmulator
    runtime: str

    @property
    def sagemaker(self) -> Any:
        return self.emulator.client("sagemaker")

    @property
    def invoker(self) -> Any:
        """A client that tries once."""
        once = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE)
        return self.emulator.client("sagemaker-runtime", config=once)

    def model(self, faults: str = "", data: bytes | None = None, **environment: str) -> str:
        """A model of the serving container; `data` is its archive."""
        name = f"model-{uuid.uuid4().hex[:8]}"
        s3 = self.emulator.client("s3")
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=BUCKET)
        content = archive(serve=PROGRAM.read_bytes()) if data is None else data
        s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=content)
        own = {"EMULATOR_SERVE": f"{sys.executable} serve"} if self.runtime == "process" else {}
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz",
                "Environment": {"SERVE_FAULTS": faults, **own, **environment},
            },
        )
        return name

    def config(self, *variants: Mapping[str, Any]) -> str:
        """An endpoint configuration; a variant needs no more than a ModelName."""
        name = f"config-{uuid.uuid4().hex[:8]}"
        usual = {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {"VariantName": f"v{number}", **usual, **variant}
                for number, variant in enumerate(variants, start=1)
            ],
        )
        return name

    def create(self, config: str, tags: Mapping[str, str] | None = None) -> str:
        name = f"Endpoint-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_endpoint(
            EndpointName=name,
            EndpointConfigName=config,
            Tags=[{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        )
        return name

    def deploy(self, faults: str = "", count: int = 1, **tags: str) -> str:
        """An endpoint with one variant that is in service."""
        config = self.config({"ModelName": self.model(faults), "InitialInstanceCount": count})
        name = self.create(config, {key.replace("_", ":", 1): v for key, v in tags.items()})
        described = self.settled(name)
        assert described["EndpointStatus"] == "InService", described.get("FailureReason")
        return name

    def describe(self, name: str) -> Any:
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def settled(self, name: str) -> Any:
        """The endpoint once nothing is in progress."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.describe(name))["EndpointStatus"] not in ("InService", "Failed"):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def await_count(self, name: str, count: int) -> None:
        """Wait until so many instances of the first variant are in service."""
        deadline = time.monotonic() + PATIENCE
        while self.describe(name)["ProductionVariants"][0]["CurrentInstanceCount"] != count:
            assert time.monotonic() < deadline, self.describe(name)
            time.sleep(0.05)

    def call(self, name: str, body: bytes = b"hello", faults: str = "", **more: str) -> bytes:
        """The answer to one invocation."""
        attributes = {"CustomAttributes": faults} if faults else {}
        answer = self.invoker.invoke_endpoint(EndpointName=name, Body=body, **attributes, **more)
        content: bytes = answer["Body"].read()
        return content

    def delete(self, name: str) -> None:
        """Delete an endpoint and wait until it is gone."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        deadline = time.monotonic() + PATIENCE
        while self.exists(name):
            assert time.monotonic() < deadline, self.describe(name)
            time.sleep(0.05)

    def exists(self, name: str) -> bool:
        try:
            self.describe(name)
        except ClientError as error:
            assert "Could not find endpoint" in str(error)  # noqa: PT017
            return False
        return True

    def kill_one(self, name: str) -> None:
        """SIGKILL to one instance, as by the kernel's out-of-memory killer."""
        if self.runtime == "docker":
            listing = ["docker", "ps", "--quiet", "--filter", f"name=sagemaker-{name}"]
            first = subprocess.check_output(listing, text=True).split()[0]
            subprocess.run(["docker", "kill", first], check=True, stdout=subprocess.DEVNULL)
            return
        records = (self.emulator.state_dir / "supervised").glob("*.json")
        read = [json.loads(record.read_text()) for record in records]
        mine = next(record for record in read if f"/{name.lower()}/" in record["arn"])
        (instance,) = mine["instances"].values()
        os.kill(instance["first"][0], signal.SIGKILL)

    def log(self, name: str) -> list[str]:
        """All lines of all streams."""
        logs = self.emulator.client("logs")
        group = f"/aws/sagemaker/Endpoints/{name}"
        events = logs.filter_log_events(logGroupName=group)["events"]
        return [event["message"] for event in events]
