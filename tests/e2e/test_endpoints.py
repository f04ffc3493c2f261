"""Endpoints, in both runtimes: their life from creation to deletion, and what may befall them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from e2e_endpoints import BUCKET, PATIENCE, Hosting, archive
from emulators import start_emulator
from own_serving import build_image

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def hosting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosting]:
    """One emulator for the module, in each runtime."""
    if request.param == "docker":
        build_image()
    running = start_emulator(tmp_path_factory.mktemp("hosting") / "state", runtime=request.param)
    yield Hosting(running, request.param)
    running.end()


class Callers:
    """Clients that call an endpoint again and again, each failure of which is kept."""

    def __init__(self, hosting: Hosting, name: str, count: int = 3):
        self.answered = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(hosting, name)) for _ in range(count)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted, deadline = self.answered + count, time.monotonic() + PATIENCE
        while self.answered < wanted and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _call(self, hosting: Hosting, name: str) -> None:
        invoker = hosting.invoker
        while not self._stop.is_set():
            try:
                answer = invoker.invoke_endpoint(EndpointName=name, Body=b"x")
                assert answer["Body"].read() == b"x"
                self.answered += 1
            except Exception as error:  # noqa: BLE001 - the test looks at them
                self.failures.append(str(error))


def seen(hosting: Hosting, name: str) -> Any:
    """What the container says of itself."""
    return json.loads(hosting.call(name, faults="describe"))


def test_a_model_is_deployed_called_and_deleted(hosting: Hosting) -> None:
    name = hosting.deploy()
    described = hosting.describe(name)
    assert described["EndpointArn"].endswith(f"endpoint/{name.lower()}")
    (variant,) = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (1, 1.0)
    assert hosting.call(name, b"\x00\xff") == b"\x00\xff"
    container = seen(hosting, name)
    assert container["model"] == ["model/serve"]
    assert container["environment"]["AWS_REGION"] == hosting.emulator.exports["AWS_REGION"]
    logs = hosting.emulator.client("logs")
    (stream,) = logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{name}")[
        "logStreams"
    ]
    assert re.fullmatch(r"v1/i-[0-9a-f]{17}", stream["logStreamName"])
    assert "starting, faults []" in hosting.log(name)
    hosting.delete(name)
    with pytest.raises(ClientError, match=f"Endpoint {name} of account .* not found"):
        hosting.call(name)


def test_an_update_loses_no_request(hosting: Hosting) -> None:
    name = hosting.deploy()
    other = hosting.config({"ModelName": hosting.model(NEW="yes"), "InitialInstanceCount": 2})
    with Callers(hosting, name) as callers:
        callers.await_answers(20)
        hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other)
        updating = hosting.describe(name)
        assert updating["EndpointStatus"] == "Updating"
        assert updating["EndpointConfigName"] != other
        assert updating["PendingDeploymentSummary"]["EndpointConfigName"] == other
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other)
        assert hosting.settled(name)["EndpointConfigName"] == other
        callers.await_answers(20)
    assert callers.failures == []
    assert seen(hosting, name)["environment"]["NEW"] == "yes"
    hosting.delete(name)


def test_a_request_that_runs_ends_on_the_old_instance(hosting: Hosting) -> None:
    name = hosting.deploy()
    answers: list[bytes] = []
    slow = threading.Thread(target=lambda: answers.append(hosting.call(name, b"old", "hang=4")))
    slow.start()
    deadline = time.monotonic() + PATIENCE
    while not any("faults ['hang']" in line for line in hosting.log(name)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other = hosting.config({"ModelName": hosting.model()})
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other)
    assert hosting.settled(name)["EndpointConfigName"] == other
    slow.join()
    assert answers == [b"old"]
    hosting.delete(name)


def test_an_update_that_fails_leaves_what_served(hosting: Hosting) -> None:
    name = hosting.deploy()
    config = hosting.describe(name)["EndpointConfigName"]
    bad = hosting.config({"ModelName": hosting.model("exit")})
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bad)
    described = hosting.settled(name)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == config
    assert described["FailureReason"].startswith("CannotStartContainerError")
    assert hosting.call(name) == b"hello"
    hosting.delete(name)


def test_a_container_that_ends_fails_the_endpoint_with_its_last_lines(hosting: Hosting) -> None:
    name = hosting.create(hosting.config({"ModelName": hosting.model("exit")}))
    described = hosting.settled(name)
    assert described["EndpointStatus"] == "Failed"
    reason = described["FailureReason"]
    assert "Please ensure the model container for variant v1 starts correctly" in reason
    assert reason.splitlines()[-1] == "told to exit"
    assert hosting.log(name).count("told to exit") == 2
    with pytest.raises(ClientError, match="can only be deleted"):
        hosting.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=described["EndpointConfigName"]
        )
    hosting.delete(name)


def _linked() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no archive", "no tar.gz archive"),
        (archive(serve=bytes(100_000))[:100], "no tar.gz archive"),
        (archive(**{"..__escaped": b"x"}), "leads out of it"),
        (_linked(), "a link or a special file"),
    ],
    ids=["text", "cut-off", "outside", "link"],
)
def test_bad_model_data_is_told(hosting: Hosting, data: bytes, why: str) -> None:
    name = hosting.create(hosting.config({"ModelName": hosting.model(data=data)}))
    described = hosting.settled(name)
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"].startswith(
        f'Failed to download model data for container "container_1" from URL: "s3://{BUCKET}/'
    )
    assert why in described["FailureReason"]
    hosting.delete(name)


def test_an_archive_of_the_sdks_begins_with_a_member_without_a_name(hosting: Hosting) -> None:
    packed = io.BytesIO()
    program = (Path(__file__).parents[1] / "images" / "serving" / "serve.py").read_bytes()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        top = tarfile.TarInfo("")
        top.type = tarfile.DIRTYPE
        file.addfile(top)
        info = tarfile.TarInfo("./serve")
        info.size = len(program)
        file.addfile(info, io.BytesIO(program))
    name = hosting.create(hosting.config({"ModelName": hosting.model(data=packed.getvalue())}))
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    assert seen(hosting, name)["model"] == ["model/serve"]
    hosting.delete(name)


def test_an_instance_that_dies_is_replaced_and_no_request_is_lost(hosting: Hosting) -> None:
    name = hosting.deploy(count=2)
    with Callers(hosting, name) as callers:
        callers.await_answers(20)
        hosting.kill_one(name)
        hosting.await_count(name, 1)
        hosting.await_count(name, 2)
        callers.await_answers(20)
    assert callers.failures == []
    assert hosting.describe(name)["EndpointStatus"] == "InService"
    hosting.delete(name)


def test_a_request_waits_for_the_instance_that_is_replaced(hosting: Hosting) -> None:
    name = hosting.deploy()
    with pytest.raises(ClientError):
        hosting.call(name, faults="die")
    assert hosting.call(name) == b"hello"
    hosting.delete(name)


def test_an_endpoint_that_is_created_can_be_deleted(hosting: Hosting) -> None:
    name = hosting.create(hosting.config({"ModelName": hosting.model("no-ping")}))
    assert hosting.describe(name)["EndpointStatus"] == "Creating"
    with pytest.raises(ClientError, match="not found"):
        hosting.call(name)
    hosting.delete(name)


def test_numbers_and_weights_change(hosting: Hosting) -> None:
    model = hosting.model()
    name = hosting.create(hosting.config({"ModelName": model}, {"ModelName": model}))
    hosting.settled(name)
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "v1", "DesiredInstanceCount": 2, "DesiredWeight": 0.0}
        ],
    )
    first, second = hosting.settled(name)["ProductionVariants"]
    assert (first["CurrentInstanceCount"], first["CurrentWeight"]) == (2, 0.0)
    assert (second["CurrentInstanceCount"], second["CurrentWeight"]) == (1, 1.0)
    variants = {
        hosting.invoker.invoke_endpoint(EndpointName=name, Body=b"")["InvokedProductionVariant"]
        for _ in range(10)
    }
    assert variants == {"v2"}
    assert hosting.call(name, TargetVariant="v1") == b"hello"
    hosting.delete(name)


def test_an_idle_variant_gives_its_instance_back_and_wakes(hosting: Hosting) -> None:
    name = hosting.deploy(**{"emulator_idle-seconds": "1"})
    hosting.await_count(name, 0)
    assert hosting.describe(name)["EndpointStatus"] == "InService"
    assert hosting.call(name) == b"hello"
    hosting.delete(name)


def test_an_update_in_place_ends_the_old_instance_first(hosting: Hosting) -> None:
    name = hosting.deploy(emulator_update="in-place")
    other = hosting.config({"ModelName": hosting.model(NEW="yes")})
    with Callers(hosting, name) as callers:
        callers.await_answers(5)
        hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other)
        assert hosting.settled(name)["EndpointConfigName"] == other
        callers.await_answers(5)
    assert callers.failures == []
    assert seen(hosting, name)["environment"]["NEW"] == "yes"
    hosting.delete(name)


def test_an_endpoint_serves_on_after_a_kill(hosting: Hosting, tmp_path: Path) -> None:
    def start() -> Hosting:
        flags = {"leave": True, "runtime": hosting.runtime}
        return Hosting(start_emulator(tmp_path / "state", **flags), hosting.runtime)  # type: ignore[arg-type]

    first = start()
    name = first.deploy(count=2)
    assert first.call(name) == b"hello"
    os.kill(first.emulator.process.pid, signal.SIGKILL)
    first.emulator.process.wait()
    second = start()
    try:
        assert second.call(name) == b"hello"
        described = second.describe(name)
        assert described["EndpointStatus"] == "InService"
        lines = second.log(name)
        assert lines.count("starting, faults []") == 2, lines  # nobody was started anew
    finally:
        assert second.emulator.end() == 0  # the instances go on
    third = start()
    try:
        assert third.call(name) == b"hello"
        assert third.log(name).count("starting, faults []") == 2
        third.delete(name)
    finally:
        third.emulator.end()


def test_an_endpoint_is_started_anew_where_nothing_was_left(
    hosting: Hosting, tmp_path: Path
) -> None:
    def start() -> Hosting:
        state = tmp_path / "state"
        return Hosting(start_emulator(state, leave=False, runtime=hosting.runtime), hosting.runtime)

    first = start()
    name = first.deploy()
    assert first.emulator.end() == 0
    second = start()
    try:
        assert second.call(name) == b"hello"  # waits for the start
        assert second.log(name).count("starting, faults []") == 2
        second.delete(name)
    finally:
        second.emulator.end()
