"""What the demo trains and serves: scikit-learn's digits, two instances, torchrun, an endpoint.

Needs the packages of the `demo` extra; the scripts are those of examples/torch_distributed.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import torch
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from emulator.cli.environment import default_bucket
from emulator.model.errors import ApiError
from emulator.settings import Settings

EPOCHS = 12
HIDDEN = 128
INSTANCES = 2
_METRICS = re.compile(r"epoch=(\d+) train_loss=([\d.]+) test_accuracy=([\d.]+);")
_SCRIPT = "train.py"
_SERVED_BY = "inference.py"
_POLL_SECONDS = 0.5

Table = NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """What the script says at the end of an epoch."""

    number: int
    loss: float
    accuracy: float

    @classmethod
    def parse(cls, line: str) -> Epoch | None:
        """Read the metrics in a log line, if it has any."""
        found = _METRICS.search(line)
        return cls(int(found[1]), float(found[2]), float(found[3])) if found else None


@dataclass(frozen=True)
class Digits:
    """Rows of a label and 64 pixels each; `held_out` is never uploaded."""

    train: Table
    test: Table
    held_out: Table

    @classmethod
    def load(cls) -> Digits:
        """70 % to train on, 15 % that the script tests on, 15 % that only the demo sees."""
        digits = load_digits()
        rows = np.column_stack([digits.target, digits.data]).astype(np.float32)
        train, rest = train_test_split(rows, test_size=0.3, random_state=0, stratify=rows[:, 0])
        test, held_out = train_test_split(rest, test_size=0.5, random_state=0, stratify=rest[:, 0])
        return cls(train, test, held_out)


class DemoJob:
    """One training job, submitted as a boto3 user submits it."""

    def __init__(self, settings: Settings, url: str):
        options = {
            "endpoint_url": url,
            "region_name": settings.region,
            "aws_access_key_id": settings.access_key,
            "aws_secret_access_key": settings.secret_key.get_secret_value(),
            "config": Config(proxies={}),
        }
        self.name = f"digits-demo-{time.strftime('%Y%m%d-%H%M%S')}"
        self._settings = settings
        self._bucket = default_bucket(settings)
        self._s3: Any = boto3.client("s3", **options)
        self._sagemaker: Any = boto3.client("sagemaker", **options)
        self._runtime: Any = boto3.client("sagemaker-runtime", **options)

    def upload(self, digits: Digits) -> str:
        """Put data and script into S3; gives the address below which they are."""
        self._make_bucket()
        for channel, table in (("train", digits.train), ("test", digits.test)):
            text = io.BytesIO()
            np.savetxt(text, table, fmt="%d", delimiter=",")
            self._put(f"data/{channel}/{channel}.csv", text.getvalue())
        self._put("source/sourcedir.tar.gz", source_archive(training_script()))
        return f"s3://{self._bucket}/{self.name}/"

    def submit(self) -> None:
        """CreateTrainingJob, with hyperparameters quoted as SDK v2 quotes them."""
        source = f"s3://{self._bucket}/{self.name}/source/sourcedir.tar.gz"
        hyperparameters = {
            "sagemaker_program": _SCRIPT,
            "sagemaker_submit_directory": source,
            "sagemaker_torch_distributed_enabled": True,
            # The toolkit writes out its whole environment from INFO (20) on.
            "sagemaker_container_log_level": 30,
            "sagemaker_region": self._settings.region,
            "epochs": EPOCHS,
            "hidden": HIDDEN,
        }
        self._sagemaker.create_training_job(
            TrainingJobName=self.name,
            RoleArn=self._settings.role_arn,
            AlgorithmSpecification={
                "TrainingImage": self._image("pytorch-training:2.7-cpu-py312"),
                "TrainingInputMode": "File",
            },
            HyperParameters={name: json.dumps(value) for name, value in hyperparameters.items()},
            InputDataConfig=[self._channel("train"), self._channel("test")],
            OutputDataConfig={"S3OutputPath": f"s3://{self._bucket}/"},
            ResourceConfig={
                "InstanceType": "ml.c5.xlarge",
                "InstanceCount": INSTANCES,
                "VolumeSizeInGB": 1,
            },
            StoppingCondition={"MaxRuntimeInSeconds": 900},
        )

    def held_out_accuracy(self, artifacts: str, digits: Digits) -> float:
        """Download model.tar.gz, load the weights in it, and try them on unseen digits."""
        with tarfile.open(fileobj=io.BytesIO(self._get(artifacts))) as tar:
            member = tar.extractfile("model.pth")
            if member is None:
                raise FileNotFoundError(f"{artifacts} holds no file model.pth")
            weights = torch.load(io.BytesIO(member.read()), weights_only=True)
        model = _script_module().build_model(HIDDEN)
        model.load_state_dict(weights)
        pixels = torch.from_numpy(digits.held_out[:, 1:] / 16)
        with torch.no_grad():
            predicted = model(pixels).argmax(1).numpy()
        return float((predicted == digits.held_out[:, 0]).mean())

    def deploy(self, artifacts: str) -> None:
        """Put the scripts that serve into the model, as the SDK does, and create an endpoint."""
        served = add_code(self._get(artifacts), [training_script(), serving_script()])
        self._put("model.tar.gz", served)
        self._sagemaker.create_model(
            ModelName=self.name,
            ExecutionRoleArn=self._settings.role_arn,
            PrimaryContainer={
                "Image": self._image("pytorch-inference:2.6.0-cpu-py312"),
                "ModelDataUrl": f"s3://{self._bucket}/{self.name}/model.tar.gz",
                "Environment": {"SAGEMAKER_PROGRAM": _SERVED_BY},
            },
        )
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": self.name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        self._sagemaker.create_endpoint_config(
            EndpointConfigName=self.name, ProductionVariants=[variant]
        )
        self._sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=self.name)

    def wait_until_served(self) -> Any:
        """DescribeEndpoint once the endpoint is in service, or has failed."""
        while True:
            described = self._sagemaker.describe_endpoint(EndpointName=self.name)
            if described["EndpointStatus"] != "Creating":
                return described
            time.sleep(_POLL_SECONDS)

    def endpoint_accuracy(self, digits: Digits) -> float:
        """Let the endpoint read the unseen digits."""
        answer = self._runtime.invoke_endpoint(
            EndpointName=self.name,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(digits.held_out[:, 1:].tolist()),
        )
        predicted = np.array(json.load(answer["Body"]))
        return float((predicted == digits.held_out[:, 0]).mean())

    def delete_endpoint(self) -> None:
        """Delete it with its configuration and its model."""
        self._sagemaker.delete_endpoint(EndpointName=self.name)
        self._sagemaker.delete_endpoint_config(EndpointConfigName=self.name)
        self._sagemaker.delete_model(ModelName=self.name)

    def _image(self, name: str) -> str:
        return f"763104351884.dkr.ecr.{self._settings.region}.amazonaws.com/{name}"

    def _get(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _make_bucket(self) -> None:
        region = self._settings.region
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        owned = self._s3.exceptions.BucketAlreadyOwnedByYou
        try:
            self._s3.create_bucket(
                Bucket=self._bucket, **({} if region == "us-east-1" else elsewhere)
            )
        except (owned, self._s3.exceptions.BucketAlreadyExists):
            # Only the bucket's existence matters, also where the store calls it by the other name.
            return

    def _put(self, name: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=f"{self.name}/{name}", Body=body)

    def _channel(self, name: str) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{self._bucket}/{self.name}/data/{name}/",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


@contextmanager
def service_errors() -> Iterator[None]:
    """Turn boto3's errors into those of the command line."""
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        raise ApiError(said["Message"], code=said["Code"]) from error
    except BotoCoreError as error:
        raise ConnectionError(type(error).__name__) from error


