"""Can this machine make sandboxes for this user, and if not, what would change that?"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emulator.drivers.process.job_network import TRIES, address_of, make_network, mount_went
from emulator.drivers.process.sandbox import Features
from emulator.drivers.process.seccomp import open_filter
from emulator.drivers.scratch_files import remove_tree

_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)
"""Kernel settings that forbid user namespaces: name, forbidding value, allowing value."""


@dataclass(frozen=True)
class Verdict:
    """What came of trying."""

    features: Features | None
    """None when no sandbox can be made."""
    reason: str = ""
    remedy: str = ""
    shared_network: str = ""
    """Why jobs have to share this machine's network, when sandboxes can be made."""


def probe(bwrap: Path, directory: Path) -> Verdict:
    """Try a sandbox, a layer whose upper part lies in `directory`, and a job's own network.

    Takes about 0.1 s.
    """
    complaint = ""
    for user_namespace in (False, True) if os.geteuid() == 0 else (True,):
        complaint = _try(bwrap, user_namespace)
        if not complaint:
            no_interface = _network(bwrap, user_namespace, [address_of(1)])
            shared = no_interface and _network(bwrap, user_namespace)
            overlay = _overlay(bwrap, user_namespace, directory)
            features = Features(
                user_namespace,
                overlay,
                network=not shared,
                interface=not no_interface,
                seccomp=_filters(bwrap, user_namespace),
            )
            return Verdict(features, shared_network=shared)
    return Verdict(None, f"bubblewrap cannot make a sandbox here: {complaint}", remedy())


def remedy(proc_sys: Path = Path("/proc/sys")) -> str:
    """What a user can do where sandboxes are forbidden."""
    for name, forbidding, allowing in _SWITCHES:
        setting = proc_sys / name
        if setting.exists() and setting.read_text().strip() == forbidding:
            key = name.replace("/", ".")
            return f"Allow them with `sudo sysctl -w {key}={allowing}`, or use Docker."
    return (
        "Inside a container, start that one with `--security-opt seccomp=unconfined "
        "--security-opt systempaths=unconfined`; or use Docker for the training jobs."
    )


def _network(bwrap: Path, user_namespace: bool, addresses: Sequence[str] = ()) -> str:
    """ "" when a sandbox can be made inside a job's own network, else what stands against it."""
    try:
        network = make_network(bwrap, user_namespace, (), addresses)
    except OSError as error:
        return str(error)
    try:
        return _try(bwrap, user_namespace, entry=network.entry)
    finally:
        network.close()


def _filters(bwrap: Path, user_namespace: bool) -> bool:
    """Whether the kernel takes the filter of system calls."""
    with open_filter() as descriptor:
        if descriptor is None:
            return False
        number = str(descriptor)
        return not _try(bwrap, user_namespace, "--seccomp", number, pass_fds=(descriptor,))


def _try(
    bwrap: Path,
    user_namespace: bool,
    *more: str,
    entry: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> str:
    """ "" when a sandbox with these arguments runs, else bubblewrap's complaint."""
    for _ in range(TRIES):
        complaint = _try_once(bwrap, user_namespace, *more, entry=entry, pass_fds=pass_fds)
        if not mount_went(complaint):
            break
    return complaint


def _try_once(
    bwrap: Path,
    user_namespace: bool,
    *more: str,
    entry: Sequence[str],
    pass_fds: Sequence[int],
) -> str:
    arguments = ["--ro-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--proc", "/proc", "--dev", "/dev", *more]
    if user_namespace:
        arguments.append("--unshare-user")
    try:
        done = subprocess.run(
            [*entry, bwrap, *arguments, "--", "/bin/sh", "-c", ":"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            stdin=subprocess.DEVNULL,
            pass_fds=pass_fds,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _overlay(bwrap: Path, user_namespace: bool, directory: Path) -> Literal["disk", "memory", ""]:
    # The upper layer's file system decides: it must not be NFS or an overlay itself.
    scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=directory))
    try:
        upper, work = scratch / "upper", scratch / "work"
        upper.mkdir()
        work.mkdir()
        source = ("--overlay-src", "/usr")
        if not _try(bwrap, user_namespace, *source, "--overlay", str(upper), str(work), "/usr"):
            return "disk"
        return "" if _try(bwrap, user_namespace, *source, "--tmp-overlay", "/usr") else "memory"
    finally:
        remove_tree(scratch)
