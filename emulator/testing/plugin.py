"""The pytest plugin: options, the marker, and the fixtures. docs/testing.md describes them.

pytest imports it in every environment that has the emulator, so it imports little.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emulator.aws.accounts import account_of

if TYPE_CHECKING:
    from emulator.testing.training import Result

Train = Callable[..., "Result"]
AddFault = Callable[..., str]

_MARKER = (
    "sagemaker(gpus=0): needs the emulator, and so many GPUs on its machine; "
    "the test is skipped where there are fewer"
)
_OPTIONS = {
    "endpoint": "an emulator that runs already, instead of one of the test run's own",
    "runtime": "process (default), docker or auto: where training jobs run",
    "keep": "do not remove the emulator's files after the run: any text but 0, no or false",
}
_WORKER_DIRECTORY = "sagemaker_emulator_run"


@dataclass(frozen=True)
class Emulator:
    """The emulator that the tests use."""

    endpoint_url: str
    env: Mapping[str, str]
    """Variables that point boto3, the AWS CLI and the SageMaker SDKs of a process at it."""
    runtime: str

    @property
    def region(self) -> str:
        """The region that the variables name."""
        return self.env["AWS_REGION"]

    @property
    def role_arn(self) -> str:
        """A role that requests can name."""
        key = self.env["AWS_ACCESS_KEY_ID"]
        account = account_of(key, "123456789012")
        return f"arn:aws:iam::{account}:role/SageMakerRole"

    def client(self, name: str, **options: Any) -> Any:
        """A boto3 client of an AWS service; `options` go to boto3 as well."""
        return _boto3().client(name, **{**self._options(), **options})

    def _options(self) -> dict[str, Any]:
        from botocore.config import Config  # noqa: PLC0415 - comes with boto3

        return {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.env["AWS_SECRET_ACCESS_KEY"],
            # The endpoint is never asked for through a proxy that the user may have.
            "config": Config(proxies={}),
        }


class _Run:
    """What this process knows of the test run's emulator."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.worker: str = getattr(config, "workerinput", {}).get("workerid", "")
        given = getattr(config, "workerinput", {}).get(_WORKER_DIRECTORY)
        self._directory = Path(given) if given else None
        self._held = ExitStack()

    def option(self, name: str) -> str:
        """A setting: of the command line, else the environment, else the ini file; or ""."""
        flag = self.config.getoption(f"sagemaker_{name}")
        variable = os.environ.get(f"PYTEST_SAGEMAKER_{name.upper()}")
        return str(flag or variable or self.config.getini(f"sagemaker_{name}") or "")

    @property
    def keeps(self) -> bool:
        """Whether the emulator's files stay."""
        return self.option("keep").lower() not in ("", "0", "no", "false")

    def directory(self) -> Path:
        """Where the run's emulator has its files; made, and removed in the end, by its maker."""
        from emulator.lifeline import Lifeline  # noqa: PLC0415
        from emulator.testing.shared import LIFELINE, remove_run  # noqa: PLC0415

        if self._directory is None:
            made = Path(tempfile.mkdtemp(prefix="sagemaker-emulator-"))
            self._directory = made
            if not self.keeps:
                self._held.callback(remove_run, made)
            # For as long as the run lasts, so that one worker's end does not end the emulator.
            self._held.callback(Lifeline(made / LIFELINE).let_go)
        return self._directory

    @property
    def made(self) -> Path | None:
        """The directory, if there is one."""
        return self._directory

    def close(self) -> None:
        """Let go of the emulator and wait for its end, if this process has made its place."""
        self._held.close()


_RUN = pytest.StashKey[_Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, and ini settings of the same names."""
    group = parser.getgroup("sagemaker", "SageMaker emulator")
    for name, meaning in _OPTIONS.items():
        said = f"{meaning} (PYTEST_SAGEMAKER_{name.upper()})"
        if name == "keep":
            group.addoption("--sagemaker-keep", action="store_const", const="1", help=said)
        else:
            group.addoption(f"--sagemaker-{name}", help=said)
        parser.addini(f"sagemaker_{name}", meaning)


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and what this process knows of the run."""
    config.addinivalue_line("markers", _MARKER)
    config.stash[_RUN] = _Run(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The run's emulator ends with the run."""
    if run := config.stash.get(_RUN, None):
        run.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the emulator of all workers is."""
    run = node.config.stash[_RUN]
    if not run.option("endpoint"):
        node.workerinput[_WORKER_DIRECTORY] = str(run.directory())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marked test meets its needs, or is skipped, before its own fixtures are made."""
    for item in items:
        if item.get_closest_marker("sagemaker") and hasattr(item, "fixturenames"):
            item.fixturenames.insert(0, "_sagemaker_needs")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where kept files are."""
    run = config.stash[_RUN]
    if run.keeps and run.made:
        terminalreporter.write_line(f"SageMaker emulator: its files are in {run.made}")


@pytest.fixture(scope="session")
def sagemaker_emulator(pytestconfig: pytest.Config) -> Iterator[Emulator]:
    """The emulator of this test run, or the one of --sagemaker-endpoint."""
    run = pytestconfig.stash[_RUN]
    runtime = run.option("runtime") or "process"
    if url := run.option("endpoint").rstrip("/"):
        yield Emulator(url, _environment_of(url), "")
        return
    # Not at the top: most test runs in an environment need no emulator.
    from emulator.testing.shared import EmulatorDidNotStart, SharedEmulator  # noqa: PLC0415

    shared = SharedEmulator(run.directory(), runtime)
    try:
        exports = dict(shared.join().exports)
    except EmulatorDidNotStart as error:
        pytest.fail(f"The SageMaker emulator did not start:\n{error}", pytrace=False)
    if run.worker:
        exports["AWS_ACCESS_KEY_ID"] = _account(run.worker)
    yield Emulator(exports["AWS_ENDPOINT_URL"], exports, runtime)
    shared.leave()


@pytest.fixture
def sagemaker_env(
    sagemaker_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """The variables, set in this process for the length of the test."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, text in sagemaker_emulator.env.items():
        monkeypatch.setenv(name, text)
    return sagemaker_emulator.env


@pytest.fixture
def sagemaker_bucket(sagemaker_emulator: Emulator) -> Iterator[str]:
    """The name of a bucket of this test's own; it is removed, with all in it, after the test."""
    s3 = sagemaker_emulator.client("s3")
    name = f"test-{uuid.uuid4().hex[:16]}"
    region = sagemaker_emulator.region
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else elsewhere))
    yield name
    # A job that the test has left running may still write; the bucket stays then.
    with suppress(s3.exceptions.ClientError):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
            keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket=name, Delete={"Objects": keys})
        s3.delete_bucket(Bucket=name)


