# ruff: noqa: ARG002 - the parts here do not need all they are told
"""A supervisor with real processes, files and a database; only S3 is a folder."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.data.objectstore.objects import Cancelled
from emulator.database import Database
from emulator.drivers.base import OutputSink
from emulator.drivers.choice import Runtimes
from emulator.model.errors import ClientError, ResourceNotFound, ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.plan import Exit, InstancePlan, JobPlan, RuntimeTraits
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.placement import leases
from emulator.placement.gpu_capacity import GpuCapacity
from emulator.placement.gpus import Inventory
from emulator.placement.instance_types import load_catalog
from emulator.placement.machine import Machine
from emulator.resources import KINDS
from emulator.resources.training import TRAINING, job_id, training_job
from emulator.resources.training.words import secondary_status
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.plan.job_plan import Credentials
from emulator.workloads.run.context import Ends, Instances, RunContext, StagedInputs
from emulator.workloads.run.directories import has_files
from emulator.workloads.run.supervisor import Supervisor
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SCOPE = Scope("123456789012", "us-east-1")
SECONDS = 60.0
"""How long a test waits for what has to come."""
INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."


class Processes:
    """Instances as plain child processes that find their directories in variables."""

    def __init__(self, plan: JobPlan, sink: OutputSink):
        self._ends: queue.Queue[Exit] = queue.Queue()
        self._children = {plan_.host: self._start(plan_) for plan_ in plan.instances}
        for host, child in self._children.items():
            threading.Thread(target=self._follow, args=(host, child, sink), daemon=True).start()

    def next_exit(self, timeout: float) -> Exit | None:
        try:
            return self._ends.get(timeout=timeout)
        except queue.Empty:
            return None

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self, host: str | None = None) -> None:
        self._signal(signal.SIGKILL, host)

    def close(self) -> None:
        self.kill()
        for child in self._children.values():
            child.wait()

    def alive(self) -> int:
        return sum(child.poll() is None for child in self._children.values())

    def _start(self, plan: InstancePlan) -> subprocess.Popen[bytes]:
        places = {mount.target: str(mount.source) for mount in plan.mounts}
        names = {
            "MODEL": "/opt/ml/model",
            "OUTPUT": "/opt/ml/output",
            "INPUT": "/opt/ml/input",
            "CHECKPOINTS": "/opt/ml/checkpoints",
            "WARM": "/opt/ml/sagemaker/warmpoolcache",
        }
        return subprocess.Popen(
            [*(plan.entrypoint or ()), *plan.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                **plan.environment,
                **{name: places[target] for name, target in names.items() if target in places},
                "HOST": plan.host,
            },
        )

    def _follow(self, host: str, child: subprocess.Popen[bytes], sink: OutputSink) -> None:
        assert child.stdout
        while data := os.read(child.stdout.fileno(), 65_536):
            sink(host, data)
        code = child.wait()
        child.stdout.close()
        self._ends.put(Exit(host, 128 - code if code < 0 else code, time.time()))

    def _signal(self, number: int, only: str | None = None) -> None:
        for host, child in self._children.items():
            if only in (None, host) and child.poll() is None:
                os.killpg(child.pid, number)


class LocalRuntime:
    """Runs the entrypoint on this machine; `missing` and `endless` are no images."""

    traits = RuntimeTraits("local", "lo", "http://127.0.0.1:4570")

    def __init__(self) -> None:
        self._launched: list[Processes] = []
        self._any = threading.Event()

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:
        if instance_count > 4:
            raise ClientError("no more than 4 instances")

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        if image == "missing":
            raise ClientError("Cannot pull algorithm container.")
        while image == "endless" and not cancelled():
            time.sleep(0.01)

    def launch(self, plan: JobPlan, sink: OutputSink) -> Processes:
        fleet = Processes(plan, sink)
        self._launched.append(fleet)
        self._any.set()
        return fleet

    @property
    def last(self) -> Processes:
        """Those launched last; a job's first lines may come before it is known."""
        assert self._any.wait(SECONDS)
        return self._launched[-1]


