"""An instance's plan → the arguments of bubblewrap that make its sandbox. Pure.

The root is an empty tmpfs on which everything of the host appears read-only, one
top-level entry at a time, so that directories such as /opt/ml can be made in it without
the right to write to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from emulator.drivers.process.interpreter import Interpreter
from emulator.model.plan import InstancePlan

PRIVATE = "/instance"
"""Inside: the runtime's own directory, with HOME and the commands the interpreter lacks."""

HOME = f"{PRIVATE}/home"
COMMANDS = f"{PRIVATE}/bin"
LAYER = f"{PRIVATE}/environment"

_VAR_TMP = "/var/tmp"  # noqa: S108
_OWN = frozenset({"/proc", "/dev", "/run", "/tmp", _VAR_TMP, PRIVATE, "/opt/ml"})  # noqa: S108
"""Never the host's: each instance has its own."""

_LIB = "/lib"
_RUN = (
    "/run/NetworkManager/resolv.conf",
    "/run/booted-system",
    "/run/connman/resolv.conf",
    "/run/current-system",
    "/run/nvidia-fabricmanager",
    "/run/nvidia-persistenced",
    "/run/opengl-driver",
    "/run/resolvconf",
    "/run/systemd/resolve",
)
"""What links in /etc, a driver and NixOS need of the host's /run. The rest of it are sockets of
services, of which a container engine's would give a job the whole machine."""

_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What of /proc concerns the whole machine, as container engines have it (moby, oci/defaults)."""

# Docker's default list but for AUDIT_WRITE and MKNOD, which nothing here could use.
_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


@dataclass(frozen=True)
class Features:
    """What this machine lets a sandbox have; found out by `probe`."""

    user_namespace: bool
    """False for root, whose sandbox needs none and keeps root's rights over files."""
    overlay: Literal["disk", "memory", ""]
    """Where the layer lies that keeps what a job installs apart from the environment."""
    network: bool = False
    """Whether a job can have a network of its own."""
    interface: bool = False
    """Whether that can have an eth0, as on the service, beside its loopback interface."""
    seccomp: bool = False
    """Whether system calls can be filtered."""


@dataclass(frozen=True)
class Entry:
    """One name in a directory of the host."""

    path: str
    link: str | None = None
    """Where it points to, when it is a symbolic link."""


@dataclass(frozen=True)
class View:
    """What of the host's file system a sandbox is not shown; real paths that exist."""

    hidden_directories: tuple[str, ...] = ()
    hidden_files: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    """What of that, or of /run and /tmp, is shown nevertheless."""

    def only(self, places: Iterable[str]) -> View:
        """Hides what lies in or below these places, and nothing else."""
        return self._of(lambda path: _is_in(path, places))

    def without(self, places: Iterable[str]) -> View:
        """Hides nothing that lies in or below these places."""
        return self._of(lambda path: not _is_in(path, places))

    def _of(self, condition: Callable[[str], bool]) -> View:
        return View(
            tuple(filter(condition, self.hidden_directories)),
            tuple(filter(condition, self.hidden_files)),
            self.shown,
        )


class HostTree(Protocol):
    """The part of the host's file system that matters here."""

    def entries(self, directory: str) -> Sequence[Entry]:
        """What lies directly in a directory; empty when it cannot be read."""
        ...

    def exists(self, path: str) -> bool: ...


