"""What a warm pool asks the engine for, compared as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emulator.drivers.docker.pause_containers import keepers_request
from emulator.drivers.docker.requests import LocalImage, Placement, job_request
from emulator.model.plan import InstancePlan, JobPlan

IMAGE = LocalImage("sagemaker-emulator/pytorch-training:cpu", ("bash", "start.sh"))
PLACEMENT = Placement("sagemaker-fit-1a2b", "here", {"asked-for": IMAGE}, shm_bytes=2**33)
INSTANCE = InstancePlan(
    host="algo-1",
    image="asked-for",
    entrypoint=None,
    arguments=("train",),
    environment={},
    mounts=(),
    scratch=Path("/jobs/fit/scratch"),
)
PLAN = JobPlan("fit", "arn:fit", (INSTANCE,), pool="5a1e")


def test_a_keeper_has_the_place_and_nothing_of_the_job() -> None:
    request = keepers_request(PLAN, PLACEMENT)
    labels = {"sagemaker-emulator.emulator": "here", "sagemaker-emulator.warm-pool": "5a1e"}
    assert request.network == {
        "name": "sagemaker-pool-5a1e",
        "driver": "bridge",
        "internal": False,
        "options": {},
        "labels": labels,
    }
    (keeper,) = request.containers
    assert (keeper.host, keeper.name) == ("algo-1", "sagemaker-pool-5a1e-algo-1")
    assert keeper.body == {
        "Image": "sagemaker-emulator/pytorch-training:cpu",
        "Hostname": "algo-1",
        "Entrypoint": ["/bin/sh", "-c", "while :; do sleep 86400; done"],
        "Cmd": [],
        "Env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {**labels, "sagemaker-emulator.keeper-of": "algo-1"},
        "HostConfig": {
            "NetworkMode": "sagemaker-pool-5a1e",
            "Init": False,
            "RestartPolicy": {"Name": "no"},
            "ExtraHosts": ["host.docker.internal:host-gateway"],
        },
        "NetworkingConfig": {"EndpointsConfig": {"sagemaker-pool-5a1e": {"Aliases": ["algo-1"]}}},
    }


def test_an_isolated_pool_has_no_way_to_the_host() -> None:
    request = keepers_request(replace(PLAN, network_isolation=True), PLACEMENT)
    assert request.network
    assert request.network["internal"]
    assert "ExtraHosts" not in request.containers[0].body["HostConfig"]


def test_a_container_takes_its_keepers_place() -> None:
    request = job_request(PLAN, replace(PLACEMENT, keepers={"algo-1": "keeper's id"}))
    assert request.network is None
    body = request.containers[0].body
    alone = job_request(PLAN, PLACEMENT).containers[0].body
    assert body["HostConfig"]["NetworkMode"] == "container:keeper's id"
    # The engine refuses these beside another container's network.
    assert "ExtraHosts" not in body["HostConfig"]
    assert not {"Hostname", "NetworkingConfig"} & set(body)
    changed = {"NetworkMode", "ExtraHosts"}
    for part in (body, alone):
        assert part["Labels"]["sagemaker-emulator.warm-pool"] == "5a1e"
    assert {k: v for k, v in body["HostConfig"].items() if k not in changed} == {
        k: v for k, v in alone["HostConfig"].items() if k not in changed
    }
