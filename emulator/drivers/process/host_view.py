"""What a sandbox is not shown of this machine: the emulator's state, and users' credentials."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from emulator.drivers.process.environment import passed_on
from emulator.drivers.process.sandbox import View

_SYSTEM = (
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssl/private",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
)
_SSH_HOST_KEYS = "/etc/ssh/ssh_host_*_key"

_IN_HOME = (
    ".aws",
    ".azure",
    ".boto",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/rclone",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kaggle",
    ".kube",
    ".local/share/containers",
    ".local/share/keyrings",
    ".netrc",
    ".npmrc",
    ".oci",
    ".password-store",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".ssh",
)

# Container engines leave these as they are or as an empty file or directory (moby, oci/defaults).
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    # Mounts of the host, where a container has a directory without entries.
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)


def host_view(hide: Iterable[Path], show: Iterable[Path], user: Mapping[str, str]) -> View:
    """Look at what there is to hide now.

    `hide` and `show` come beside what is hidden anyway; `user` is the environment of the
    emulator's user. What a variable names that is passed on to jobs is shown (a CA bundle
    that lies in the state directory, for one).
    """
    hidden = sorted(set(_existing([*_credentials(user), *hide])))
    hidden = [path for path in hidden if not any(_below(path, other) for other in hidden)]
    shown = {str(path.absolute()) for path in show} | set(_named(passed_on(user), hidden))
    masked = [path for path in map(Path, _MASKED) if path.exists()]
    everything = [*hidden, *masked]
    return View(
        hidden_directories=tuple(str(path) for path in everything if path.is_dir()),
        hidden_files=tuple(str(path) for path in everything if not path.is_dir()),
        shown=tuple(sorted(shown)),
    )


def _credentials(user: Mapping[str, str]) -> Iterator[Path]:
    yield from map(Path, _SYSTEM)
    yield from Path("/").glob(_SSH_HOST_KEYS.lstrip("/"))
    for home in _homes(user):
        yield from (home / name for name in _IN_HOME)
    # A socket of an engine elsewhere than in /run, which a sandbox has for itself.
    engine = urlsplit(user.get("DOCKER_HOST", ""))
    if engine.scheme == "unix":
        yield Path(engine.path)


def _homes(user: Mapping[str, str]) -> Iterator[Path]:
    """Those whose files this user may read."""
    if home := user.get("HOME"):
        yield Path(home)
    with suppress(KeyError):  # a number without a name
        yield Path(pwd.getpwuid(os.geteuid()).pw_dir)
    if os.geteuid() == 0:
        with suppress(OSError):
            yield from sorted(Path("/home").iterdir())


def _existing(paths: Sequence[Path]) -> Iterator[Path]:
    """By their real names: a mount in a sandbox must not follow a link."""
    for path in paths:
        with suppress(OSError, RuntimeError):
            yield path.resolve(strict=True)


def _named(variables: Mapping[str, str], hidden: Sequence[Path]) -> Iterator[str]:
    for value in variables.values():
        for word in value.split(os.pathsep):
            if word.startswith("/") and any(_below(Path(word), path) for path in hidden):
                yield word


def _below(path: Path, other: Path) -> bool:
    return path != other and path.is_relative_to(other)
