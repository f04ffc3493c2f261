"""Instances as the emulator follows them, with real processes and no sandbox."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.drivers.process import fleet as process_fleet
from emulator.drivers.process.fleet import ProcessFleet
from emulator.drivers.process.instances import bare, sandboxed, start_supervisor
from emulator.drivers.process.records import Records, end_all, remove_remains
from emulator.drivers.process.sandbox import Scratch
from emulator.model.plan import Exit

ARN = "arn:job"
SECONDS = 60.0


class Place:
    """Where the instances of one job have their files."""

    def __init__(self, root: Path):
        self.root = root
        self.records = Records(root / "records")
        self.output: dict[str, bytes] = {}
        self.let_go = 0
        self.lifelines: list[Callable[[], None]] = []
        self.fleets: list[ProcessFleet] = []

    def start(self, *commands: list[str], outlives: bool = True, seconds: float = 600) -> None:
        hosts = [f"algo-{number}" for number in range(1, len(commands) + 1)]
        for host in hosts:
            (self.root / host).mkdir(exist_ok=True)
        order = {
            "record": str(self.records.place(ARN)),
            "told": {
                "arn": ARN,
                "scratches": {host: str(self.root / host) for host in hosts},
                "shared": [],
                "network": None,
            },
            "exits": str(self.records.exits(ARN)),
            "instances": [
                {
                    "host": host,
                    "output": str(Scratch(self.root / host).output),
                    **bare(command, {"PATH": os.environ["PATH"]}),
                }
                for host, command in zip(hosts, commands, strict=True)
            ],
            "descriptors": (),
            "seconds": seconds,
            "grace": 0.2,
        }
        self.lifelines.append(start_supervisor(order, outlives).let_go)

    def follow(self, sink: Any = None, received: dict[str, int] | None = None) -> ProcessFleet:
        record = self.records.find(ARN)
        assert record

        def collect(host: str, chunk: bytes) -> None:
            self.output[host] = self.output.get(host, b"") + chunk

        def let_go() -> None:
            self.let_go += 1

        def remove() -> None:
            remove_remains(record)
            self.records.forget(ARN)

        exits = self.records.exits(ARN)
        self.fleets.append(ProcessFleet(record, exits, sink or collect, let_go, remove, received))
        return self.fleets[-1]

    def supervisor(self) -> int:
        record = self.records.find(ARN)
        assert record
        return record.supervisor[0]

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for fleet in made.fleets:
        fleet.close()
    if record := made.records.find(ARN):
        end_all(record)
    for lifeline in made.lifelines:
        lifeline()


def code(end: Exit | None) -> tuple[str, int, str]:
    assert end
    return end.host, end.code, end.lost


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_output_and_ends_come_once_and_nothing_is_left(place: Place) -> None:
    place.start(["/bin/sh", "-c", "echo one; exit 3"], ["/bin/sh", "-c", "echo two"])
    fleet = place.follow()
    ends = {code(fleet.next_exit(SECONDS)) for _ in range(2)}
    assert ends == {("algo-1", 3, ""), ("algo-2", 0, "")}
    assert place.output == {"algo-1": b"one\n", "algo-2": b"two\n"}
    assert fleet.next_exit(0) is None
    fleet.close()
    assert place.let_go == 1
    assert place.records.find(ARN) is None
    assert not Scratch(place.root / "algo-1").output.exists()


def test_the_next_one_goes_on_where_the_last_one_left(place: Place) -> None:
    go = place.root / "go"
    script = f"echo before; while [ ! -e {go} ]; do sleep 0.01; done; echo after; exit 5"
    place.start(["/bin/sh", "-c", script])
    first = place.follow()
    place.until(lambda: place.output.get("algo-1") == b"before\n")
    first.leave()
    assert runs(place.supervisor())
    second = place.follow(received={"algo-1": len(b"before\n")})
    go.touch()
    assert code(second.next_exit(SECONDS)) == ("algo-1", 5, "")
    assert place.output["algo-1"] == b"before\nafter\n"


def test_what_ended_while_nobody_followed_is_told(place: Place) -> None:
    place.start(["/bin/sh", "-c", "echo alone; exit 7"])
    supervisor = place.supervisor()
    place.until(lambda: not runs(supervisor))
    before = time.time()
    end = place.follow().next_exit(SECONDS)
    assert code(end) == ("algo-1", 7, "")
    assert end
    assert end.at <= before
    assert place.output["algo-1"] == b"alone\n"


def test_a_supervisor_that_is_killed_loses_its_instances(place: Place) -> None:
    place.start(["/bin/sleep", "600"], ["/bin/sleep", "600"])
    record = place.records.find(ARN)
    assert record
    fleet = place.follow()
    os.kill(place.supervisor(), signal.SIGKILL)
    ends = [fleet.next_exit(SECONDS) for _ in range(2)]
    assert {end.host for end in ends if end} == {"algo-1", "algo-2"}
    assert all("supervised" in end.lost for end in ends if end)
    place.until(lambda: not any(runs(one["pid"][0]) for one in record.instances.values()))


def test_instances_end_with_an_emulator_that_they_do_not_outlive(place: Place) -> None:
    place.start(["/bin/sleep", "600"], outlives=False)
    supervisor = place.supervisor()
    place.lifelines.pop()()  # as the kernel closes it when the emulator is killed
    place.until(lambda: not runs(supervisor))


def test_they_end_by_themselves_when_nobody_ends_them_in_time(place: Place) -> None:
    place.start(["/bin/sh", "-c", "trap '' TERM; while true; do sleep 0.01; done"], seconds=3)
    supervisor = place.supervisor()
    fleet = place.follow()
    place.until(lambda: not runs(supervisor))
    # It is told to who asks for it: that its time was up is not how it failed.
    assert fleet.next_exit(0.1) is None
    fleet.terminate()
    assert code(fleet.next_exit(SECONDS)) == ("algo-1", 137, "")


def test_a_job_may_run_for_more_days_than_poll_can_wait(place: Place) -> None:
    place.start(["/bin/sh", "-c", "exit 4"], seconds=28 * 86_400)
    assert code(place.follow().next_exit(SECONDS)) == ("algo-1", 4, "")


def test_an_end_is_written_down_once_the_disk_takes_it(place: Place) -> None:
    go = place.root / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.01; done; exit 6"
    place.start(["/bin/sh", "-c", script], ["/bin/sh", "-c", script])
    supervisor, record = place.supervisor(), place.records.find(ARN)
    assert record
    exits = place.records.exits(ARN)
    # No file may grow: 10 bytes more are a part of a line.
    full = (exits.stat().st_size + 10, resource.RLIM_INFINITY)
    usual = resource.prlimit(supervisor, resource.RLIMIT_FSIZE, full)
    go.touch()
    place.until(lambda: not any(runs(one["pid"][0]) for one in record.instances.values()))
    place.until(lambda: exits.stat().st_size == full[0])
    fleet = place.follow()
    assert fleet.next_exit(0.1) is None
    assert runs(supervisor)
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, usual)
    ends = {code(fleet.next_exit(SECONDS)) for _ in range(2)}
    assert ends == {("algo-1", 6, ""), ("algo-2", 6, "")}


def test_a_full_disk_keeps_no_job_from_being_put_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_fleet, "_END_SECONDS", 0.1)
    place.start(["/bin/sleep", "600"])
    supervisor, fleet = place.supervisor(), place.follow()
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    fleet.close()
    assert not runs(supervisor)


def test_an_end_needs_no_new_block_of_the_disk(place: Place) -> None:
    place.start(["/bin/sleep", "600"])
    assert place.records.exits(ARN).stat().st_size > 0


def test_instances_go_on_when_the_emulator_is_killed_while_they_start(place: Place) -> None:
    # Nobody reads any more that they have started.
    emulator = os.fork()
    if emulator == 0:
        read = os.read

        def killed(descriptor: int, size: int) -> bytes:
            os._exit(0)

        os.read = killed
        place.start(["/bin/sh", "-c", "sleep 0.5; exit 8"])
        os._exit(int(read is None))
    os.waitpid(emulator, 0)
    place.until(lambda: (record := place.records.find(ARN)) is not None and any(record.instances))
    assert code(place.follow().next_exit(SECONDS)) == ("algo-1", 8, "")


def test_what_a_bare_command_has_started_ends_with_it(place: Place) -> None:
    started = place.root / "started"
    place.start(["/bin/sh", "-c", f"setsid sleep 600 & echo $! > {started}; wait"])
    place.until(lambda: started.exists() and bool(started.read_text()))
    record = place.records.find(ARN)
    assert record
    end_all(record)
    assert not runs(int(started.read_text()))


def test_signals_reach_one_or_all(place: Place) -> None:
    ready = "trap 'exit 9' TERM; echo ready; while true; do sleep 0.01; done"
    place.start(["/bin/sh", "-c", ready], ["/bin/sh", "-c", ready])
    fleet = place.follow()
    place.until(lambda: [*place.output.values()] == [b"ready\n"] * 2)
    fleet.kill("algo-2")
    assert code(fleet.next_exit(SECONDS)) == ("algo-2", 137, "")
    fleet.terminate()
    assert code(fleet.next_exit(SECONDS)) == ("algo-1", 9, "")


def test_a_program_that_cannot_be_started_is_told_and_leaves_nothing(place: Place) -> None:
    with pytest.raises(OSError, match="embedded null byte"):
        place.start(["/bin/sleep", "600"], ["/bin/echo", "a\0b"])
    record = place.records.find(ARN)
    assert record
    assert not runs(record.supervisor[0])


def test_a_sink_that_fails_costs_no_end(place: Place) -> None:
    def broken(host: str, chunk: bytes) -> None:
        raise RuntimeError("a bug")

    place.start(["/bin/sh", "-c", "echo one"])
    assert code(place.follow(broken).next_exit(SECONDS)) == ("algo-1", 0, "")


def test_a_fleet_that_cannot_go_on_owes_each_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ProcessFleet, "_read_exits", broken)
    place.start(["/bin/sleep", "600"])
    end = place.follow().next_exit(SECONDS)
    assert end
    assert (end.host, end.code) == ("algo-1", 137)
    assert end.lost


def test_the_supervisor_knows_nothing_of_the_user_but_where_libraries_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/python/lib")
    place.start(["/bin/sleep", "600"])
    environment = Path(f"/proc/{place.supervisor()}/environ").read_bytes()
    assert environment == b"LD_LIBRARY_PATH=/opt/python/lib\0"


def test_a_word_with_a_nul_becomes_no_option_of_the_sandbox() -> None:
    with pytest.raises(ValueError, match="NUL"):
        sandboxed(Path("/bin/true"), ["--setenv", "A", "1\0--bind\0/\0/host"], ["true"])


def test_the_supervisor_imports_little() -> None:
    script = Path(sys.modules["emulator.drivers.process.supervisor"].__file__ or "")
    imported = {
        line.split()[1] for line in script.read_text().splitlines() if line.startswith("import ")
    }
    assert imported == {"json", "os", "select", "signal", "sys", "time"}
