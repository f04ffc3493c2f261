"""The emulator in a container of the same engine, as compose.yaml runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from docker_jobs import IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
SERVER = "sagemaker-emulator/server:latest"
ROOT = Path(__file__).parents[2]

# Serves one request, and starts a job whose two instances make it.
EMULATOR = """
import http.server, sys, threading
from pathlib import Path
from emulator.model.plan import InstancePlan, JobPlan
from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import connect, inspect_engine, listen_addresses
from emulator.drivers.images.resolution import Images

state, image = Path(sys.argv[1]), sys.argv[2]
server = http.server.ThreadingHTTPServer(("0.0.0.0", 4570), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = connect()
engine = inspect_engine(client)
assert engine.own_container, "it does not see that it is in a container"
assert listen_addresses(engine) == ()
runtime = DockerRuntime(client, engine, Images(client), port=4570, emulator=state.name)
call = "import urllib.request as u; print(u.urlopen('" + runtime.traits.emulator_url + "').status)"
plan = JobPlan("inside", "arn:inside", tuple(
    InstancePlan(host, image, ("python", "-c"), (call,), {}, (), state / host)
    for host in ("algo-1", "algo-2")
))
said = {"algo-1": bytearray(), "algo-2": bytearray()}
fleet = runtime.launch(plan, lambda host, chunk: said[host].extend(chunk))
print(sorted((end.host, end.code) for end in (fleet.next_exit(60), fleet.next_exit(60))))
fleet.close()
for host, output in said.items():
    print(host, output.decode().strip())
mine = {"label": "sagemaker-emulator.emulator=" + state.name}
print(client.api.containers(all=True, filters=mine), client.api.networks(filters=mine))
"""


def test_its_jobs_run_beside_it_and_reach_it(tmp_path: Path) -> None:
    answer = subprocess.run(
        [
            *("docker", "run", "--rm", "--entrypoint", "python"),
            *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
            *("--volume", f"{tmp_path}:{tmp_path}", "--volume", f"{ROOT}:/checkout:ro"),
            *("--env", "PYTHONPATH=/checkout", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *(SERVER, "-c", EMULATOR, str(tmp_path), IMAGE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert sorted(answer.stdout.splitlines()) == [
        "[('algo-1', 0), ('algo-2', 0)]",
        "[] []",
        "algo-1 200",
        "algo-2 200",
    ]
