"""Every launcher of the toolkit across real containers; replicas must end equal."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker_jobs import Finished, run_job

from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import connect, inspect_engine
from emulator.drivers.images.resolution import Images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

# Each rank starts from other weights and sees other data: only DDP makes them equal.
DDP = """
import os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

backend = sys.argv[sys.argv.index("--backend") + 1]
if backend == "smddp":
    import smdistributed.dataparallel.torch.torch_smddp
if "RANK" not in os.environ:
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        os.environ["RANK"] = os.environ["OMPI_COMM_WORLD_RANK"]
        os.environ["WORLD_SIZE"] = os.environ["OMPI_COMM_WORLD_SIZE"]
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "algo-1", "29400"
    else:
        hosts = eval(os.environ["SM_HOSTS"])
        os.environ["RANK"] = str(hosts.index(os.environ["SM_CURRENT_HOST"]))
        os.environ["WORLD_SIZE"] = str(len(hosts))
dist.init_process_group(backend)
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10):
    optimizer.zero_grad()
    model(torch.randn(16, 8)).pow(2).mean().backward()
    optimizer.step()
mine = torch.cat([p.detach().flatten() for p in model.parameters()])
all_of_them = [torch.empty_like(mine) for _ in range(size)]
dist.all_gather(all_of_them, mine)
assert all(torch.equal(mine, other) for other in all_of_them), all_of_them
# Not printed: the toolkit breaks lines where several ranks write at once.
with open(f"/opt/ml/output/data/rank-{rank}", "w") as proof:
    proof.write(f"{size} equal, option {os.environ.get('OPTION')}")
