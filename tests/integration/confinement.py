"""What a process can see and do where it runs: the same questions in a sandbox and a container."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.seccomp import ARCHITECTURES
from emulator.model.plan import InstancePlan, JobPlan

_PROBE = """
import ctypes, json, os, re, stat, sys
paths, calls = json.loads(sys.argv[1]), json.loads(sys.argv[2])
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())

def below(directory, depth):
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if directory == "/proc" and re.fullmatch("[0-9]+|self|thread-self|net|mounts", entry.name):
            continue
        yield entry
        if depth and entry.is_dir(follow_symlinks=False):
            yield from below(entry.path, depth - 1)

def devices():
    for entry in below("/dev", 2):
        mode = entry.stat(follow_symlinks=False).st_mode
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not entry.path.startswith("/dev/pts/"):
            yield entry.path

def has_content(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))
    except OSError:
        return False

libc = ctypes.CDLL(None, use_errno=True)
def refused(number):
    return libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() in (1, 38)

print(json.dumps({
    "capabilities": {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")},
    "no_new_privileges": int(status["NoNewPrivs"]),
    "devices": sorted(devices()),
    "writable": sorted(
        entry.path
        for top in ("/proc", "/sys")
        for entry in below(top, 3)
        if not entry.is_symlink() and os.access(entry.path, os.W_OK, effective_ids=True)
    ),
    "with_content": [path for path in paths if has_content(path)],
    "refused": [name for name, number in calls.items() if refused(number)],
}))
"""

MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware")
SECRETS = ("state/emulator.sqlite3", "home/.aws/credentials", "home/.ssh/id_rsa", "home/.netrc")
SHOWN = ("home/.aws/shown", "home/.config/pip/pip.conf", "beside")


def probe_command(python: str, *paths: str) -> list[str]:
    """Asks all questions, and whether the files at `paths` can be read."""
    calls = dict(ARCHITECTURES[platform.machine()].calls)
    for name in ("clone", "socket"):  # those depend on what they are given
        del calls[name]
    return [python, "-c", _PROBE, json.dumps(paths), json.dumps(calls)]


def in_sandbox(place: Path) -> dict[str, Any]:
    """What a sandbox of this user answers; `place` is an empty directory that no sandbox hides."""
    for name in (*SECRETS, *SHOWN):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("content")
    runtime = ProcessRuntime(
        Path(sys.executable),
        "http://127.0.0.1:4570",
        place / "state",
        {"HOME": str(place / "home")},
        show=[place / "home/.aws/shown"],
    )
    paths = ("/etc/shadow", *MASKED, *(str(place / name) for name in (*SECRETS, *SHOWN)))
    instance = InstancePlan(
        host="algo-1",
        image=None,
        entrypoint=tuple(probe_command(sys.executable, *paths)),
        arguments=(),
        environment={},
        mounts=(),
        scratch=place / "state" / "scratch",
    )
    output = bytearray()
    fleet = runtime.launch(JobPlan("j", "arn", (instance,)), lambda _, chunk: output.extend(chunk))
    try:
        end = fleet.next_exit(120)
    finally:
        fleet.close()
    if end is None or end.code:
        raise RuntimeError(f"{end}: {output.decode()}")
    answers: dict[str, Any] = json.loads(output)
    return answers
