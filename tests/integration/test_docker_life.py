"""What can happen to containers: limits, losses, restarts of the emulator and of the engine."""

from __future__ import annotations

import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker_jobs import IMAGE, Output, plan_of, runtime_on

from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import connect, inspect_engine, listen_addresses
from emulator.drivers.docker.fleet import DockerFleet
from emulator.drivers.docker.watch import ENGINE_RESTARTED, REMOVED
from emulator.drivers.images.resolution import CANNOT_PULL
from emulator.model.errors import CapacityError, ClientError
from emulator.model.plan import Exit, InstancePlan, JobPlan, Mount, Sharing

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
SLEEP = "echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def runtime(client: DockerClient, emulator: str) -> Iterator[DockerRuntime]:
    runtime = runtime_on(client, emulator)
    yield runtime
    runtime.clean()
    mine = {"label": f"sagemaker-emulator.emulator={emulator}"}
    assert client.api.containers(all=True, filters=mine) == []
    assert client.api.networks(filters=mine) == []
    assert not client.api.volumes(filters=mine)["Volumes"]


def end_of(fleet: DockerFleet) -> Exit:
    end = fleet.next_exit(60)
    assert end is not None
    return end


def test_out_of_memory_is_told(client: DockerClient, tmp_path: Path, emulator: str) -> None:
    runtime = runtime_on(client, emulator, memory=100 * 1024**2)
    script = "exec python -c \"x = bytearray(10**9); print('survived')\""
    fleet = runtime.launch(plan_of(tmp_path, script), Output())
    try:
        end = end_of(fleet)
    finally:
        fleet.close()
    assert (end.code, end.out_of_memory, end.lost) == (137, True, "")


def test_a_container_removed_behind_the_back(
    runtime: DockerRuntime, client: DockerClient, tmp_path: Path, emulator: str
) -> None:
    output = Output()
    fleet = runtime.launch(plan_of(tmp_path, SLEEP, SLEEP), output)
    output.await_text("ready")
    labels = [f"sagemaker-emulator.emulator={emulator}", "sagemaker-emulator.host=algo-1"]
    (container,) = client.api.containers(filters={"label": labels})
    client.api.remove_container(container["Id"], force=True)
    end = end_of(fleet)
    assert (end.host, end.lost) == ("algo-1", REMOVED)
    assert fleet.next_exit(0.2) is None
    fleet.close()


def test_other_emulators_have_jobs_of_their_own(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path, emulator: str
) -> None:
    other, plan = runtime_on(client, f"not-{emulator}"), plan_of(tmp_path, SLEEP)
    fleet = runtime.launch(plan, Output())
    other.clean()
    assert other.adopt(plan.arn, Output()) is None
    assert fleet.next_exit(0.1) is None
    runtime.clean()
    assert end_of(fleet).lost == REMOVED
    fleet.close()


def test_a_missing_image_fails_in_the_services_words(runtime: DockerRuntime) -> None:
    said: list[str] = []
    with pytest.raises(ClientError) as error:
        runtime.prepare("127.0.0.1:1/no/such-image:1", said.append, lambda: False)
    assert str(error.value) == f"ClientError: {CANNOT_PULL}"
    assert said[0] == "Pulling 127.0.0.1:1/no/such-image:1"
    assert len(said) == 2


def test_a_service_image_is_mapped_and_told(runtime: DockerRuntime, tmp_path: Path) -> None:
    uri = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.2.0-gpu-py310"
    said: list[str] = []
    runtime.prepare(uri, said.append, lambda: False)
    [line] = said
    assert line.startswith(f"The image asked for is {uri} (PyTorch ")
    assert f"; {IMAGE}" in line
    fleet = runtime.launch(plan_of(tmp_path, "exit 5", image=uri), Output())
    assert end_of(fleet).code == 5
    fleet.close()


def test_gpus_that_the_engine_cannot_give(runtime: DockerRuntime, tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="GPU"):
        runtime.launch(plan_of(tmp_path, "true", gpus=("GPU-nobody-has-this",)), Output())