class Folder:
    """Inputs and outputs as a folder; `holding` keeps stage, upload or close waiting."""

    def __init__(self, root: Path):
        self.root = root
        self.holding: set[str] = set()
        self.reached = threading.Event()
        self.broken: set[str] = set()
        self.let_go: set[str] = set()
        """Jobs whose input data nobody keeps any more."""

    def check(self, spec: WorkloadSpec) -> None:
        if "check" in self.broken:
            raise ValidationError("No S3 objects found")

    def stage(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        traits: RuntimeTraits,
        say: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> StagedInputs:
        self._pass("stage")
        while "stage" in self.holding:
            if cancelled():
                raise Cancelled
            time.sleep(0.01)
        return StagedInputs(close=self._close, release=lambda: self.let_go.add(spec.name))

    def upload(self, spec: WorkloadSpec, instances: Instances) -> None:
        self._pass("upload")
        while "upload" in self.holding:
            time.sleep(0.01)
        for host, dirs in instances.items():
            shutil.copytree(dirs.at("/opt/ml/model"), self.root / spec.name / host)

    def keep(self, spec: WorkloadSpec, instances: Instances) -> None:
        for host, dirs in instances.items():
            if has_files(spec, dirs):
                dirs.at("/opt/ml/model").rename(self.root.with_name(f"kept-{spec.name}-{host}"))

    def _close(self) -> None:
        while "close" in self.holding:
            time.sleep(0.01)

    def _pass(self, gate: str) -> None:
        if gate in self.broken:
            raise ClientError(f"{gate} failed:Access Denied")
        if f"{gate} crash" in self.broken:
            raise RuntimeError("a bug")
        if gate in self.holding:
            self.reached.set()


class FolderSyncs:
    """Checkpoints that outlive a set of instances in a folder instead of S3."""

    def __init__(self, root: Path):
        self.root = root

    def start(
        self, spec: WorkloadSpec, instances: Instances, cancelled: Callable[[], bool]
    ) -> FolderSync:
        for dirs in instances.values():
            if self.root.exists():
                shutil.copytree(self.root, dirs.at("/opt/ml/checkpoints"), dirs_exist_ok=True)
        return FolderSync(self.root, instances)

    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:
        FolderSync(self.root, instances).finish(Ends())


class FolderSync:
    def __init__(self, root: Path, instances: Instances):
        self.root = root
        self.instances = instances

    def finish(self, ends: Ends) -> None:
        for dirs in self.instances.values():
            if dirs.at("/opt/ml/checkpoints").exists():
                shutil.copytree(dirs.at("/opt/ml/checkpoints"), self.root, dirs_exist_ok=True)


class Bench:
    """A supervisor with all it needs, and short ways to use it."""

    def __init__(self, root: Path, inventory: Inventory | None = None, **more: Any):
        """`inventory` has the machine's GPUs; `more` replaces parts of the context."""
        self.root = root
        self.folder = Folder(root / "s3")
        self.logs = LogStore(root / "logs")
        database = Database(root / "emulator.db", (*MIGRATIONS, leases.MIGRATION))
        self.store = JobStore(database, KINDS)
        self.context = RunContext(
            store=self.store,
            logs=self.logs,
            capacity=GpuCapacity(
                leases.LeaseBook(database),
                lambda: inventory or Inventory(),
                Machine(cores=64, memory_mib=1 << 20),
                load_catalog(),
                exclusive=lambda spec: spec.request.get("HyperParameters", {}).values(),
            ),
            inputs=self.folder,
            outputs=self.folder,
            credentials=Credentials("key", "secret"),
            directory=root / "jobs",
            **{
                "runtimes": Runtimes(LocalRuntime(), None),
                "stop_grace": 5 * SECONDS,
                "failure_grace": 0.5,
                **more,
            },
        )
        self.supervisor = Supervisor(self.context)

    def submit(
        self, script: str, name: str = "job", instances: int = 1, **more: Any
    ) -> WorkloadSpec:
        image = more.pop("image", "local")
        request = {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
            "AlgorithmSpecification": {
                "TrainingImage": image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/sh", "-c"],
                "ContainerArguments": [script],
            },
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": instances,
                "VolumeSizeInGB": 1,
            },
            **more,
        }
        spec = training_job(request, SCOPE)
        self.supervisor.submit(spec)
        return spec

    def job(self, name: str = "job") -> Job:
        return self.supervisor.job(job_id(SCOPE, name))

    def ended(self, name: str = "job") -> Job:
        assert self.supervisor.wait(job_id(SCOPE, name), SECONDS), "the job goes on and on"
        job = self.job(name)
        assert job.life.status.terminal
        return job

    def until(self, status: Phase, name: str = "job") -> None:
        self.eventually(lambda: self.job(name).life.phase is status)

    def until_logged(self, text: str, host: str = "algo-1") -> None:
        self.eventually(lambda: text in self.lines(host))

    def eventually(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.01)

    def lines(self, host: str = "algo-1", name: str = "job") -> list[str]:
        try:
            streams = self.logs.stream_names(SCOPE, TRAINING.log_group, f"{name}/{host}-")
        except ResourceNotFound:
            return []
        return [
            event.message
            for stream in streams
            for event in self.logs.forward(SCOPE, TRAINING.log_group, stream).events
        ]


def statuses(job: Job) -> list[str]:
    return [secondary_status(transition.status) for transition in job.life.transitions]
