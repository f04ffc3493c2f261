"""Starts a training script as SageMaker's training toolkit does; runs inside an instance.

    python launch.py [--torchrun] DIRECTORY SCRIPT

For interpreters without the toolkit: reads /opt/ml/input/config, sets the SM_* variables, installs
a requirements.txt beside the script, and runs the script with the hyperparameters as its
arguments. The names and forms are those of sagemaker-training's environment.py and mapping.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

OPT_ML = Path("/opt/ml")
TAIL_LINES = 20


def decoded(text: str) -> Any:
    """A hyperparameter's value: what its JSON says, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def arguments(hyperparameters: dict[str, Any]) -> list[str]:
    """`--name value`, sorted by name; one letter has one dash; null has no value."""
    words = []
    for name, value in sorted(hyperparameters.items()):
        words.append(f"-{name}" if len(name) == 1 else f"--{name}")
        if value is not None:
            words.append(as_text(value))
    return words


def as_text(value: Any) -> str:
    """How a value stands in an argument or a variable."""
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def variables(
    hyperparameters: dict[str, Any],
    resources: dict[str, Any],
    channels: dict[str, Any],
    directory: str,
    script: str,
    gpus: int,
) -> dict[str, str]:
    """The SM_* variables of an instance."""
    found = {
        "SM_HOSTS": json.dumps(resources["hosts"]),
        "SM_CURRENT_HOST": resources["current_host"],
        "SM_NETWORK_INTERFACE_NAME": resources.get("network_interface_name", "eth0"),
        "SM_CURRENT_INSTANCE_TYPE": resources.get("current_instance_type", ""),
        "SM_CURRENT_INSTANCE_GROUP": resources.get("current_group_name", ""),
        "SM_RESOURCE_CONFIG": json.dumps(resources),
        "SM_INPUT_DATA_CONFIG": json.dumps(channels),
        "SM_CHANNELS": json.dumps(sorted(channels)),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_USER_ARGS": json.dumps(arguments(hyperparameters)),
        "SM_USER_ENTRY_POINT": script,
        "SM_MODULE_DIR": directory,
        "SM_NUM_CPUS": str(os.cpu_count() or 1),
        "SM_NUM_GPUS": str(gpus),
        "SM_LOG_LEVEL": "20",
        "SM_INPUT_DIR": str(OPT_ML / "input"),
        "SM_INPUT_CONFIG_DIR": str(OPT_ML / "input/config"),
        "SM_MODEL_DIR": str(OPT_ML / "model"),
        "SM_OUTPUT_DIR": str(OPT_ML / "output"),
        "SM_OUTPUT_DATA_DIR": str(OPT_ML / "output/data"),
    }
    for name in channels:
        found[f"SM_CHANNEL_{name.upper()}"] = str(OPT_ML / "input/data" / name)
    for name, value in hyperparameters.items():
        found[f"SM_HP_{name.upper().replace('-', '_')}"] = as_text(value)
    return found


def torchrun(resources: dict[str, Any], gpus: int) -> list[str]:
    """The arguments of torchrun for this instance; one process a GPU, or one."""
    hosts = resources["hosts"]
    return [
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(hosts)}",
        f"--node_rank={hosts.index(resources['current_host'])}",
        f"--master_addr={hosts[0]}",
        "--master_port=7777",
        f"--nproc_per_node={gpus or 1}",
    ]


def count_gpus() -> int:
    """What the instance has, as its device variable says."""
    visible = os.environ.get("NVIDIA_VISIBLE_DEVICES", "void")
    return 0 if visible in ("", "void", "none") else len(visible.split(","))


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run the script, hand it SIGTERM, and give its exit code (128 + signal if it was killed).

    What it wrote last to stderr becomes the job's failure reason.
    """
    last: deque[bytes] = deque(maxlen=TAIL_LINES)
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    assert child.stderr is not None  # noqa: S101 - a pipe was asked for
    for line in child.stderr:
        last.append(line)
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    code = child.wait()
    if code:
        (OPT_ML / "output/failure").write_bytes(b"".join(last).strip() or b"exit code %d" % code)
    return code if code >= 0 else 128 - code


def main(words: list[str]) -> int:
    """The script's exit code."""
    distributed = "--torchrun" in words
    directory, script = [word for word in words if word != "--torchrun"]
    config = OPT_ML / "input/config"
    given = json.loads((config / "hyperparameters.json").read_text())
    hyperparameters = {name: decoded(text) for name, text in given.items()}
    resources = json.loads((config / "resourceconfig.json").read_text())
    channels = json.loads((config / "inputdataconfig.json").read_text())
    channels.pop("code", None)
    gpus = count_gpus()
    requirements = Path(directory) / "requirements.txt"
    if requirements.exists():
        pip = [sys.executable, "-m", "pip", "install", "-r", str(requirements)]
        if code := run(pip, dict(os.environ)):
            return code
    command = [sys.executable, *(torchrun(resources, gpus) if distributed else ())]
    command += [str(Path(directory) / script), *arguments(hyperparameters)]
    told = variables(hyperparameters, resources, channels, directory, script, gpus)
    path = os.pathsep.join(filter(None, (directory, os.environ.get("PYTHONPATH"))))
    os.chdir(directory)
    return run(command, {**os.environ, **told, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
