"""Jobs share the GPUs of a rehearsal inventory, as they would share a workstation's."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e_endpoints import Hosting
from e2e_jobs import channel, log_lines, run, shell_request, wait, wait_for
from emulators import RunningEmulator, start_emulator

UNTIL_STOPPED = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def write_inventory(folder: Path, gpus: int) -> Path:
    path = folder / "inventory.json"
    listed = [{"uuid": f"GPU-{n}", "name": "NVIDIA L40S", "memory_mib": 46068} for n in range(gpus)]
    path.write_text(json.dumps({"gpus": listed}))
    return path


def with_gpus(folder: Path, gpus: int, **settings: str) -> RunningEmulator:
    """An emulator on a machine with so many GPUs, and a bucket in it."""
    config = folder / "settings.toml"
    told = {
        "runtime": "process",
        "gpu_inventory": str(write_inventory(folder, gpus)),
        **settings,
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    emulator = start_emulator(folder / "state", "--config", str(config))
    emulator.client("s3").create_bucket(Bucket="gpus")
    return emulator


@pytest.fixture(scope="module")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """Four GPUs."""
    emulator = with_gpus(tmp_path_factory.mktemp("workstation"), 4)
    yield emulator
    emulator.end()


def holders(emulator: RunningEmulator) -> dict[str, tuple[str | None, str | None]]:
    """The gpus page: job and instance by UUID."""
    with urllib.request.urlopen(f"{emulator.url}/_emulator/gpus", timeout=60) as answer:
        page: Mapping[str, Any] = json.load(answer)
    return {gpu["uuid"]: (gpu["job"], gpu["instance"]) for gpu in page["gpus"]}


def job(command: str, type_: str = "ml.local.2gpu", instances: int = 1) -> dict[str, Any]:
    body = shell_request("gpus", command, instances)
    body["ResourceConfig"]["InstanceType"] = type_
    return body


def submit(emulator: RunningEmulator, body: Mapping[str, Any]) -> str:
    emulator.client("sagemaker").create_training_job(**body)
    return str(body["TrainingJobName"])


def end(emulator: RunningEmulator, name: str) -> None:
    sagemaker = emulator.client("sagemaker")
    sagemaker.stop_training_job(TrainingJobName=name)
    assert wait(sagemaker, name)["TrainingJobStatus"] == "Stopped"


def training(answer: Mapping[str, Any]) -> bool:
    return bool(answer["SecondaryStatus"] == "Training")


def test_two_jobs_side_by_side_and_a_third_waits_for_its_gpus(
    workstation: RunningEmulator,
) -> None:
    sagemaker = workstation.client("sagemaker")
    first, second = (submit(workstation, job(UNTIL_STOPPED)) for _ in range(2))
    for name in (first, second):
        wait_for(sagemaker, name, training)
    third = submit(workstation, job("echo $CUDA_VISIBLE_DEVICES."))
    pending = wait_for(sagemaker, third, lambda job: job["SecondaryStatus"] == "Pending")
    assert pending["TrainingJobStatus"] == "InProgress"
    assert "capacity" in pending["SecondaryStatusTransitions"][-1]["StatusMessage"]
    held = holders(workstation)
    assert sorted(name or "" for name, _ in held.values()) == sorted([first, first, second, second])
    assert {instance for _, instance in held.values()} == {"algo-1"}
    end(workstation, first)
    assert wait(sagemaker, third)["TrainingJobStatus"] == "Completed"
    assert {name for name, _ in holders(workstation).values()} >= {second}
    end(workstation, second)
    lines = log_lines(workstation.client("logs"), third)
    assert lines[-1] == "."
    assert any("GPU-" in line and "NVIDIA L40S" in line for line in lines)
    assert any("instances get no device" in line for line in lines)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ran_gives_its_gpus_back_and_what_waited_waits_on(
    tmp_path: Path, how: signal.Signals
) -> None:
    first = with_gpus(tmp_path, 2)
    sagemaker = first.client("sagemaker")
    name = submit(first, job("sleep 1000"))
    wait_for(sagemaker, name, training)
    assert {held for held, _ in holders(first).values()} == {name}
    second, third, stopped = (submit(first, job("sleep 1")) for _ in range(3))
    for waiting in (second, third, stopped):
        wait_for(sagemaker, waiting, lambda job: job["SecondaryStatus"] == "Pending")
    end(first, stopped)
    os.kill(first.process.pid, how)
    first.process.wait(60)
    again = start_emulator(tmp_path / "state", "--config", str(tmp_path / "settings.toml"))
    try:
        sagemaker = again.client("sagemaker")
        assert wait(sagemaker, name)["TrainingJobStatus"] == "Failed"
        for waiting in (second, third):
            answer = wait(sagemaker, waiting)
            assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
        # Given back last of all, when the job's end can be seen already.
        wait_for(sagemaker, third, lambda _: set(holders(again).values()) == {(None, None)})
        assert wait(sagemaker, stopped)["TrainingJobStatus"] == "Stopped"
    finally:
        again.end()


def test_exact_refuses_what_the_machine_does_not_have(tmp_path: Path) -> None:
    emulator = with_gpus(tmp_path, 4, gpu_policy="exact")
    try:
        sagemaker = emulator.client("sagemaker")
        answer = run(sagemaker, job("true", "ml.p4d.24xlarge"))
        assert answer["TrainingJobStatus"] == "Failed"
        assert answer["FailureReason"].startswith("CapacityError: Unable to provision")
        assert "8 GPUs" in answer["FailureReason"]
        answer = run(sagemaker, job("true", "ml.g4dn.12xlarge"))
        assert answer["TrainingJobStatus"] == "Completed"
    finally:
        emulator.end()


def test_shared_lets_instances_use_the_same_gpu(tmp_path: Path) -> None:
    emulator = with_gpus(tmp_path, 1, gpu_policy="shared")
    try:
        name = submit(emulator, job(UNTIL_STOPPED, "ml.g5.xlarge", instances=2))
        wait_for(emulator.client("sagemaker"), name, training)
        assert holders(emulator) == {"GPU-0": (name, "algo-1,algo-2")}
        end(emulator, name)
        lines = log_lines(emulator.client("logs"), name, "algo-2")
        assert "algo-2: GPU-0 (NVIDIA L40S, 46068 MiB)." in lines
    finally:
        emulator.end()


def test_a_preset_that_does_not_exist_is_the_requests_fault(workstation: RunningEmulator) -> None:
    body = job("true")
    body["Environment"] = {"EMULATOR_NCCL_PRESET": "telepathy"}
    answer = run(workstation.client("sagemaker"), body)
    assert answer["FailureReason"].startswith("ClientError: There is no NCCL preset telepathy")


RANKS = """\
algo-1:9:9 [0] NCCL INFO ncclCommInitRank comm 0x1 rank 0 nranks 2 cudaDev 0 commId 0xab
algo-2:9:9 [0] NCCL INFO ncclCommInitRank comm 0x1 rank 1 nranks 2 cudaDev 0 commId 0xab
algo-1:9:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0
"""


def test_what_nccl_chose_is_told_and_compared_with_the_preset(workstation: RunningEmulator) -> None:
    workstation.client("s3").put_object(Bucket="gpus", Key="said/nccl.log", Body=RANKS.encode())
    body = job("cat /opt/ml/input/data/said/nccl.log", instances=2)
    body["InputDataConfig"] = [channel("gpus", "said", "said/")]
    body["Environment"] = {"EMULATOR_NCCL_PRESET": "shm"}
    answer = run(workstation.client("sagemaker"), body)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    lines = log_lines(workstation.client("logs"), body["TrainingJobName"])
    assert "NCCL: algo-1 and algo-2 talk through sockets (NET)." in lines
    assert any(line.startswith("WARNING: the NCCL preset shm asks for") for line in lines)


HANGS = """
import datetime, json, os, sys, time
from pathlib import Path
import torch, torch.distributed as dist

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
hosts = resources["hosts"]
rank = hosts.index(resources["current_host"])
os.environ["GLOO_SOCKET_IFNAME"] = resources["network_interface_name"]
limit = datetime.timedelta(seconds=float(sys.argv[1]))
dist.init_process_group("gloo", f"tcp://{hosts[0]}:9100", world_size=len(hosts), rank=rank)
dist.barrier()  # both are there: what takes longer than the limit from here on is a hang
group = dist.new_group(timeout=limit)
if rank == 1:
    time.sleep(1000)