def training_script() -> Path:
    """What the job runs."""
    return _example(_SCRIPT)


def serving_script() -> Path:
    """What the endpoint runs."""
    return _example(_SERVED_BY)


def _example(name: str) -> Path:
    """A script of the example, in the installed package or in the checkout."""
    here = Path(__file__).parent
    installed = here / "demo_job" / name
    checkout = here.parents[1] / "examples" / "torch_distributed" / name
    return installed if installed.exists() else checkout


def source_archive(script: Path) -> bytes:
    """sourcedir.tar.gz with the script at its top."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(script, script.name)
    return archive.getvalue()


def add_code(model: bytes, scripts: Sequence[Path]) -> bytes:
    """model.tar.gz with scripts in code/, where serving containers look for them."""
    archive = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(model)) as trained,
        tarfile.open(fileobj=archive, mode="w:gz") as served,
    ):
        for member in trained:
            served.addfile(member, trained.extractfile(member) if member.isfile() else None)
        for script in scripts:
            served.add(script, f"code/{script.name}")
    return archive.getvalue()


def _script_module() -> Any:
    """The script itself as a module, so that the model is defined in one place."""
    spec = importlib.util.spec_from_file_location("demo_job", training_script())
    if spec is None or spec.loader is None:
        raise FileNotFoundError(training_script())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