def test_containers_reach_the_emulator_where_it_listens(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path
) -> None:
    (address,) = listen_addresses(inspect_engine(client))
    server = http.server.ThreadingHTTPServer((address, 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = runtime.traits.emulator_url.replace(":4570", f":{server.server_port}")
    script = f"python -c \"import urllib.request as u; print(u.urlopen('{url}').status)\""
    output = Output()
    try:
        fleet = runtime.launch(plan_of(tmp_path, script), output)
        end_of(fleet)
        fleet.close()
    finally:
        server.shutdown()
        server.server_close()
    assert output == {"algo-1": "200\n"}


def test_an_image_without_a_shell_runs(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path
) -> None:
    # A static program is its own image: the loader of the base image's libc will do.
    tag = "sagemaker-emulator-test/no-shell:1"
    archive = io.BytesIO()
    container = client.api.create_container("debian:bookworm-slim", ["-"])["Id"]
    try:
        files, _ = client.api.get_archive(
            container, "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
        )
        data = io.BytesIO(b"".join(files))
    finally:
        client.api.remove_container(container)
    with tarfile.open(fileobj=data) as source, tarfile.open(fileobj=archive, mode="w") as target:
        (member,) = source.getmembers()
        content = source.extractfile(member)
        member.name = "train"
        target.addfile(member, content)
    client.api.import_image_from_data(archive.getvalue(), *tag.split(":"))
    try:
        plan = plan_of(tmp_path, "--version", image=tag)
        instance = plan.instances[0]
        plan = JobPlan(
            plan.job,
            plan.arn,
            (InstancePlan(**{**vars(instance), "entrypoint": ("/train",)}),),
        )
        output = Output()
        fleet = runtime.launch(plan, output)
        assert end_of(fleet).code == 0, output
        fleet.close()
        assert "ld.so" in output["algo-1"]
    finally:
        client.api.remove_image(tag, force=True)


def test_instances_share_memory_only_where_the_plan_says_so(
    runtime: DockerRuntime, tmp_path: Path
) -> None:
    # They look when both have written.
    script = (
        "cd /dev/shm; touch $(hostname) /met/$(hostname);"
        " until [ -e /met/algo-1 ] && [ -e /met/algo-2 ]; do sleep 0.05; done;"
        " ls; df -P . | awk 'END{print $6}'"
    )
    for sharing, seen in ((Sharing(), ["algo-1"]), (Sharing(dev_shm=True), ["algo-1", "algo-2"])):
        met = tmp_path / f"met-{len(seen)}"
        met.mkdir()
        plan = plan_of(tmp_path, script, script)
        instances = tuple(replace(i, mounts=(Mount(met, "/met"),)) for i in plan.instances)
        output = Output()
        fleet = runtime.launch(replace(plan, instances=instances, sharing=sharing), output)
        assert [end_of(fleet).code, end_of(fleet).code] == [0, 0]
        fleet.close()
        assert output["algo-1"].split() == [*seen, "/dev/shm"]


def test_what_the_instances_use(runtime: DockerRuntime, tmp_path: Path) -> None:
    busy = "exec python -c \"x = b'x' * 10**8; print('ready', flush=True)\nwhile True: pass\""
    output = Output()
    fleet = runtime.launch(plan_of(tmp_path, busy, "true"), output)
    output.await_text("ready")
    assert end_of(fleet).host == "algo-2"
    began, before = time.monotonic(), fleet.usage()["algo-1"]
    usage = fleet.usage()
    while usage["algo-1"].cpu_seconds - before.cpu_seconds < 0.1:
        assert time.monotonic() - began < 60
        time.sleep(0.1)
        usage = fleet.usage()
    assert set(usage) == {"algo-1"}
    # One thread works; the engine's answer may be a second old.
    assert usage["algo-1"].cpu_seconds - before.cpu_seconds < time.monotonic() - began + 2
    assert 10**8 < usage["algo-1"].memory_bytes < usage["algo-1"].memory_limit
    fleet.close()
    assert fleet.usage() == {}


AS_A_USER = """
import sys, time
from pathlib import Path
from emulator.model.plan import InstancePlan, JobPlan, Mount
from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import connect, inspect_engine
from emulator.drivers.images.resolution import Images
state, image = Path(sys.argv[1]), sys.argv[2]
client = connect()
runtime = DockerRuntime(client, inspect_engine(client), Images(client), port=1, emulator=state.name)
(state / "model").mkdir()
script = "mkdir -p /opt/ml/model/deep && umask 077 && echo x > /opt/ml/model/deep/m; sleep 600"
mounts = (Mount(state / "model", "/opt/ml/model"),)
instance = InstancePlan("algo-1", image, ("sh", "-c"), (script,), {}, mounts, state / "scratch")
fleet = runtime.launch(JobPlan("user", "arn:user", (instance,)), lambda host, chunk: None)
saved = state / "model/deep/m"
while not (saved.exists() and saved.stat().st_size):
    time.sleep(0.05)
fleet.close()
print((state / "model/deep/m").read_text())
(state / "model/deep/m").unlink()
(state / "model/deep").rmdir()
"""


def test_an_ordinary_user_owns_what_the_containers_wrote(tmp_path: Path) -> None:
    state = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(state, 65534, 65534)
    group = Path("/var/run/docker.sock").stat().st_gid
    answer = subprocess.run(
        [
            *("setpriv", "--reuid", "65534", "--regid", "65534", "--groups", str(group)),
            *(sys.executable, "-c", AS_A_USER, str(state), IMAGE),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert answer.stdout == "x\n\n", answer.stderr
    shutil.rmtree(state)


class Engine:
    """An engine of the test's own, to be ended and started as it likes.

    In a network namespace of its own: two engines would take each other's bridge down.
    """

    def __init__(self, root: Path, *options: str):
        self.url = f"unix://{root}/docker.sock"
        self._root = root
        self._namespace = f"engine-{root.parent.name}-{root.name}"
        subprocess.run(["ip", "netns", "add", self._namespace], check=True)
        self._command = [
            *("nsenter", f"--net=/run/netns/{self._namespace}"),
            *("dockerd", "--host", self.url, "--data-root", str(root / "data")),
            *("--exec-root", str(root / "exec"), "--pidfile", str(root / "pid")),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while subprocess.run(
            ["docker", "--host", self.url, "info"], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, (self._root / "log").read_text()[-2000:]
            time.sleep(0.2)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop()
        subprocess.run(["umount", "--lazy", self._root / "data"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", self._namespace], check=True)
        shutil.rmtree(self._root)


@pytest.fixture
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    if os.geteuid() != 0:
        pytest.fail("starting an engine of its own needs root")
    started: list[Engine] = []

    def start(*options: str) -> Engine:
        # The path of a socket has at most 107 characters.
        engine = Engine(tmp_path_factory.mktemp("e"), *options)
        started.append(engine)
        engine.start()
        saved = subprocess.Popen(["docker", "save", "debian:bookworm-slim"], stdout=subprocess.PIPE)
        load = ["docker", "--host", engine.url, "load"]
        subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True)
        saved.wait()
        return engine

    yield start
    for engine in started:
        engine.remove()


COUNT = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; sleep 0.1; done"


def test_an_engine_that_restarts_takes_its_containers_along(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    engine = own_engine()
    with closing(connect(engine.url)) as client:
        runtime, output = runtime_on(client, "own"), Output()
        fleet = runtime.launch(plan_of(tmp_path, SLEEP, image="debian:bookworm-slim"), output)
        output.await_text("ready")
        engine.stop()
        assert fleet.next_exit(1) is None  # it may come back
        engine.start()
        end = end_of(fleet)
        assert end.lost == ENGINE_RESTARTED
        assert end.code != 0
        assert output == {"algo-1": "ready\n"}
        fleet.close()


def test_an_engine_that_leaves_containers_running_loses_no_output(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    engine = own_engine("--live-restore")
    with closing(connect(engine.url)) as client:
        runtime, output = runtime_on(client, "own"), Output()
        fleet = runtime.launch(plan_of(tmp_path, COUNT, image="debian:bookworm-slim"), output)
        output.await_text("\n20\n")
        engine.stop()
        engine.start()
        end = end_of(fleet)
        assert (end.code, end.lost) == (0, "")
        assert output["algo-1"] == "".join(f"{i}\n" for i in range(1, 101))
        fleet.close()