@pytest.fixture
def sagemaker_session(
    sagemaker_emulator: Emulator,
    sagemaker_env: Mapping[str, str],  # noqa: ARG001 - the SDK reads the variables
    sagemaker_bucket: str,
) -> Any:
    """A `sagemaker.Session` of SDK v2 with the test's bucket; skips without that SDK."""
    sagemaker = pytest.importorskip("sagemaker", reason="SageMaker SDK v2 is not installed")
    if not hasattr(sagemaker, "Session"):
        pytest.skip("sagemaker.Session is of SDK v2; another version is installed")
    boto_session = _boto3().Session(region_name=sagemaker_emulator.region)
    return sagemaker.Session(boto_session=boto_session, default_bucket=sagemaker_bucket)


@pytest.fixture
def sagemaker_train(
    sagemaker_emulator: Emulator, sagemaker_bucket: str, tmp_path: Path, request: Any
) -> Train:
    """A function that runs a script as a training job and gives what became of it.

    Its arguments are `source_dir`, `entry_point`, `timeout` (seconds), `check`, and those of
    `emulator.testing.training.Training`. Relative paths begin at the test's file.
    """
    from emulator.testing.training import Clients, Training, train  # noqa: PLC0415

    clients = Clients(
        sagemaker=sagemaker_emulator.client("sagemaker"),
        logs=sagemaker_emulator.client("logs"),
        s3=sagemaker_emulator.client("s3"),
        bucket=sagemaker_bucket,
        region=sagemaker_emulator.region,
        role=sagemaker_emulator.role_arn,
    )
    runs_here = sagemaker_emulator.runtime == "process" and "EMULATOR_PYTHON" not in os.environ
    has_toolkit = not runs_here or importlib.util.find_spec("sagemaker_training") is not None

    def run(
        source_dir: str | Path = ".",
        entry_point: str = "train.py",
        timeout: float = 300,
        check: bool = True,
        **how: Any,
    ) -> Result:
        __tracebackhide__ = True
        how.setdefault("toolkit", has_toolkit)
        source = request.path.parent / source_dir
        return train(clients, Training(source, entry_point, **how), tmp_path, timeout, check)

    return run


@pytest.fixture
def sagemaker_faults(sagemaker_emulator: Emulator) -> Iterator[AddFault]:
    """A function that seeds a fault (docs/faults.md) until the end of the test; gives its id.

    Its arguments are the fault's members, `kind` first.
    """
    from emulator.testing.shared import ask  # noqa: PLC0415

    url, route = sagemaker_emulator.endpoint_url, "/_emulator/faults"
    with ExitStack() as seeded:

        def add(kind: str, **members: Any) -> str:
            fault = str(ask(url, route, "POST", {"kind": kind, **members})["id"])
            seeded.callback(ask, url, f"{route}/{fault}", "DELETE")
            return fault

        yield add


@pytest.fixture
def _sagemaker_needs(sagemaker_emulator: Emulator, request: pytest.FixtureRequest) -> None:
    """Skip the test where the machine lacks what its marker asks for."""
    from emulator.testing.shared import ask  # noqa: PLC0415

    marker = request.node.get_closest_marker("sagemaker")
    wanted = int(marker.kwargs.get("gpus", 0)) if marker else 0
    if wanted:
        there = len(ask(sagemaker_emulator.endpoint_url, "/_emulator/gpus")["gpus"])
        if there < wanted:
            pytest.skip(f"needs {wanted} GPUs; the emulator's machine has {there}")


def _environment_of(url: str) -> dict[str, str]:
    """Variables for an emulator that the user has started, in this shell or elsewhere."""
    ours = os.environ if os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/") == url else {}
    region = ours.get("AWS_REGION", "us-east-1")
    return {
        **{name: ours[name] for name in ("SAGEMAKER_USER_CONFIG_OVERRIDE",) if name in ours},
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ours.get("AWS_ACCESS_KEY_ID", "emulator"),
        "AWS_SECRET_ACCESS_KEY": ours.get("AWS_SECRET_ACCESS_KEY", "emulator-secret"),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _account(worker: str) -> str:
    """An account for each worker of a run, so that they do not see each other's jobs."""
    digits = int(hashlib.sha256(worker.encode()).hexdigest(), 16) % 10**11
    return f"9{digits:011d}"


def _boto3() -> Any:
    try:
        import boto3  # noqa: PLC0415 - only who uses the fixtures needs it
    except ImportError:
        pytest.fail("These fixtures need boto3: pip install boto3", pytrace=False)
    return boto3
