"""The variables an instance of the process runtime starts with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from emulator.drivers.process.interpreter import Interpreter
from emulator.model.plan import InstancePlan

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What AWS's PyTorch images set (aws/deep-learning-containers, their Dockerfiles).
_IMAGE = {
    "LANG": "C.UTF-8",
    "PYTHONIOENCODING": "UTF-8",
    "PYTHONUNBUFFERED": "1",
    "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
}

_PASSED_ON = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "LD_LIBRARY_PATH",
    "PIP_*",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "*_PROXY",
    "*_proxy",
)
"""What makes networks and package indexes reachable from the user's own shell, and where its
interpreter finds libraries: a driver's too, in containers whose linker was not told of it."""


@dataclass(frozen=True)
class Places:
    """Where an instance finds its own directories."""

    home: str
    commands: str
    layer: str | None
    """The environment above the user's, where pip must not touch that one itself."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Variables for what was put there."""


@dataclass(frozen=True)
class OwnNetwork:
    """The job's own network, as its instances see it."""

    hosts: tuple[str, ...]
    proxy: str | None
    """The only way out; None when there is none."""
    addresses: tuple[str, ...] = ()
    """Of the hosts, in their order; empty: they are on the loopback interface."""


def instance_environment(
    plan: InstancePlan,
    interpreter: Interpreter,
    places: Places,
    emulator_url: str,
    user: Mapping[str, str],
    network: OwnNetwork | None = None,
) -> Mapping[str, str]:
    """Everything that is set; `user` is the environment the emulator was started in.

    Without a `network` the instance has this machine's.
    """
    return {
        **_IMAGE,
        **places.more,
        "HOME": places.home,
        "PATH": ":".join(_search_path(interpreter, places)),
        **(_reachability(user, emulator_url) if network is None else _inside(user, network)),
        # What the toolkit's `pip install -r requirements.txt` writes is thrown away.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **plan.environment,
        **_gpus(plan),
    }


def _search_path(interpreter: Interpreter, places: Places) -> list[str]:
    layer = [f"{places.layer}/bin"] if places.layer else []
    return [*layer, places.commands, interpreter.scripts, _SYSTEM_PATH]


def passed_on(user: Mapping[str, str]) -> dict[str, str]:
    """The variables of the emulator's own environment that jobs get as well."""
    return {
        name: value
        for name, value in user.items()
        if any(fnmatchcase(name, pattern) for pattern in _PASSED_ON)
    }


def _inside(user: Mapping[str, str], network: OwnNetwork) -> dict[str, str]:
    """The user's own proxies cannot be reached; the job's goes through them."""
    passed = passed_on(user)
    kept = {name: value for name, value in passed.items() if not _names_proxy(name)}
    if network.proxy is None:
        return kept
    near = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", *network.hosts, *network.addresses)
    around = ",".join(near)
    proxies = {"HTTP_PROXY": network.proxy, "HTTPS_PROXY": network.proxy, "NO_PROXY": around}
    return {**kept, **proxies, **{name.lower(): value for name, value in proxies.items()}}


def _names_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")


def _reachability(user: Mapping[str, str], emulator_url: str) -> dict[str, str]:
    passed = passed_on(user)
    if not any(map(_names_proxy, passed)):
        return passed
    # A proxy could not reach what listens on this machine.
    known = passed.get("NO_PROXY", passed.get("no_proxy", ""))
    direct = ["localhost", "127.0.0.1", urlsplit(emulator_url).hostname or ""]
    around = ",".join(dict.fromkeys([name for name in (*known.split(","), *direct) if name]))
    return {**passed, "NO_PROXY": around, "no_proxy": around}


def _gpus(plan: InstancePlan) -> dict[str, str]:
    uuids = ",".join(plan.gpus)
    return {"CUDA_VISIBLE_DEVICES": uuids, "NVIDIA_VISIBLE_DEVICES": uuids or "void"}
