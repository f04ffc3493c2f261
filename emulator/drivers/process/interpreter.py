"""The user's own Python environment, which the process runtime takes for an image."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.drivers.scratch_files import write_command
from emulator.model.errors import SetupError

# Asked of the interpreter itself, because it need not be the one that runs the emulator.
_QUESTION = """
import importlib.metadata, importlib.util, json, os, site, sys, sysconfig
packages = os.stat(sysconfig.get_path("purelib"))
try:
    torch = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    torch = None
print(json.dumps({
    "executable": sys.executable,
    "base_executable": getattr(sys, "_base_executable", sys.executable),
    "version": sys.version.split()[0],
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "scripts": sysconfig.get_path("scripts"),
    "path": [p for p in sys.path if p],
    "sites": site.getsitepackages() + ([site.USER_SITE] if site.ENABLE_USER_SITE else []),
    "writable": os.access(sysconfig.get_path("purelib"), os.W_OK),
    "own": (packages.st_uid, packages.st_gid) == (os.geteuid(), os.getegid()),
    "torch": torch,
    "modules": [m for m in ("mpi4py", "paramiko", "pip", "sagemaker_inference",
                            "sagemaker_pytorch_container", "sagemaker_pytorch_serving_container",
                            "sagemaker_training", "torch") if importlib.util.find_spec(m)],
}))
"""

_COMMANDS = {
    "pip": ("pip", "pip"),
    "pip3": ("pip", "pip"),
    "torchrun": ("torch", "torch.distributed.run"),
    "train": ("sagemaker_training", "sagemaker_training.cli.train"),
}
"""Command → the module it needs, the module that does it."""


@dataclass(frozen=True)
class Interpreter:
    """What a Python interpreter says of itself."""

    executable: str
    base_executable: str
    """The installed Python that a virtual environment was made from."""
    version: str
    prefix: str
    base_prefix: str
    scripts: str
    """Where its console scripts lie."""
    path: tuple[str, ...]
    """sys.path"""
    sites: tuple[str, ...]
    """Directories with packages and .pth files."""
    writable: bool
    """Whether this user may install into it."""
    own: bool
    """Whether its packages are of this user and this group."""
    modules: frozenset[str]
    """Those of pip, torch, mpi4py, paramiko and the toolkit's packages that it has."""
    torch: str | None = None
    """The version of PyTorch that it has."""

    @property
    def has_toolkit(self) -> bool:
        """Whether `train` and the PyTorch entry behind it are installed."""
        return {"sagemaker_training", "sagemaker_pytorch_container"} <= self.modules

    @property
    def roots(self) -> tuple[str, ...]:
        """Every directory outside its prefix that it reads code from, parents first."""
        outside = {self.base_prefix, *self.path, *self.sites} - {self.prefix}
        return tuple(sorted(p for p in outside if not p.startswith(f"{self.prefix}/")))

    def missing_commands(self) -> Mapping[str, str]:
        """Command → shell script, for what its `bin` lacks but its modules can do.

        An environment made by uv, or on top of another one, has only some of them.
        """
        present = Path(self.scripts)
        commands = self._commands(self.executable)
        return {name: text for name, text in commands.items() if not (present / name).exists()}

    def _commands(self, python: str) -> dict[str, str]:
        run = f"#!/bin/sh\nexec {shlex.quote(python)}"
        plain = dict.fromkeys(("python", "python3"), f'{run} "$@"\n')
        modules = {
            name: f'{run} -m {module} "$@"\n'
            for name, (needed, module) in _COMMANDS.items()
            if needed in self.modules
        }
        return {**plain, **modules}

    def make_layer(self, root: Path, seen_as: str) -> None:
        """A virtual environment in `root` that adds to this one and never changes it.

        `seen_as` is the path the job finds it at. pip installs into the layer, takes
        what the environment has as given, and leaves that alone on an upgrade.
        """
        major_minor = ".".join(self.version.split(".")[:2])
        packages = root / "lib" / f"python{major_minor}" / "site-packages"
        packages.mkdir(parents=True)
        # addsitedir and not the bare path: it heeds the .pth files of editable installs.
        added = "".join(f"import site; site.addsitedir({site!r})\n" for site in self.sites)
        (packages / "environment.pth").write_text(added)
        home = Path(self.base_executable).parent
        (root / "pyvenv.cfg").write_text(f"home = {home}\nversion = {self.version}\n")
        commands = root / "bin"
        commands.mkdir()
        for name, text in self._commands(f"{seen_as}/bin/python").items():
            if name in ("python", "python3"):
                (commands / name).symlink_to(self.base_executable)
            else:
                write_command(commands / name, text)


def inspect_interpreter(python: Path) -> Interpreter:
    """Ask the interpreter; raises SetupError when it does not answer."""
    try:
        answer = subprocess.run(
            [str(python), "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=True
        )
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        stderr = getattr(error, "stderr", None) or str(error)
        raise SetupError(
            f"{python} is not a Python interpreter that works: {stderr.strip()[-300:]}.",
            "Set EMULATOR_PYTHON to the interpreter of your training environment.",
        ) from error
    facts.update(
        path=tuple(facts["path"]), sites=tuple(facts["sites"]), modules=frozenset(facts["modules"])
    )
    return Interpreter(**facts)