@dataclass(frozen=True)
class Scratch:
    """What the runtime keeps for one instance below its plan's `scratch`."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def commands(self) -> Path:
        return self.root / "bin"

    @property
    def layer(self) -> Path:
        """What pip installs where the environment itself cannot be overlaid."""
        return self.root / "environment"

    @property
    def ml(self) -> Path:
        """/opt/ml outside the mounts: the toolkit unpacks the script into /opt/ml/code."""
        return self.root / "ml"

    @property
    def var_tmp(self) -> Path:
        return self.root / "var-tmp"

    @property
    def hosts(self) -> Path:
        return self.root / "hosts"

    @property
    def environment_file(self) -> Path:
        """/etc/environment, which launchers write."""
        return self.root / "etc-environment"

    @property
    def sbin(self) -> Path:
        """What is added to /usr/sbin."""
        return self.root / "sbin"

    @property
    def output(self) -> Path:
        """What the instance has written to stdout and stderr."""
        return self.root / "output"

    @property
    def upper(self) -> Path:
        return self.root / "overlay" / "upper"

    @property
    def work(self) -> Path:
        return self.root / "overlay" / "work"

    @property
    def directories(self) -> tuple[Path, ...]:
        own = (self.home, self.commands, self.layer, self.ml, self.sbin, self.var_tmp)
        return (*own, self.upper, self.work)


def sandbox_arguments(
    plan: InstancePlan,
    interpreter: Interpreter,
    features: Features,
    tree: HostTree,
    devices: Iterable[str],
    environment: Mapping[str, str],
    network: bool,
    view: View = View(),
    launchers: Iterable[str] = (),
) -> tuple[str, ...]:
    """Everything bubblewrap is told but the command itself; `launchers` are mounts of theirs."""
    own = (*(_OWN - {"/proc"}), *(mount.target for mount in plan.mounts))
    view = view.without(own)
    # An overlay shows again what lies below it.
    above, below = view.without([interpreter.prefix]), view.only([interpreter.prefix])
    return (
        *_namespaces(plan.host, features, network),
        *_host_view(tree, (*_places_to_make(plan, tree), *([_LIB] if plan.serves else ()))),
        *(_own_lib(tree) if plan.serves else ()),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"),  # noqa: S108
        *(word for device in devices for word in ("--dev-bind-try", device, device)),
        *_read_only(_READ_ONLY),
        *_private_directories(Scratch(plan.scratch)),
        *_hidden(above),
        *_read_only((*_RUN, *view.shown)),
        *_mounts(plan),
        *_python(interpreter, features, Scratch(plan.scratch), view),
        *_hidden(below),
        *launchers,
        # Last: until here, mounts may be made below them.
        *(word for path in view.hidden_directories for word in ("--remount-ro", path)),
        *("--chdir", "/", "--clearenv"),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
    )


def _namespaces(host: str, features: Features, network: bool) -> Iterator[str]:
    # --as-pid-1: SIGTERM has to reach the command as a container's first process, and
    # --die-with-parent: nothing outlives an emulator that was killed.
    yield from ("--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-ipc")
    yield from ("--unshare-uts", "--hostname", host)
    if not network:
        yield "--unshare-net"
    if features.user_namespace:
        yield "--unshare-user"
    else:
        yield from ("--cap-drop", "ALL")
        yield from (word for name in _CAPABILITIES for word in ("--cap-add", name))


def bounding_set(features: Features, setpriv: str | None) -> tuple[str, ...]:
    """What comes before a sandbox's command so that its capabilities are all it could ever have.

    bubblewrap leaves the bounding set whole. In a user namespace nothing can be gained from it:
    no program gains rights (PR_SET_NO_NEW_PRIVS), and no namespace can be made.
    """
    if features.user_namespace or setpriv is None:
        return ()
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in _CAPABILITIES)
    return (setpriv, f"--bounding-set=-all,{kept}", "--")


def _places_to_make(plan: InstancePlan, tree: HostTree) -> tuple[str, ...]:
    """Mount points that the host does not have: nothing read-only may lie above them."""
    targets = [
        "/opt/ml",
        "/etc/environment",
        "/etc/hosts",
        _VAR_TMP,
        *(mount.target for mount in plan.mounts),
    ]
    return tuple(t for t in targets if t == "/opt/ml" or not tree.exists(t))


def _host_view(tree: HostTree, places: Sequence[str], directory: str = "/") -> Iterator[str]:
    for entry in tree.entries(directory):
        if entry.path in _OWN or entry.path in places:
            continue
        if entry.link is not None:
            yield from ("--symlink", entry.link, entry.path)
        elif any(place.startswith(f"{entry.path}/") for place in places):
            yield from ("--dir", entry.path)
            yield from _host_view(tree, places, entry.path)
        else:
            yield from ("--ro-bind-try", entry.path, entry.path)


def _own_lib(tree: HostTree) -> Iterator[str]:
    """A /lib to which files can be added, where the host's is a link, as it is today.

    The inference.py of models of SDK v3 copies the model's shared libraries there.
    """
    for entry in tree.entries("/"):
        if entry.path != _LIB:
            continue
        if entry.link is None:
            yield from ("--ro-bind-try", _LIB, _LIB)
            return
        yield from ("--perms", "0755", "--dir", _LIB)
        target = PurePosixPath("/") / entry.link
        for library in tree.entries(_LIB):
            name = PurePosixPath(library.path).name
            yield from ("--symlink", str(target / name), library.path)


def _private_directories(scratch: Scratch) -> Iterator[str]:
    yield from ("--perms", "0755", "--tmpfs", "/run")
    yield from ("--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108
    yield from ("--bind", str(scratch.var_tmp), _VAR_TMP)
    yield from ("--bind", str(scratch.ml), "/opt/ml")
    yield from ("--ro-bind", str(scratch.hosts), "/etc/hosts")
    yield from ("--bind", str(scratch.home), HOME)
    yield from ("--bind", str(scratch.layer), LAYER)
    yield from ("--ro-bind", str(scratch.commands), COMMANDS)


def _hidden(view: View) -> Iterator[str]:
    for path in view.hidden_directories:
        yield from ("--perms", "0755", "--tmpfs", path)
    for path in view.hidden_files:
        # Devices do not work in such a mount: whoever opens it is refused.
        yield from ("--ro-bind", "/dev/null", path)


def _read_only(paths: Iterable[str]) -> Iterator[str]:
    return (word for path in paths for word in ("--ro-bind-try", path, path))


def _mounts(plan: InstancePlan) -> Iterator[str]:
    # A mount below another one has to come after it.
    for mount in sorted(plan.mounts, key=lambda mount: len(PurePosixPath(mount.target).parts)):
        if mount.layer:
            yield from ("--overlay-src", str(mount.source))
            yield from ("--overlay", str(mount.upper), str(mount.work), mount.target)
            continue
        yield from ("--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target)


def _python(
    interpreter: Interpreter, features: Features, scratch: Scratch, view: View
) -> Iterator[str]:
    """The interpreter's directories, also where the sandbox's own /tmp has hidden them."""
    covered = (*_OWN, *view.hidden_directories)
    yield from _read_only(root for root in interpreter.roots if _is_below(root, covered))
    prefix = interpreter.prefix
    if installs_above(interpreter, features):
        layer = ("--overlay", str(scratch.upper), str(scratch.work))
        yield from ("--overlay-src", prefix)
        yield from (*(layer if features.overlay == "disk" else ("--tmp-overlay",)), prefix)
    elif _is_below(prefix, covered):
        yield from ("--ro-bind", prefix, prefix)


def installs_above(interpreter: Interpreter, features: Features) -> bool:
    """Whether an overlay lets pip install into the environment itself, as in an image.

    An overlay keeps owners: what is root's stays root's, and inside a user namespace
    nothing can be changed whose owner or group has no number there (EOVERFLOW).
    """
    known = interpreter.own or not features.user_namespace
    return bool(features.overlay) and interpreter.writable and known


def _is_in(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def _is_below(path: str, directories: Iterable[str]) -> bool:
    return any(path.startswith(f"{directory}/") for directory in directories)
