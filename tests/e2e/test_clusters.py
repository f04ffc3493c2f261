"""Big and mixed clusters on one machine, in the process runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_jobs import channel, log_lines, run, script_request, shell_request
from emulators import REPOSITORY, RunningEmulator, start_emulator

BUCKET = "clusters"
RING = """
import json, socket, time
from pathlib import Path

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
hosts = resources["hosts"]
me = hosts.index(resources["current_host"])
following = (hosts[(me + 1) % len(hosts)], 9000)
server = socket.create_server((hosts[me], 9000))


def pass_on(token):
    while True:
        try:
            with socket.create_connection(following, timeout=10) as peer:
                peer.sendall(str(token).encode())
            return
        except ConnectionRefusedError:
            time.sleep(0.2)  # it has not come so far yet


if me == 0:
    pass_on(1)
connection, _ = server.accept()
token = int(connection.makefile().read())
if me == 0:
    print(f"hands: {token}")
else:
    pass_on(token + 1)
"""
REDUCE = """
import json, os
from pathlib import Path
import torch, torch.distributed as dist

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
os.environ["GLOO_SOCKET_IFNAME"] = resources["network_interface_name"]
torch.set_num_threads(1)
hosts = resources["hosts"]
rank = hosts.index(resources["current_host"])
dist.init_process_group("gloo", f"tcp://{hosts[0]}:9100", rank=rank, world_size=len(hosts))
total = torch.tensor([rank + 1.0])
dist.all_reduce(total)
print(f"sum: {int(total)}", flush=True)
dist.barrier()
os._exit(0)  # past Gloo's threads, which abort an interpreter that ends at times
"""
MIXED = """
import json, os
from pathlib import Path

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
channels = sorted(p.name for p in Path("/opt/ml/input/data").iterdir() if p.is_dir())
told = {
    "group": resources["current_group_name"],
    "type": resources["current_instance_type"],
    "groups": {g["instance_group_name"]: g["hosts"] for g in resources["instance_groups"]},
    "channels": channels,
    "world": os.environ.get("WORLD_SIZE"),
}
print("mixed " + json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    state = tmp_path_factory.mktemp("clusters") / "state"
    running = start_emulator(state, "--runtime", "process")
    s3 = running.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="code/ring.py", Body=RING.encode())
    s3.put_object(Bucket=BUCKET, Key="code/reduce.py", Body=REDUCE.encode())
    for name in ("shared", "bulk"):
        s3.put_object(Bucket=BUCKET, Key=f"data/{name}/x", Body=b"x")
    yield running
    running.end()


def cluster(script: str, instances: int) -> dict[str, Any]:
    code = [channel(BUCKET, "code", "code/")]
    command = f"python3 /opt/ml/input/data/code/{script}"
    body = shell_request(BUCKET, command, instances, InputDataConfig=code)
    body["ResourceConfig"]["InstanceType"] = "ml.m5.large"
    return body


def test_sixty_four_instances_find_each_other(emulator: RunningEmulator) -> None:
    body = cluster("ring.py", 64)
    answer = run(emulator.client("sagemaker"), body)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    assert log_lines(emulator.client("logs"), body["TrainingJobName"])[-1] == "hands: 64"


def test_eight_instances_reduce_with_gloo(emulator: RunningEmulator) -> None:
    body = cluster("reduce.py", 8)
    answer = run(emulator.client("sagemaker"), body)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    logs = emulator.client("logs")
    for number in (1, 8):
        lines = log_lines(logs, body["TrainingJobName"], f"algo-{number}")
        assert f"sum: {8 * 9 // 2}" in lines


@pytest.mark.parametrize(("script", "instances"), [("train_cuda.py", 1), ("train_ddp.py", 2)])
def test_the_scripts_of_the_gpu_suite_on_the_cpu(
    emulator: RunningEmulator, script: str, instances: int
) -> None:
    source = REPOSITORY / "tests" / "gpu" / "scripts" / script
    emulator.client("s3").put_object(Bucket=BUCKET, Key=f"code/{script}", Body=source.read_bytes())
    body = cluster(script, instances)
    body["Environment"] = {"TEST_DEVICE": "cpu"}
    answer = run(emulator.client("sagemaker"), body)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    lines = log_lines(emulator.client("logs"), body["TrainingJobName"])
    [told] = [line for line in lines if line.startswith("loss=")]
    assert float(told.split()[0].removeprefix("loss=")) < 1e-3


def told_by(emulator: RunningEmulator, job: str, host: str) -> list[dict[str, Any]]:
    lines = log_lines(emulator.client("logs"), job, host)
    return [json.loads(line[6:]) for line in lines if line.startswith("mixed ")]


def test_instance_groups_with_a_launcher_on_one_of_them(emulator: RunningEmulator) -> None:
    body = script_request(
        emulator.client("s3"),
        BUCKET,
        {"train.py": MIXED},
        hyperparameters={
            "sagemaker_torch_distributed_enabled": True,
            "sagemaker_distribution_instance_groups": ["trainers"],
        },
    )
    bulk = channel(BUCKET, "bulk")
    bulk["DataSource"]["S3DataSource"]["InstanceGroupNames"] = ["loaders"]
    body["InputDataConfig"] = [channel(BUCKET, "shared"), bulk]
    body["ResourceConfig"] = {
        "VolumeSizeInGB": 1,
        "InstanceGroups": [
            {"InstanceGroupName": "loaders", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
            {"InstanceGroupName": "trainers", "InstanceType": "ml.m5.large", "InstanceCount": 2},
        ],
    }
    answer = run(emulator.client("sagemaker"), body)
    assert answer["TrainingJobStatus"] == "Completed", answer.get("FailureReason")
    assert answer["ResourceConfig"]["InstanceGroups"] == body["ResourceConfig"]["InstanceGroups"]
    groups = {"loaders": ["algo-1"], "trainers": ["algo-2", "algo-3"]}
    [loader] = told_by(emulator, body["TrainingJobName"], "algo-1")
    assert loader == {
        "group": "loaders",
        "type": "ml.c5.xlarge",
        "groups": groups,
        "channels": ["bulk", "shared"],
        "world": None,
    }
    for host in ("algo-2", "algo-3"):
        [trainer] = told_by(emulator, body["TrainingJobName"], host)
        assert (trainer["group"], trainer["channels"]) == ("trainers", ["shared"])
        assert trainer["world"] == "2"