try:
    dist.all_reduce(torch.ones(1), group=group)
except RuntimeError as error:
    print(error, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (1000, "All of algo-1, algo-2 have been waiting for 10 s"),
        (5, "A collective of gloo hangs: a rank on algo-1 waits for its peers through TCP; "),
    ],
)
def test_a_collective_that_hangs_is_ended(tmp_path: Path, limit: int, reason: str) -> None:
    # Where a rank speaks for itself, nobody has to judge by its idleness.
    emulator = with_gpus(tmp_path, 0, idle_seconds="10" if limit > 100 else "0")
    try:
        emulator.client("s3").put_object(Bucket="gpus", Key="code/hangs.py", Body=HANGS.encode())
        body = job(f"python3 /opt/ml/input/data/code/hangs.py {limit}", "ml.m5.large", 2)
        body["InputDataConfig"] = [channel("gpus", "code", "code/")]
        answer = run(emulator.client("sagemaker"), body)
        assert answer["TrainingJobStatus"] == "Failed"
        assert answer["FailureReason"].startswith(f"AlgorithmError: {reason}")
    finally:
        emulator.end()


def test_an_endpoint_holds_its_gpu_and_others_wait_for_it(tmp_path: Path) -> None:
    hosting = Hosting(with_gpus(tmp_path, 1), "process")
    try:
        sagemaker = hosting.sagemaker
        config = hosting.config({"ModelName": hosting.model(), "InstanceType": "ml.g5.xlarge"})
        first = hosting.create(config)
        assert hosting.settled(first)["EndpointStatus"] == "InService"
        ((holder, _),) = holders(hosting.emulator).values()
        assert holder
        assert holder.startswith(f"{first}/v1/i-")

        second = hosting.create(config)
        request = job("exit 0", "ml.local.1gpu")
        sagemaker.create_training_job(**request)
        pending = wait_for(
            sagemaker,
            request["TrainingJobName"],
            lambda job: job["SecondaryStatus"] == "Pending",
        )
        message = pending["SecondaryStatusTransitions"][-1]["StatusMessage"]
        assert f"needs 1 GPU, 0 free; behind {second}/v1/" in message
        assert f"held by endpoint {first}/v1/" in message
        summary = hosting.describe(second)["PendingDeploymentSummary"]["ProductionVariants"][0]
        assert "needs 1 GPU" in summary["VariantStatus"][0]["StatusMessage"]

        hosting.delete(first)
        assert hosting.settled(second)["EndpointStatus"] == "InService"
        hosting.delete(second)
        ended = wait(sagemaker, request["TrainingJobName"])
        assert ended["TrainingJobStatus"] == "Completed"
    finally:
        hosting.emulator.end()
