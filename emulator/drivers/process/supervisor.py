"""Holds the instances of one job of the process runtime; run as a script, with its order as input.

It is to sandboxes what containerd's shim is to containers: their parent, which goes on when the
emulator ends. It starts them, writes each one's end into a file, and ends with the last one. What
the emulator wants of an instance it tells that one itself, by signals, and what an instance writes
goes into a file without a detour: this process holds no state that its files do not have.

The order is a JSON object:

    record      file for the process ids, written before the first instance starts and after
    told        what else is to be in that file, for the next emulator
    exits       file for the ends, a JSON line each: host, code (128 + signal), at (epoch seconds),
                lost (why the instance was lost, or ""), late (whether its time was up)
    instances   host, words, environment, output (a file), and for a sandbox arguments and filter
    descriptors those that only this process may have, such as the job's network
    ready       a descriptor: "ok", or why an instance could not be started
    lifeline    a descriptor whose end means that the instances end with the emulator, or null
    seconds     after which the instances are ended although nobody asked for it
    grace       seconds between SIGTERM and SIGKILL then
"""

from __future__ import annotations

# Every job waits for this: little is imported.
import json
import os
import select
import signal
import sys
import time

MYPY = False
if MYPY:  # `typing` takes as long to import as all of the above
    from typing import Any

SELF = "@supervisor@"
"""Stands for this process's id in words."""
WITH_EMULATOR = "it ended with the emulator"
_LOOK_SECONDS = 3600.0
"""A longer wait is several: poll() takes 24 days at most, and a job may run for 28."""
_AGAIN_SECONDS = 1.0
"""Between two tries to write down an end, where the disk is full."""
_NO_SANDBOX = "its sandbox could not be made"


class Child:
    """One instance: its direct child, and the first process inside."""

    def __init__(self, order: dict[str, Any]):
        self.host = order["host"]
        self.status: int | None = None
        self.first: int | None = None
        self.pid = self._start(order)
        self.pidfd = os.pidfd_open(self.pid)

    def _start(self, order: dict[str, Any]) -> int:
        words = [word.replace(SELF, str(os.getpid())) for word in order["words"]]
        kept = []
        options: list[str] = []
        if order["arguments"] is not None:
            # Through a file in memory: no limit on their length, and no credentials in `ps`.
            told = _in_memory(b"".join(os.fsencode(one) + b"\0" for one in order["arguments"]))
            self.status, status_end = os.pipe()
            kept = [told, status_end]
            options = ["--args", str(told), "--json-status-fd", str(status_end)]
            if order["filter"]:
                kept.append(_in_memory(bytes.fromhex(order["filter"])))
                options += ["--seccomp", str(kept[-1])]
            place = words.index("--options--")
            words[place : place + 1] = options
        output = os.open(order["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            return _spawn(words, order["environment"], output, kept)
        finally:
            for descriptor in (*kept, output):
                os.close(descriptor)

    def started(self) -> None:
        """Wait until there is a first process inside, or none will be."""
        if self.status is None:
            return
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self.status, 1)):
            line += byte
        try:
            self.first = json.loads(line)["child-pid"]
        except ValueError:
            return  # it has ended already

    def end(self, why: str, late: bool) -> dict[str, Any]:
        """Its end, which has come; `late` if its time was up, `why` if it was not to be."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        lost = ""
        if self.status is not None:
            # bubblewrap tells of an exit code only when the command had begun.
            told = b""
            while chunk := os.read(self.status, 65536):
                told += chunk
            lost = "" if b'"exit-code"' in told or why else _NO_SANDBOX
        code = code if code >= 0 else 128 - code
        lost = lost or why
        return {"host": self.host, "code": code, "at": time.time(), "lost": lost, "late": late}

    def signal(self, number: int) -> None:
        """To the first process; one without a sandbox passes on what ends it."""
        if self.status is None:
            number = signal.SIGUSR2 if number == signal.SIGKILL else number
            os.kill(self.pid, number)
            return
        try:
            os.kill(self.pid if self.first is None else self.first, number)
        except ProcessLookupError:
            return


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("order", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _spawn(words: list[str], environment: dict[str, str], output: int, kept: list[int]) -> int:
    """Raises OSError where the program cannot be started, ValueError for a NUL in a word."""
    failure, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.execve(words[0], words, environment)  # noqa: S606
        except BaseException as error:
            os.write(tell, str(error).encode())
        os._exit(127)
    os.close(tell)
    with os.fdopen(failure, "rb") as said:
        why = said.read().decode()
    if why:
        os.waitpid(pid, 0)
        raise OSError(why)
    return pid


def birth(pid: int) -> int:
    """When a process started, in clock ticks since the boot: with its id it names it for good."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[19])


