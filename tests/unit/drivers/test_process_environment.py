"""The variables of an instance of the process runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from test_sandbox import PLAN, PYTHON

from emulator.drivers.process.environment import OwnNetwork, Places, instance_environment
from emulator.model.plan import InstancePlan

PLACES = Places("/instance/home", "/instance/bin", None)


def made(plan: InstancePlan = PLAN, places: Places = PLACES, **user: str) -> dict[str, str]:
    return dict(instance_environment(plan, PYTHON, places, "http://10.0.0.1:4570", user))


def test_all_of_a_plain_one() -> None:
    assert made(USER="me", LD_PRELOAD="x.so") == {
        "LANG": "C.UTF-8",
        "PYTHONIOENCODING": "UTF-8",
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
        "HOME": "/instance/home",
        "PATH": "/instance/bin:/home/u/env/bin:/usr/local/sbin:/usr/local/bin:"
        "/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": "void",
    }


def test_the_plan_wins_but_not_over_its_gpus() -> None:
    wishes = {"LANG": "de_DE.UTF-8", "CUDA_VISIBLE_DEVICES": "7"}
    found = made(replace(PLAN, environment=wishes, gpus=("GPU-a", "GPU-b")))
    assert found["LANG"] == "de_DE.UTF-8"
    assert found["CUDA_VISIBLE_DEVICES"] == found["NVIDIA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_what_makes_an_index_reachable_is_passed_on() -> None:
    found = made(PIP_INDEX_URL="https://i", SSL_CERT_FILE="/c", AWS_CA_BUNDLE="/c")
    assert found["PIP_INDEX_URL"] == "https://i"
    assert found["SSL_CERT_FILE"] == found["AWS_CA_BUNDLE"] == "/c"
    assert "NO_PROXY" not in found


def test_the_users_libraries_are_found_unless_the_request_names_others() -> None:
    place = "/usr/local/nvidia/lib64"
    assert made(LD_LIBRARY_PATH=place)["LD_LIBRARY_PATH"] == place
    own = replace(PLAN, environment={"LD_LIBRARY_PATH": "/mine"})
    assert made(own, LD_LIBRARY_PATH=place)["LD_LIBRARY_PATH"] == "/mine"
    assert inside(None, LD_LIBRARY_PATH=place)["LD_LIBRARY_PATH"] == place


def test_a_proxy_is_passed_on_and_not_used_for_this_machine() -> None:
    found = made(https_proxy="http://p", no_proxy="corp,localhost")
    assert found["https_proxy"] == "http://p"
    assert found["no_proxy"] == found["NO_PROXY"] == "corp,localhost,127.0.0.1,10.0.0.1"


def inside(proxy: str | None, plan: InstancePlan = PLAN, **user: str) -> dict[str, str]:
    network = OwnNetwork(("algo-1", "algo-2"), proxy)
    return dict(instance_environment(plan, PYTHON, PLACES, "http://127.0.0.1:4570", user, network))


def test_on_its_own_network_the_jobs_proxy_replaces_the_users() -> None:
    user = {"https_proxy": "http://p", "ALL_PROXY": "socks5://p", "NO_PROXY": "corp"}
    found = inside("http://127.0.0.1:3128", **user, PIP_INDEX_URL="https://i")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert found[name] == "http://127.0.0.1:3128"
    for name in ("NO_PROXY", "no_proxy"):
        assert found[name] == "localhost,127.0.0.1,127.0.0.0/8,::1,algo-1,algo-2"
    assert "ALL_PROXY" not in found
    assert found["PIP_INDEX_URL"] == "https://i"


def test_the_instances_addresses_are_no_proxys_business() -> None:
    network = OwnNetwork(("algo-1",), "http://127.0.0.1:3128", ("198.18.0.1",))
    found = instance_environment(PLAN, PYTHON, PLACES, "http://127.0.0.1:4570", {}, network)
    assert found["NO_PROXY"].endswith(",algo-1,198.18.0.1")


def test_the_requests_own_proxy_wins() -> None:
    plan = replace(PLAN, environment={"HTTPS_PROXY": "http://mine"})
    assert inside("http://127.0.0.1:3128", plan)["HTTPS_PROXY"] == "http://mine"


def test_an_isolated_instance_is_told_of_no_proxy() -> None:
    found = inside(None, https_proxy="http://p", no_proxy="corp")
    assert not [name for name in found if name.lower().endswith("_proxy")]


def test_a_layer_comes_first() -> None:
    places = replace(PLACES, layer="/instance/environment")
    assert made(places=places)["PATH"].startswith("/instance/environment/bin:/instance/bin:")


def test_the_scratch_of_the_plan_is_not_told(tmp_path: Path) -> None:
    assert str(tmp_path) not in str(made(replace(PLAN, scratch=tmp_path)))