dist.barrier()
dist.destroy_process_group()
# Gloo's threads outlive the group, and abort where one of them wakes in an interpreter that ends.
sys.stdout.flush()
os._exit(0)
"""

SIDE_BY_SIDE = 4
"""So many jobs run at a time; a machine of two processors has work for fewer."""
PROCESSES = "sagemaker_mpi_num_of_processes_per_host"
MPI_OPTIONS = json.dumps("-x OPTION=arrived")
LAUNCHERS: dict[str, Mapping[str, str]] = {
    "script mode": {},
    "torch_distributed": {"sagemaker_torch_distributed_enabled": "true"},
    "mpi": {
        "sagemaker_mpi_enabled": "true",
        "sagemaker_mpi_custom_mpi_options": MPI_OPTIONS,
    },
    "pytorchddp since 2.221": {
        "sagemaker_distributed_dataparallel_enabled": "true",
        "sagemaker_distributed_dataparallel_custom_mpi_options": MPI_OPTIONS,
        "sagemaker_instance_type": json.dumps("ml.p4d.24xlarge"),
    },
    # That SDK never sends the options of pytorchddp.
    "pytorchddp before 2.221": {
        "sagemaker_pytorch_ddp_enabled": "true",
        "sagemaker_instance_type": json.dumps("ml.p4d.24xlarge"),
    },
}


@pytest.fixture(scope="module")
def runtime() -> Iterator[DockerRuntime]:
    with closing(connect()) as client:
        yield DockerRuntime(
            client, inspect_engine(client), Images(client), port=4570, emulator="launchers"
        )


@dataclass(frozen=True)
class Case:
    """A job of `DDP` that succeeds."""

    launcher: str
    backend: str
    instances: int
    processes: int = 1
    """Ranks an instance; only mpirun is told."""

    def __str__(self) -> str:
        return f"{self.launcher}-{self.backend}-{self.instances}-{self.processes}"


Jobs = Callable[[Case], Finished]


@pytest.fixture(scope="module")
def jobs(
    request: pytest.FixtureRequest,
    runtime: DockerRuntime,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Jobs]:
    """Runs the jobs of all selected cases side by side, and gives each when it has ended.

    The toolkit sleeps for half a minute after every mpirun: one after the other, the machine would
    be idle most of the time.
    """
    root, numbers = tmp_path_factory.mktemp("jobs"), itertools.count()

    def run(case: Case) -> Finished:
        return run_job(
            runtime,
            root / f"ddp-{next(numbers)}",
            DDP,
            {
                "backend": json.dumps(case.backend),
                **LAUNCHERS[case.launcher],
                **({PROCESSES: str(case.processes)} if case.launcher == "mpi" else {}),
            },
            resources={"InstanceCount": case.instances},
        )

    params = (getattr(item, "callspec", None) for item in request.session.items)
    cases = [each.params["case"] for each in params if each and "case" in each.params]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        begun = {case: pool.submit(run, case) for case in cases if isinstance(case, Case)}
        # A test that is tried again gets a job of its own.
        yield lambda case: begun.pop(case).result() if case in begun else run(case)
        for job in begun.values():
            job.cancel()


@pytest.mark.parametrize(
    "case",
    [
        Case(launcher, backend, instances)
        for instances in (2, 3)
        for launcher, backend in (
            ("script mode", "gloo"),
            ("torch_distributed", "gloo"),
            ("torch_distributed", "smddp"),
            ("mpi", "gloo"),
            ("pytorchddp since 2.221", "gloo"),
            ("pytorchddp since 2.221", "smddp"),
            ("pytorchddp before 2.221", "gloo"),
            ("pytorchddp before 2.221", "smddp"),
        )
    ],
    ids=str,
)
def test_ddp_across_containers(jobs: Jobs, case: Case) -> None:
    job = jobs(case)
    hosts = [f"algo-{number}" for number in range(1, case.instances + 1)]
    assert job.codes == dict.fromkeys(hosts, 0), job.output
    option = "None" if "mpi_options" not in "".join(LAUNCHERS[case.launcher]) else "arrived"
    for rank, host in enumerate(hosts):
        assert proof(job, host, rank) == f"{case.instances} equal, option {option}"


def proof(job: Finished, host: str, rank: int) -> str:
    """What that rank left behind, on the instance where it has to have run."""
    return (job.dirs[host].at("/opt/ml/output/data") / f"rank-{rank}").read_text()


@pytest.mark.parametrize("case", [Case("mpi", "gloo", 2, processes=2)], ids=str)
def test_two_ranks_on_each_of_two_instances(jobs: Jobs, case: Case) -> None:
    job = jobs(case)
    assert set(job.codes.values()) == {0}, job.output
    for rank, host in enumerate(["algo-1", "algo-1", "algo-2", "algo-2"]):
        assert proof(job, host, rank) == "4 equal, option arrived"


def test_a_distribution_on_one_of_two_instance_groups(
    runtime: DockerRuntime, tmp_path: Path
) -> None:
    groups = [
        {"InstanceGroupName": name, "InstanceType": "ml.c5.xlarge", "InstanceCount": count}
        for name, count in (("data", 1), ("train", 2))
    ]
    script = "import os, sys\nif 'RANK' not in os.environ:\n    print('alone')\n    sys.exit(0)\n"
    job = run_job(
        runtime,
        tmp_path / "groups",
        script + DDP,
        {
            "backend": json.dumps("gloo"),
            "sagemaker_torch_distributed_enabled": "true",
            "sagemaker_distribution_instance_groups": json.dumps(["train"]),
        },
        resources={"InstanceGroups": groups},
    )
    assert set(job.codes.values()) == {0}, job.output
    assert "alone" in job.output["algo-1"]
    assert proof(job, "algo-2", 0) == "2 equal, option None"
    assert proof(job, "algo-3", 1) == "2 equal, option None"


@pytest.mark.parametrize("culprit", ["algo-1", "algo-2"])
@pytest.mark.parametrize("launcher", ["torch_distributed", "script mode"])
def test_the_instance_that_fails_ends_first(
    runtime: DockerRuntime, tmp_path: Path, launcher: str, culprit: str
) -> None:
    script = (
        f"import os, sys, time\nif os.uname().nodename == '{culprit}':\n"
        "    raise RuntimeError('on purpose')\ntime.sleep(3000)\n"
    )
    job = run_job(runtime, tmp_path / "fails", script, LAUNCHERS[launcher], until=1)
    assert job.codes == {culprit: 1}
    assert "on purpose" in job.dirs[culprit].at("/opt/ml/output/failure").read_text()
    assert job.seconds < 300


@pytest.mark.parametrize("culprit", ["algo-1", "algo-2"])
def test_a_rank_of_mpirun_that_fails_ends_the_master(
    runtime: DockerRuntime, tmp_path: Path, culprit: str
) -> None:
    script = (
        f"import os, sys, time\nif os.uname().nodename == '{culprit}':\n"
        "    raise RuntimeError('on purpose')\ntime.sleep(3000)\n"
    )
    launcher = LAUNCHERS["pytorchddp since 2.221"]
    job = run_job(runtime, tmp_path / "fails", script, launcher, until=1)
    # Whichever rank it is, it is the master's mpirun that fails.
    assert job.codes == {"algo-1": 1}
    assert "on purpose" in job.dirs["algo-1"].at("/opt/ml/output/failure").read_text()
    assert job.seconds < 300


def test_requirements_are_installed_inside(runtime: DockerRuntime, tmp_path: Path) -> None:
    # A wheel of the job's own: what an index has is not this test's business.
    wheel = "probe-1.0-py3-none-any.whl"
    job = run_job(
        runtime,
        tmp_path / "requirements",
        "import probe; print(f'answer {probe.ANSWER}')\n",
        {},
        files={wheel: _wheel(), "requirements.txt": f"/opt/ml/code/{wheel}\n"},
        resources={"InstanceCount": 1},
    )
    assert job.codes == {"algo-1": 0}, job.output
    assert "answer 42" in job.output["algo-1"]


def _wheel() -> bytes:
    info = "probe-1.0.dist-info"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        wheel.writestr("probe.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return data.getvalue()


def test_code_in_the_image_runs(runtime: DockerRuntime, tmp_path: Path) -> None:
    # The directory an image would have it in, which no mount of a job covers.
    algorithm = {
        "ContainerEntrypoint": ["sh", "-c"],
        "ContainerArguments": [
            "mkdir -p /opt/ml/code && cp /opt/ml/input/data/code/train.py /opt/ml/code/baked.py"
            " && exec train"
        ],
    }
    job = run_job(
        runtime,
        tmp_path / "baked",
        "import os; print('baked in ' + os.environ['SM_USER_ENTRY_POINT'])\n",
        {},
        algorithm=algorithm,
        resources={"InstanceCount": 1},
        HyperParameters={},
        Environment={"SAGEMAKER_PROGRAM": "baked.py"},
    )
    assert job.codes == {"algo-1": 0}, job.output
    assert "baked in baked.py" in job.output["algo-1"]