def _identity(pid: int | None) -> list[int] | None:
    """None also for a process that has ended: only bubblewrap can wait for what it started."""
    try:
        return None if pid is None else [pid, birth(pid)]
    except OSError:
        return None


def _write_record(order: dict[str, Any], children: list[Child]) -> None:
    record = {
        **order["told"],
        "supervisor": [os.getpid(), birth(os.getpid())],
        "instances": {
            child.host: {
                "pid": [child.pid, birth(child.pid)],
                "first": _identity(child.first),
                "sandboxed": child.status is not None,
            }
            for child in children
        },
    }
    partial = order["record"] + ".new"
    with open(partial, "w") as file:
        json.dump(record, file)
    os.replace(partial, order["record"])


class Ends:
    """The file for the ends of the instances."""

    def __init__(self, path: str):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # With an empty line: what follows needs no new block of a disk that is full then.
        os.write(self._file, b"\n")
        self.unwritten = b""

    def add(self, end: dict[str, Any]) -> None:
        self.unwritten += json.dumps(end).encode() + b"\n"

    def write(self) -> None:
        """Write as much as the disk takes."""
        try:
            self.unwritten = self.unwritten[os.write(self._file, self.unwritten) :]
        except OSError:
            return  # it is tried again


def _tell(ready: int, said: str) -> None:
    try:
        os.write(ready, said.encode())
    except BrokenPipeError:
        return  # the emulator was killed; the next one finds the record
    os.close(ready)


def _start_all(order: dict[str, Any]) -> tuple[Ends, list[Child]]:
    children: list[Child] = []
    try:
        ends = Ends(order["exits"])
        _write_record(order, [])
        for instance in order["instances"]:
            children.append(Child(instance))
        for child in children:
            child.started()
        _write_record(order, children)
    except BaseException as error:
        for child in children:
            child.signal(signal.SIGKILL)
            os.waitpid(child.pid, 0)
        _tell(order["ready"], str(error) or repr(error))
        os._exit(1)
    _tell(order["ready"], "ok")
    return ends, children


def _watch(order: dict[str, Any], ends: Ends, children: list[Child]) -> None:
    running = {child.pidfd: child for child in children}
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    lifeline = order["lifeline"]
    if lifeline is not None:
        poll.register(lifeline, 0)  # its end alone
    # What to do when nobody has done anything in time.
    deadlines = [(time.monotonic() + order["seconds"], signal.SIGTERM)]
    deadlines.append((deadlines[0][0] + order["grace"], signal.SIGKILL))
    why, late = "", False
    while running or ends.unwritten:
        left = _AGAIN_SECONDS if ends.unwritten else _LOOK_SECONDS
        if deadlines:
            left = min(left, max(0.0, deadlines[0][0] - time.monotonic()))
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor == lifeline:
                poll.unregister(lifeline)
                why = WITH_EMULATOR
                for child in running.values():
                    child.signal(signal.SIGKILL)
                continue
            child = running.pop(descriptor)
            poll.unregister(descriptor)
            ends.add(child.end(why, late))
        ends.write()
        if deadlines and time.monotonic() >= deadlines[0][0]:
            _, number = deadlines.pop(0)
            late = True
            for child in running.values():
                child.signal(number)


def main() -> None:
    """Ends with the last instance."""
    order = json.load(sys.stdin)
    # Ctrl-C and a closed terminal are for the emulator.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    own = (*order["descriptors"], order["ready"], order["lifeline"])
    for descriptor in own:
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    _watch(order, *_start_all(order))


if __name__ == "__main__":
    main()
    os._exit(0)  # tidying up would only take time
