# ruff: noqa: ARG002 - the parts here do not need all they are told
"""A job's whole life with real processes, files and a database; only S3 is a folder."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.cluster import leases
from emulator.cluster.gpu_capacity import GpuCapacity
from emulator.cluster.gpus import Inventory
from emulator.cluster.instance_types import load_catalog
from emulator.cluster.machine import Machine
from emulator.container.plan import Credentials
from emulator.database import Database
from emulator.jobs.runner import SHUTDOWN_NOTICE
from emulator.jobs.store import MIGRATIONS, JobStore
from emulator.jobs.supervisor import RESTART_NOTICE, Supervisor
from emulator.jobs.workshop import Instances, Workshop
from emulator.logs.collector import GROUP
from emulator.logs.streams import LogStore
from emulator.model.errors import ClientError, ResourceInUse, ResourceNotFound, ValidationError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Secondary, Status
from emulator.model.plan import Exit, InstancePlan, JobPlan, RuntimeTraits
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.runtimes.base import OutputSink
from emulator.storage.objects import Cancelled

SCOPE = Scope("123456789012", "us-east-1")
SECONDS = 20.0
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

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        self.kill()

    def _start(self, plan: InstancePlan) -> subprocess.Popen[bytes]:
        places = {mount.target: str(mount.source) for mount in plan.mounts}
        names = {"MODEL": "/opt/ml/model", "OUTPUT": "/opt/ml/output", "INPUT": "/opt/ml/input"}
        return subprocess.Popen(
            [*(plan.entrypoint or ()), *plan.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                **plan.environment,
                **{name: places[target] for name, target in names.items()},
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

    def _signal(self, number: int) -> None:
        for child in self._children.values():
            if child.poll() is None:
                os.killpg(child.pid, number)


class LocalRuntime:
    """Runs the entrypoint on this machine; an image called `missing` cannot be had."""

    traits = RuntimeTraits("local", "lo", "http://127.0.0.1:4570")

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:
        if instance_count > 4:
            raise ClientError("no more than 4 instances")

    def prepare(self, image: str | None, say: Callable[[str], None]) -> None:
        if image == "missing":
            raise ClientError("Cannot pull algorithm container.")

    def launch(self, plan: JobPlan, sink: OutputSink) -> Processes:
        return Processes(plan, sink)


class Folder:
    """Inputs and outputs as a folder; `hold` keeps downloads or uploads waiting."""

    def __init__(self, root: Path):
        self.root = root
        self.holding: set[str] = set()
        self.reached = threading.Event()
        self.broken: set[str] = set()

    def check(self, spec: JobSpec) -> None:
        if "check" in self.broken:
            raise ValidationError("No S3 objects found")

    def stage(self, spec: JobSpec, instances: Instances, cancelled: Callable[[], bool]) -> None:
        self._pass("stage")
        while "stage" in self.holding:
            if cancelled():
                raise Cancelled
            time.sleep(0.01)

    def upload(self, spec: JobSpec, instances: Instances) -> None:
        self._pass("upload")
        while "upload" in self.holding:
            time.sleep(0.01)
        for host, dirs in instances.items():
            shutil.copytree(dirs.model, self.root / spec.name / host)

    def _pass(self, gate: str) -> None:
        if gate in self.broken:
            raise ClientError(f"{gate} failed:Access Denied")
        if f"{gate} crash" in self.broken:
            raise RuntimeError("a bug")
        if gate in self.holding:
            self.reached.set()


class Bench:
    """A supervisor with all it needs, and short ways to use it."""

    def __init__(self, root: Path):
        self.root = root
        self.folder = Folder(root / "s3")
        self.logs = LogStore(root / "logs")
        database = Database(root / "emulator.db", (*MIGRATIONS, leases.MIGRATION))
        self.store = JobStore(database)
        self.workshop = Workshop(
            store=self.store,
            logs=self.logs,
            runtime=LocalRuntime(),
            capacity=GpuCapacity(
                leases.LeaseBook(database),
                Inventory,
                Machine(cores=64, memory_mib=1 << 20),
                load_catalog(),
                exclusive=lambda spec: spec.hyperparameters.values(),
            ),
            inputs=self.folder,
            outputs=self.folder,
            credentials=Credentials("key", "secret"),
            directory=root / "jobs",
            stop_grace=SECONDS,
            failure_grace=0.5,
        )
        self.supervisor = Supervisor(self.workshop)

    def submit(self, script: str, name: str = "job", instances: int = 1, **more: Any) -> JobSpec:
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
        spec = JobSpec.from_request(request, SCOPE)
        self.supervisor.submit(spec)
        return spec

    def job(self, name: str = "job") -> Job:
        return self.supervisor.job(SCOPE, name)

    def ended(self, name: str = "job") -> Job:
        assert self.supervisor.wait(SCOPE, name, SECONDS), "the job goes on and on"
        job = self.job(name)
        assert job.life.status.terminal
        return job

    def until(self, status: Secondary, name: str = "job") -> None:
        self.eventually(lambda: self.job(name).life.secondary is status)

    def until_logged(self, text: str, host: str = "algo-1") -> None:
        self.eventually(lambda: text in self.lines(host))

    def eventually(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.01)

    def lines(self, host: str = "algo-1", name: str = "job") -> list[str]:
        try:
            streams = self.logs.stream_names(SCOPE, GROUP, f"{name}/{host}-")
        except ResourceNotFound:
            return []
        return [
            event.message
            for stream in streams
            for event in self.logs.forward(SCOPE, GROUP, stream).events
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.folder.holding.clear()
    bench.supervisor.shutdown()


def statuses(job: Job) -> list[str]:
    return [transition.status.value for transition in job.life.transitions]


def test_success(bench: Bench) -> None:
    bench.submit('echo "hello from $HOST"; echo weights > "$MODEL/model.pth"', instances=2)
    job = bench.ended()
    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [t.message for t in job.life.transitions] == [
        "Preparing the instances for training",
        "Downloading the training image",
        "Training image download completed. Training in progress.",
        "Uploading generated training model",
        "Training job completed",
    ]
    assert job.life.status is Status.COMPLETED
    assert job.artifacts == "s3://bucket/out/job/output/model.tar.gz"
    assert bench.lines("algo-2") == ["hello from algo-2"]
    assert (bench.folder.root / "job/algo-2/model.pth").read_text() == "weights\n"
    assert not bench.workshop.job_directory(job.spec).exists()
    assert job.life.training_started == job.life.transitions[1].started


def test_the_last_line_is_readable_before_the_job_has_ended(bench: Bench) -> None:
    bench.folder.holding.add("upload")
    bench.submit("seq 20000; printf 'no newline'")
    assert bench.folder.reached.wait(SECONDS)
    streams = bench.logs.stream_names(SCOPE, GROUP, "job/")
    last = bench.logs.backward(SCOPE, GROUP, streams[0], limit=2).events
    assert [event.message for event in last] == ["20000", "no newline"]


def test_the_first_instance_that_fails_ends_the_job(bench: Bench) -> None:
    bench.submit(
        'if [ $HOST = algo-2 ]; then printf "rank 1 died" > "$OUTPUT/failure"; exit 3; fi;'
        'echo half > "$MODEL/half"; trap "" TERM; sleep 300',
        instances=2,
    )
    began = time.monotonic()
    job = bench.ended()
    assert time.monotonic() - began < 10
    assert job.life.failure_reason == "AlgorithmError: rank 1 died, exit code: 3"
    assert statuses(job)[-2:] == ["Uploading", "Failed"]
    assert job.artifacts is None
    assert (bench.folder.root / "job/algo-1/half").exists(), "what there is is kept"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "AlgorithmError: , exit code: 1"),
        ("kill -9 $$", "AlgorithmError: , exit code: 137"),
        (
            'echo "ClientError: bad data" > "$OUTPUT/failure"; exit 1',
            "ClientError: bad data",
        ),
        ('ln -s /etc/passwd "$OUTPUT/failure"; exit 1', "AlgorithmError: , exit code: 1"),
        ('mkfifo "$OUTPUT/failure"; exit 1', "AlgorithmError: , exit code: 1"),
    ],
)
def test_failure_reasons(bench: Bench, script: str, reason: str) -> None:
    bench.submit(script)
    job = bench.ended()
    assert job.life.failure_reason == reason
    assert statuses(job) == ["Starting", "Downloading", "Training", "Failed"]


def test_stop_while_training(bench: Bench) -> None:
    bench.submit(
        "trap 'echo saving; echo w > \"$MODEL/m\"; exit 5' TERM; echo ready;"
        "while :; do sleep 0.05; done"
    )
    bench.until_logged("ready")
    assert bench.supervisor.stop(SCOPE, "job").life.status is Status.STOPPING
    job = bench.ended()
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert job.life.failure_reason is None
    assert job.artifacts
    assert "saving" in bench.lines()
    assert (bench.folder.root / "job/algo-1/m").exists()


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    object.__setattr__(bench.workshop, "stop_grace", 0.3)
    bench.submit("trap '' TERM; echo ready; sleep 300")
    bench.until_logged("ready")
    bench.supervisor.stop(SCOPE, "job")
    assert bench.ended().life.status is Status.STOPPED


def test_stop_while_downloading(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    bench.submit("echo never")
    assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.stop(SCOPE, "job")
    job = bench.ended()
    assert statuses(job) == ["Starting", "Downloading", "Stopping", "Stopped"]
    assert job.artifacts is None
    assert bench.lines() == []


def test_stop_while_waiting_for_capacity(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    bench.submit("true", "first", HyperParameters={"needs": "port"})
    bench.until(Secondary.DOWNLOADING, "first")
    bench.submit("true", "second", HyperParameters={"needs": "port"})
    bench.until(Secondary.PENDING, "second")
    assert bench.job("second").life.transitions[-1].message == "Training job waiting for capacity"
    bench.supervisor.stop(SCOPE, "second")
    stopped = bench.ended("second")
    assert statuses(stopped) == ["Starting", "Pending", "Stopping", "Stopped"]
    assert (stopped.life.training_started, stopped.life.training_ended) == (None, None)
    bench.folder.holding.clear()
    assert bench.ended("first").life.status is Status.COMPLETED


def test_a_job_that_waited_runs_when_its_turn_comes(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    for name in ("first", "second"):
        bench.submit("true", name, HyperParameters={"needs": "port"})
    bench.until(Secondary.PENDING, "second")
    bench.folder.holding.clear()
    second = bench.ended("second")
    assert statuses(second)[:3] == ["Starting", "Pending", "Downloading"]
    assert second.life.transitions[1].message == "Preparing the instances for training"
    assert second.life.transitions[2].started >= bench.ended("first").life.modified


def test_stop_while_uploading(bench: Bench) -> None:
    bench.folder.holding.add("upload")
    bench.submit('echo w > "$MODEL/m"')
    assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.stop(SCOPE, "job")
    bench.folder.holding.clear()
    job = bench.ended()
    assert statuses(job)[-2:] == ["Uploading", "Stopped"]
    assert job.artifacts


def test_stop_of_unknown_and_ended_jobs(bench: Bench) -> None:
    with pytest.raises(ValidationError, match=r"^Requested resource not found\.$"):
        bench.supervisor.stop(SCOPE, "nothing")
    bench.submit("true")
    bench.ended()
    text = "The request was rejected because the training job is in status Completed."
    with pytest.raises(ValidationError, match=text):
        bench.supervisor.stop(SCOPE, "job")


def test_max_runtime(bench: Bench) -> None:
    bench.submit(
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    job = bench.ended()
    assert job.life.status is Status.STOPPED
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "MaxRuntimeExceeded"]
    training = job.life.transitions[2]
    assert training.ended is not None
    assert 1 <= training.ended - training.started < 3


@pytest.mark.parametrize(
    ("gate", "reason", "last"),
    [
        ("stage", "ClientError: stage failed:Access Denied", "Downloading"),
        ("upload", "ClientError: upload failed:Access Denied", "Uploading"),
        ("stage crash", INTERNAL_ERROR, "Downloading"),
        ("upload crash", INTERNAL_ERROR, "Uploading"),
    ],
)
def test_trouble_with_the_data(bench: Bench, gate: str, reason: str, last: str) -> None:
    bench.folder.broken.add(gate)
    bench.submit("echo hello")
    job = bench.ended()
    assert job.life.failure_reason == reason
    assert statuses(job)[-2:] == [last, "Failed"]
    assert job.artifacts is None
    if "crash" in gate:
        assert "The emulator failed" in bench.lines()[-1]


def test_an_upload_that_fails_is_not_why_a_job_failed(bench: Bench) -> None:
    bench.folder.broken.add("upload")
    bench.submit('echo w > "$MODEL/m"; exit 4')
    assert bench.ended().life.failure_reason == "AlgorithmError: , exit code: 4"


def test_a_directory_that_the_script_made_read_only_is_removed(bench: Bench) -> None:
    bench.submit('mkdir -p "$OUTPUT/a/b"; touch "$OUTPUT/a/b/c"; chmod 500 "$OUTPUT/a/b"')
    spec = bench.ended().spec
    assert not bench.workshop.job_directory(spec).exists()


def test_an_image_that_cannot_be_had(bench: Bench) -> None:
    bench.submit("true", image="missing")
    assert bench.ended().life.failure_reason == "ClientError: Cannot pull algorithm container."


def test_what_is_refused_leaves_no_job(bench: Bench) -> None:
    with pytest.raises(ValidationError, match="no more than 4"):
        bench.submit("true", instances=5)
    bench.folder.broken.add("check")
    with pytest.raises(ValidationError, match="No S3 objects"):
        bench.submit("true")
    bench.folder.broken.clear()
    with pytest.raises(ValidationError):
        bench.job()
    bench.submit("true")
    with pytest.raises(ResourceInUse):
        bench.submit("true")


@pytest.mark.parametrize("phase", ["stage", "train"])
def test_shutdown_fails_what_runs(bench: Bench, phase: str) -> None:
    bench.folder.holding.add(phase)
    bench.submit("trap '' TERM; echo ready; sleep 300")
    if phase == "train":
        bench.until_logged("ready")
    else:
        assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.shutdown()
    job = bench.job()
    assert job.life.failure_reason == INTERNAL_ERROR
    assert bench.lines()[-1] == SHUTDOWN_NOTICE
    assert bench.supervisor.running() == 0
    with pytest.raises(Exception, match="shutting down"):
        bench.submit("true", "late")


def test_jobs_that_a_kill_left_unfinished_are_settled(tmp_path: Path) -> None:
    killed = Bench(tmp_path)
    killed.folder.holding.add("stage")
    killed.submit("true", "early")
    killed.submit("true", "done")
    killed.until(Secondary.DOWNLOADING, "early")
    # What the file holds at this moment is all that a kill would leave.
    shutil.copytree(tmp_path, tmp_path.with_name("after"))
    killed.folder.holding.clear()
    killed.ended("early")
    killed.ended("done")

    bench = Bench(tmp_path.with_name("after"))
    (bench.workshop.directory / "123456789012/us-east-1/early").mkdir(parents=True, exist_ok=True)
    assert {job.spec.name for job in bench.supervisor.recover()} == {"early", "done"}
    job = bench.job("early")
    assert job.life.failure_reason == INTERNAL_ERROR
    assert bench.lines(name="early") == [RESTART_NOTICE]
    assert not bench.workshop.job_directory(job.spec).exists()
    assert bench.supervisor.recover() == []


def test_from_the_last_exit_to_the_end_takes_little(bench: Bench) -> None:
    bench.submit('date +%s.%N > "$MODEL/end"')
    job = bench.ended()
    ended = float((bench.folder.root / "job/algo-1/end").read_text())
    assert job.life.training_ended is not None
    assert job.life.training_ended - ended < 5, "it was not noticed when it happened"
