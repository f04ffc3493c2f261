"""The real launchers in real sandboxes: what a job's containers would start, started here."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.sandbox_probe import Verdict
from emulator.model.plan import Exit, Mount
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.workloads.plan.job_plan import Credentials, plan_job
from emulator.workloads.plan.layout import InstanceDirs, create_instances

pytest.importorskip("sagemaker_training")
pytest.importorskip("torch")

CODE = "/opt/ml/input/data/code"
DEADLINE = 240.0

# One argument a print: the toolkit passes on each write as a line of its own.
DDP_TRAINING = """
import os, sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
mine = torch.cat([p.detach().flatten() for p in model.parameters()])
theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
dist.all_gather(theirs, mine)
assert all(torch.equal(mine, other) for other in theirs)
print(f"rank {rank} of {dist.get_world_size()} on {os.uname().nodename}")
if rank == 0:
    torch.save(model.module.state_dict(), os.environ["SM_MODEL_DIR"] + "/model.pth")
dist.barrier()
dist.destroy_process_group()
# Gloo's threads outlive the group, and abort where one of them wakes in an interpreter that ends.
sys.stdout.flush()
os._exit(0)
"""

# As the documentation of the SDK has it: nothing but MASTER_ADDR and MASTER_PORT is given.
SCRIPT_MODE_TRAINING = """
import argparse, json, os, torch, torch.distributed as dist
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--hosts", type=json.loads, default=json.loads(os.environ["SM_HOSTS"]))
parser.add_argument("--current-host", default=os.environ["SM_CURRENT_HOST"])
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
args = parser.parse_args()
os.environ["WORLD_SIZE"] = str(len(args.hosts))
rank = args.hosts.index(args.current_host)
dist.init_process_group("gloo", rank=rank, world_size=len(args.hosts))
total = torch.tensor([rank + 1.0])
dist.all_reduce(total)
print(f"epochs {args.epochs} sum {total.item()} data {os.listdir(args.train)}")
if rank == 0:
    torch.save(total, args.model_dir + "/model.pth")
