"""A job's whole request to the engine, compared as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.drivers.docker.own_mounts import OwnMounts
from emulator.drivers.docker.requests import (
    LocalImage,
    Placement,
    job_request,
    placement_name,
)
from emulator.model.plan import InstancePlan, JobPlan, Mount, Sharing

IMAGE = LocalImage("sagemaker-emulator/pytorch-training:cpu", ("bash", "start.sh"))
PLACEMENT = Placement("sagemaker-fit-1a2b", "here", {"asked-for": IMAGE}, shm_bytes=2**33)
WAIT = 'until [ -e /run/sagemaker-emulator/started ]; do sleep 0.01; done; exec "$@" 2>&1'
LABELS = {
    "owner": "me",
    "sagemaker-emulator.emulator": "here",
    "sagemaker-emulator.training-job-arn": "arn:fit",
    "sagemaker-emulator.training-job": "fit",
    "sagemaker-emulator.instances": "1",
}


def plan(network_isolation: bool = False, **changes: Any) -> JobPlan:
    instance = InstancePlan(
        host="algo-1",
        image="asked-for",
        entrypoint=None,
        arguments=("train",),
        environment={"A": "1", "NVIDIA_VISIBLE_DEVICES": "all"},
        mounts=(
            Mount(Path("/jobs/fit/ml/input"), "/opt/ml/input"),
            Mount(Path("/data"), "/opt/ml/input/data/train", read_only=True),
        ),
        scratch=Path("/jobs/fit/scratch"),
    )
    return JobPlan(
        "fit", "arn:fit", (replace(instance, **changes),), network_isolation, {"owner": "me"}
    )


def body(placement: Placement = PLACEMENT, **changes: Any) -> dict[str, Any]:
    return dict(job_request(plan(**changes), placement).containers[0].body)


def test_a_whole_job() -> None:
    request = job_request(plan(), PLACEMENT)
    assert request.network == {
        "name": "sagemaker-fit-1a2b",
        "driver": "bridge",
        "internal": False,
        "options": {},
        "labels": LABELS,
    }
    assert request.volume is None
    (container,) = request.containers
    assert (container.host, container.name) == ("algo-1", "sagemaker-fit-1a2b-algo-1")
    assert container.body == {
        "Image": "sagemaker-emulator/pytorch-training:cpu",
        "Hostname": "algo-1",
        "Entrypoint": ["/bin/sh", "-c", WAIT, "/bin/sh", "bash", "start.sh"],
        "Cmd": ["train"],
        "Env": ["A=1", "NVIDIA_VISIBLE_DEVICES=void"],
        "Labels": {**LABELS, "sagemaker-emulator.host": "algo-1"},
        "Tty": False,
        "OpenStdin": False,
        "HostConfig": {
            "NetworkMode": "sagemaker-fit-1a2b",
            "Mounts": [
                _bind("/jobs/fit/ml/input", "/opt/ml/input"),
                _bind("/data", "/opt/ml/input/data/train", read_only=True),
                _bind("/jobs/fit/scratch/run", "/run/sagemaker-emulator", read_only=True),
            ],
            "ShmSize": 2**33,
            "Ulimits": [
                {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
                {"Name": "memlock", "Soft": -1, "Hard": -1},
            ],
            "CapAdd": ["SYS_NICE"],
            "Init": False,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {
                "Type": "local",
                "Config": {"max-size": "1000g", "max-file": "1", "compress": "false"},
            },
            "ExtraHosts": ["host.docker.internal:host-gateway"],
        },
        "NetworkingConfig": {"EndpointsConfig": {"sagemaker-fit-1a2b": {"Aliases": ["algo-1"]}}},
    }


def _bind(source: str, target: str, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def test_an_isolated_job_has_no_way_to_the_host() -> None:
    request = job_request(plan(network_isolation=True), PLACEMENT)
    assert request.network["internal"] is True
    assert request.network["options"] == {"com.docker.network.bridge.inhibit_ipv4": "true"}
    assert "ExtraHosts" not in request.containers[0].body["HostConfig"]


def test_an_emulator_in_a_container_is_no_host_of_the_engine() -> None:
    assert "ExtraHosts" not in body(replace(PLACEMENT, host_gateway=False))["HostConfig"]


def test_the_sdks_own_calls_of_aws_are_refused() -> None:
    placement = replace(PLACEMENT, host_gateway=False, reaches_aws=False)
    kept = body(placement, environment={"AWS_REGION": "eu-west-1"})["HostConfig"]
    assert kept["ExtraHosts"] == [
        "sts.eu-west-1.amazonaws.com:127.0.0.1",
        "sts.amazonaws.com:127.0.0.1",
        "sm-pysdk-t-eu-west-1.s3.eu-west-1.amazonaws.com:127.0.0.1",
    ]


def test_the_requests_entrypoint_replaces_the_images() -> None:
    assert body(entrypoint=("/bin/bash", "-c"), arguments=("true",))["Entrypoint"] == [
        *("/bin/sh", "-c", WAIT, "/bin/sh"),
        *("/bin/bash", "-c"),
    ]


@pytest.mark.parametrize(
    ("entrypoint", "expected"), [(None, ["/train"]), (("/other",), ["/other"])]
)
def test_an_image_without_a_shell_starts_as_it_is(
    entrypoint: tuple[str, ...] | None, expected: list[str]
) -> None:
    images = {"asked-for": LocalImage("static", ("/train",), has_shell=False)}
    found = body(replace(PLACEMENT, images=images), entrypoint=entrypoint)
    assert (found["Entrypoint"], found["Cmd"]) == (expected, ["train"])


@pytest.mark.parametrize(
    ("entrypoint", "arguments", "expected"),
    [
        (None, (), ["--all"]),
        (None, ("--some",), ["--some"]),
        (("/other",), (), []),
        (("/other",), ("--some",), ["--some"]),
    ],
)
def test_the_images_arguments_go_with_its_entry_point(
    entrypoint: tuple[str, ...] | None, arguments: tuple[str, ...], expected: list[str]
) -> None:
    images = {"asked-for": LocalImage("own", ("/run",), command=("--all",))}
    found = body(replace(PLACEMENT, images=images), entrypoint=entrypoint, arguments=arguments)
    assert found["Cmd"] == expected


def test_gpus_through_the_hook_are_named_by_uuid() -> None:
    found = body(gpus=("GPU-a", "GPU-b"))
    assert found["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu"]]}
    ]
    assert found["Env"] == ["A=1"]  # the hook itself sets which GPUs are visible


def test_gpus_through_cdi_keep_the_hook_out() -> None:
    found = body(replace(PLACEMENT, gpu_driver="cdi"), gpus=("GPU-a",))
    assert found["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-a"]}
    ]
    assert found["Env"] == ["A=1", "NVIDIA_VISIBLE_DEVICES=void"]


def test_limits_of_memory() -> None:
    limited = replace(PLACEMENT, memory_bytes={"algo-1": 2**30}, lock_memory=False)
    config = body(limited)["HostConfig"]
    assert (config["Memory"], config["MemorySwap"]) == (2**30, 2**30)
    assert [limit["Name"] for limit in config["Ulimits"]] == ["stack"]


def test_sources_are_paths_of_the_engines_machine() -> None:
    own = OwnMounts.of([{"Destination": "/", "Source": "/outside"}])
    found = body(replace(PLACEMENT, own_mounts=own))["HostConfig"]["Mounts"]
    assert all(mount["Source"].startswith("/outside/") for mount in found)


def test_every_instance_is_its_own_host() -> None:
    one = plan().instances[0]
    three = JobPlan("fit", "arn:fit", tuple(replace(one, host=f"algo-{n}") for n in (1, 2, 3)))
    found = job_request(three, PLACEMENT).containers
    assert [c.body["Hostname"] for c in found] == ["algo-1", "algo-2", "algo-3"]
    assert {c.body["Labels"]["sagemaker-emulator.instances"] for c in found} == {"3"}


def test_instances_that_share_memory_and_see_each_others_gpus() -> None:
    one = replace(plan().instances[0], gpus=("GPU-a",))
    two = replace(one, host="algo-2", gpus=("GPU-b",))
    sharing = Sharing(dev_shm=True, all_gpus_visible=True)
    request = job_request(JobPlan("fit", "arn:fit", (one, two), sharing=sharing), PLACEMENT)
    assert request.volume is not None
    assert request.volume["name"] == "sagemaker-fit-1a2b"
    assert request.volume["driver_opts"] == {
        "type": "tmpfs",
        "device": "tmpfs",
        "o": "size=8589934592,mode=1777",
    }
    for container in request.containers:
        config = container.body["HostConfig"]
        assert config["Mounts"][-1] == {
            "Type": "volume",
            "Source": "sagemaker-fit-1a2b",
            "Target": "/dev/shm",
        }
        assert config["DeviceRequests"][0]["DeviceIDs"] == ["GPU-a", "GPU-b"]
        assert config["Mounts"][-2] == _bind(
            "/jobs/fit/scratch/run/nvidia-smi", "/usr/local/bin/nvidia-smi", read_only=True
        )


def test_instances_that_see_their_own_gpus_alone_have_the_drivers_listing() -> None:
    one = replace(plan().instances[0], gpus=("GPU-a",))
    same = Sharing(dev_shm=True, all_gpus_visible=True)
    two = replace(one, host="algo-2")
    for job in (JobPlan("fit", "arn", (one,)), JobPlan("fit", "arn", (one, two), sharing=same)):
        assert "nvidia-smi" not in str(job_request(job, PLACEMENT).containers)


def test_names_fit_into_a_dns_label() -> None:
    name = placement_name("a" * 62 + "-", "1a2b3c4d")
    assert name.startswith("sagemaker-aaa")
    assert len(f"{name}-algo-100") == 63
    assert placement_name("fit", "1a2b") == "sagemaker-fit-1a2b"


def test_a_layer_is_a_volume_that_goes_with_its_container() -> None:
    mount = Mount(Path("/cache/t"), "/opt/ml/input/data/train", layer=Path("/jobs/fit/l"))
    [volume, _] = body(mounts=(mount,))["HostConfig"]["Mounts"]
    layers = "lowerdir=/cache/t,upperdir=/jobs/fit/l/upper,workdir=/jobs/fit/l/work"
    assert volume == {
        "Type": "volume",
        "Target": "/opt/ml/input/data/train",
        "VolumeOptions": {
            "NoCopy": True,
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "overlay", "device": "overlay", "o": layers},
            },
        },
    }