dist.barrier()
dist.destroy_process_group()
"""

USES_REQUIREMENT = """
import emulator_probe, os, sys
print(f"answer {emulator_probe.ANSWER}")
open(os.environ["SM_MODEL_DIR"] + "/model.txt", "w").write("trained")
"""


@dataclass(frozen=True)
class Finished:
    exits: list[Exit]
    output: Mapping[str, str]
    dirs: Mapping[str, InstanceDirs]

    @property
    def codes(self) -> dict[str, int]:
        return {end.host: end.code for end in self.exits}


def run_job(
    runtime: ProcessRuntime,
    job_dir: Path,
    files: Mapping[str, str | bytes],
    hyperparameters: Mapping[str, str],
    count: int = 1,
    algorithm: Mapping[str, Any] | None = None,
    awaited: int | None = None,
    name: str = "launch",
    shared: Sequence[Mount] = (),
) -> Finished:
    """Run a request as the emulator would, its script waiting in the channel `code`."""
    spec = training_job(
        {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "AlgorithmSpecification": {"TrainingInputMode": "File", **(algorithm or {})},
            "HyperParameters": hyperparameters,
            "InputDataConfig": [_channel("code"), _channel("train")],
            "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
            "ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": count},
        },
        Scope("123456789012", "us-east-1"),
    )
    dirs = create_instances(job_dir, spec, runtime.traits)
    for instance in dirs.values():
        (instance.at("/opt/ml/input/data/train") / "a.csv").write_text("1\n")
        _put_code(instance.at("/opt/ml/input/data/code"), files)
    if runtime.verdict.features is None:
        # Without mounts there is no /opt/ml/input; the SDKs name the archive's place in S3.
        code = str(dirs["algo-1"].at("/opt/ml/input/data/code"))
        text = {name: value.replace(CODE, code) for name, value in hyperparameters.items()}
        (dirs["algo-1"].at("/opt/ml/input/config") / "hyperparameters.json").write_text(
            json.dumps(text)
        )
    plan = plan_job(spec, dirs, runtime.traits, {}, Credentials("key", "secret"))
    plan = replace(
        plan, instances=tuple(replace(i, mounts=(*i.mounts, *shared)) for i in plan.instances)
    )
    output: dict[str, bytearray] = {host: bytearray() for host in plan.hosts}
    fleet = runtime.launch(plan, lambda host, chunk: output[host].extend(chunk))
    wanted = count if awaited is None else awaited
    try:
        deadline = time.monotonic() + DEADLINE
        exits: list[Exit] = []
        while len(exits) < wanted and time.monotonic() < deadline:
            if end := fleet.next_exit(1):
                exits.append(end)
    finally:
        fleet.close()
    text = {host: data.decode(errors="replace") for host, data in output.items()}
    assert len(exits) == wanted, text
    return Finished(exits, text, dirs)


def _channel(name: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{name}"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _put_code(directory: Path, files: Mapping[str, str | bytes]) -> None:
    with tarfile.open(directory / "sourcedir.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            (directory / name).write_bytes(data)


def _script(name: str, **more: str) -> dict[str, str]:
    """Hyperparameters as the SDK sends them, their values in JSON."""
    return {
        "sagemaker_program": json.dumps(name),
        "sagemaker_submit_directory": json.dumps(f"{CODE}/sourcedir.tar.gz"),
        **more,
    }


def _wheel() -> tuple[str, bytes]:
    """A package that no index has."""
    name = "emulator_probe-1.0-py3-none-any.whl"
    info = "emulator_probe-1.0.dist-info"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        wheel.writestr("emulator_probe.py", "ANSWER = 42\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: emulator_probe\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return name, data.getvalue()


@pytest.fixture
def runtime(tmp_path: Path) -> ProcessRuntime:
    runtime = ProcessRuntime(Path(sys.executable), "http://127.0.0.1:4570", tmp_path)
    if runtime.verdict.features is None:
        pytest.skip(f"{runtime.verdict.reason} {runtime.verdict.remedy}")
    return runtime


@pytest.fixture
def launcher_port(runtime: ProcessRuntime) -> None:
    """Where jobs share the machine's ports, wait until nobody has the launchers' own."""
    deadline = time.monotonic() + DEADLINE
    while runtime.traits.shares_ports:
        try:
            socket.create_server(("", 7777)).close()
        except OSError:
            assert time.monotonic() < deadline, "port 7777 is taken on this machine"
            time.sleep(0.5)
        else:
            return


@pytest.fixture(params=["sandbox", "no overlay", "no network", "no sandbox"])
def any_footing(
    request: pytest.FixtureRequest, runtime: ProcessRuntime, tmp_path: Path
) -> ProcessRuntime:
    """The same runtime on machines that allow less and less."""
    assert runtime.verdict.features is not None
    less = {
        "sandbox": runtime.verdict,
        "no overlay": Verdict(replace(runtime.verdict.features, overlay="")),
        "no network": Verdict(replace(runtime.verdict.features, network=False)),
        "no sandbox": Verdict(None, "user namespaces are off", "Switch them on."),
    }
    return ProcessRuntime(
        Path(sys.executable), "http://127.0.0.1:4570", tmp_path, verdict=less[request.param]
    )


@pytest.mark.usefixtures("launcher_port")
def test_torchrun_trains_across_two_instances(runtime: ProcessRuntime, tmp_path: Path) -> None:
    settings = _script("train.py", sagemaker_torch_distributed_enabled="true")
    done = run_job(runtime, tmp_path, {"train.py": DDP_TRAINING}, settings, count=2)
    assert done.codes == {"algo-1": 0, "algo-2": 0}, done.output
    assert "rank 0 of 2 on algo-1" in done.output["algo-1"]
    assert "rank 1 of 2 on algo-2" in done.output["algo-2"]
    assert (done.dirs["algo-1"].at("/opt/ml/model") / "model.pth").stat().st_size > 0


def test_two_torchrun_jobs_run_side_by_side(runtime: ProcessRuntime, tmp_path: Path) -> None:
    if runtime.traits.shares_ports:
        pytest.skip("jobs share this machine's ports")
    # Each one waits until both are inside their process groups: the port is then taken twice.
    script = DDP_TRAINING.replace(
        "rank = dist.get_rank()",
        """rank = dist.get_rank()
import pathlib, socket, time
here = pathlib.Path("/meeting")
(here / os.environ["TRAINING_JOB_NAME"]).touch()
while len(list(here.iterdir())) < 2: time.sleep(0.05)
socket.create_connection(("algo-1", 7777)).close()
""",
    )
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    settings = _script("train.py", sagemaker_torch_distributed_enabled="true")

    def one(name: str) -> Finished:
        return run_job(
            runtime,
            tmp_path / name,
            {"train.py": script},
            settings,
            count=2,
            name=name,
            shared=(Mount(meeting, "/meeting"),),
        )

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(one, ("one", "two")))
    for job in done:
        assert job.codes == {"algo-1": 0, "algo-2": 0}, job.output


@pytest.mark.usefixtures("launcher_port")
def test_script_mode_finds_its_master(runtime: ProcessRuntime, tmp_path: Path) -> None:
    settings = _script("train.py", epochs="3")
    done = run_job(runtime, tmp_path, {"train.py": SCRIPT_MODE_TRAINING}, settings, count=2)
    assert done.codes == {"algo-1": 0, "algo-2": 0}, done.output
    for host in ("algo-1", "algo-2"):
        assert "epochs 3 sum 3.0 data ['a.csv']" in done.output[host]
    assert (done.dirs["algo-1"].at("/opt/ml/model") / "model.pth").stat().st_size > 0


def test_an_entrypoint_of_its_own_as_the_third_sdk_sends_it(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    driver = (
        "#!/bin/bash\nset -e\ncd /opt/ml/input/data/code\nenv > /opt/ml/input/sm_training.env\n"
    )
    driver += "python3 train.py && torchrun --help > /dev/null && pip --version\n"
    command = f"chmod +x {CODE}/sm_train.sh && {CODE}/sm_train.sh"
    algorithm = {"ContainerEntrypoint": ["/bin/bash"], "ContainerArguments": ["-c", command]}
    files = {"sm_train.sh": driver, "train.py": "import os; print(os.environ['TRAINING_JOB_NAME'])"}
    done = run_job(runtime, tmp_path, files, {}, algorithm=algorithm)
    assert done.codes == {"algo-1": 0}, done.output
    assert done.output["algo-1"].startswith("launch\npip ")


def test_requirements_are_installed_for_the_job_alone(
    any_footing: ProcessRuntime, tmp_path: Path
) -> None:
    wheel, data = _wheel()
    files = {
        "train.py": USES_REQUIREMENT,
        "requirements.txt": f"./{wheel}\npip\n",
        wheel: data,
    }
    done = run_job(any_footing, tmp_path, files, _script("train.py"))
    assert done.codes == {"algo-1": 0}, done.output
    assert "answer 42" in done.output["algo-1"]
    assert (done.dirs["algo-1"].at("/opt/ml/model") / "model.txt").read_text() == "trained"
    left = subprocess.run([sys.executable, "-c", "import emulator_probe"], capture_output=True)
    assert left.returncode != 0
    assert list(done.dirs["algo-1"].scratch.iterdir()) == []


def test_requirements_come_from_an_index_outside(runtime: ProcessRuntime, tmp_path: Path) -> None:
    if runtime.traits.shares_ports:
        pytest.skip("jobs have this machine's own way out")
    wheel, data = _wheel()
    folder = tmp_path / "site" / "simple" / "emulator-probe"
    folder.mkdir(parents=True)
    (folder / wheel).write_bytes(data)
    (folder / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')

    class Index(SimpleHTTPRequestHandler):
        """Asked as a proxy: by the whole address."""

        def translate_path(self, path: str) -> str:
            return super().translate_path(path.removeprefix("http://index.example"))

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Index, directory=str(tmp_path / "site"))
    ) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        user = {
            "http_proxy": f"http://127.0.0.1:{index.server_port}",
            "PIP_CONFIG_FILE": os.devnull,
        }
        user["PIP_INDEX_URL"] = "http://index.example/simple/"
        user["PIP_TRUSTED_HOST"] = "index.example"
        outside = ProcessRuntime(Path(sys.executable), "http://127.0.0.1:4570", tmp_path, user)
        files = {"train.py": USES_REQUIREMENT, "requirements.txt": "emulator-probe\n"}
        done = run_job(outside, tmp_path, files, _script("train.py"))
        index.shutdown()
    assert done.codes == {"algo-1": 0}, done.output
    assert "answer 42" in done.output["algo-1"]


def test_a_failing_script_leaves_its_reason(any_footing: ProcessRuntime, tmp_path: Path) -> None:
    files = {"train.py": "raise SystemExit(3)"}
    done = run_job(any_footing, tmp_path, files, _script("train.py"))
    assert done.codes == {"algo-1": 1}
    assert "ExitCode 3" in done.dirs["algo-1"].at("/opt/ml/output/failure").read_text()


def test_a_failing_rank_is_told_before_its_waiting_peer(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    script = """
import os, sys, time
time.sleep(60) if os.environ["SM_CURRENT_HOST"] == "algo-1" else sys.exit(9)
"""
    files = {"train.py": script}
    done = run_job(runtime, tmp_path, files, _script("train.py"), count=2, awaited=1)
    assert done.codes == {"algo-2": 1}
    assert "ExitCode 9" in done.dirs["algo-2"].at("/opt/ml/output/failure").read_text()
