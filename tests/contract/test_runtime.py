"""What every runtime has to do, whatever it runs instances in."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from runtime_harness import PATIENCE, Launch

from emulator.drivers.base import Runtime
from emulator.model.errors import ClientError
from emulator.model.plan import Mount

SHELL_LOOP = "while :; do sleep 0.05; done"


def test_output_is_complete_and_in_order(launch: Launch) -> None:
    run = launch("for i in $(seq 2000); do echo out $i; echo err $i >&2; done")
    assert run.exits()[0].code == 0
    assert run.output.text() == "".join(f"out {i}\nerr {i}\n" for i in range(1, 2001))


def test_a_burst_of_20_mb_arrives_whole(launch: Launch) -> None:
    run = launch("head -c 20000000 /dev/zero | tr '\\0' x")
    run.exits()
    assert run.output.data["algo-1"] == b"x" * 20_000_000


def test_bytes_arrive_as_they_were_written(launch: Launch) -> None:
    run = launch("printf '\\377\\000\\001'; printf 'h\\303\\251 \\360\\237\\214\\215\\n'")
    run.exits()
    assert run.output.data["algo-1"] == b"\xff\x00\x01" + "hé 🌍\n".encode()


def test_output_is_handed_over_before_the_exit_is(launch: Launch) -> None:
    chunks: list[bytes] = []
    gate = threading.Event()

    def slowly(host: str, chunk: bytes) -> None:
        gate.wait(10)
        chunks.append(chunk)

    run = launch("echo done", on_output=slowly)
    assert run.fleet.next_exit(0.3) is None
    gate.set()
    run.exits()
    assert b"".join(chunks) == b"done\n"


def test_a_background_process_holds_nothing_up(launch: Launch) -> None:
    run = launch("sleep 300 & echo left one behind; exit 4")
    assert run.exits()[0].code == 4
    assert run.output.text() == "left one behind\n"


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_the_exit_code_is_the_commands_own(launch: Launch, code: int) -> None:
    before = time.time()
    end = launch(f"exit {code}").exits()[0]
    assert (end.host, end.code, end.lost) == ("algo-1", code, "")
    assert before <= end.at <= time.time()


@pytest.mark.parametrize("signal", [9, 11, 15])
def test_a_death_by_signal_is_128_and_its_number(launch: Launch, signal: int) -> None:
    # A first process cannot kill itself, so a shell reports on its child's death.
    assert launch(f"sh -c 'kill -{signal} $$'; exit $?").exits()[0].code == 128 + signal


def test_a_command_that_is_not_there_is_127(launch: Launch) -> None:
    end = launch("x", entrypoint=("no-such-command",)).exits()[0]
    assert (end.code, end.lost) == (127, "")


def test_entrypoint_and_arguments_reach_the_command_word_by_word(launch: Launch) -> None:
    run = launch("a b\n$c", entrypoint=("python", "-c", "import sys; print(sys.argv[1:])"))
    run.exits()
    assert run.output.text() == "['a b\\n$c']\n"


def test_the_first_to_end_is_told_first_and_each_one_once(launch: Launch) -> None:
    # Each waits for the next one, however long their starts take, and then a while for its end.
    met = launch("true").directory("/opt/ml/model")
    await_ = "until [ -e /met/{} ]; do sleep 0.02; done; sleep 1; "
    run = launch(
        await_.format(2) + "exit 1",
        await_.format(3) + "touch /met/2; exit 2",
        "touch /met/3; exit 3",
        mounts=[Mount(met, "/met")],
    )
    assert [(end.host, end.code) for end in run.exits()] == [
        ("algo-3", 3),
        ("algo-2", 2),
        ("algo-1", 1),
    ]
    assert run.fleet.next_exit(0.05) is None


def test_waiting_ends_with_its_time(launch: Launch) -> None:
    run = launch("sleep 300")
    started = time.monotonic()
    assert run.fleet.next_exit(0.2) is None
    assert 0.15 < time.monotonic() - started < 30


def test_terminate_runs_the_scripts_handler(launch: Launch) -> None:
    run = launch(f"trap 'echo saving; exit 7' TERM; echo ready; {SHELL_LOOP}")
    run.await_text("ready")
    run.fleet.terminate()
    assert run.exits()[0].code == 7
    assert run.output.text() == "ready\nsaving\n"


def test_terminate_is_ignored_without_a_handler_and_kill_is_not(launch: Launch) -> None:
    run = launch(f"echo ready; {SHELL_LOOP}")
    run.await_text("ready")
    run.fleet.terminate()
    assert run.fleet.next_exit(0.5) is None
    run.fleet.kill()
    assert run.exits()[0].code == 137


def test_terminate_and_kill_leave_ended_instances_alone(launch: Launch) -> None:
    run = launch("exit 0", f"echo ready; {SHELL_LOOP}")
    run.await_text("ready", "algo-2")
    assert run.exits(1)[0].host == "algo-1"
    run.fleet.terminate()
    run.fleet.kill()
    assert [(end.host, end.code) for end in run.exits(1)] == [("algo-2", 137)]


def test_one_instance_can_be_killed_alone(launch: Launch) -> None:
    run = launch(f"echo ready; {SHELL_LOOP}", f"echo ready; {SHELL_LOOP}")
    for host in ("algo-1", "algo-2"):
        run.await_text("ready", host)
    run.fleet.kill("algo-2")
    assert [(end.host, end.code) for end in run.exits(1)] == [("algo-2", 137)]
    assert run.fleet.next_exit(0.3) is None
    run.fleet.kill()
    assert [(end.host, end.code) for end in run.exits(1)] == [("algo-1", 137)]


def test_instances_find_each_other_by_name(launch: Launch) -> None:
    run = launch(*["hostname; getent hosts algo-1 algo-2 | awk '{print $2}'"] * 2)
    run.exits()
    assert run.output.text("algo-1").split() == ["algo-1", "algo-1", "algo-2"]
    assert run.output.text("algo-2").split() == ["algo-2", "algo-1", "algo-2"]


def test_instances_reach_each_others_ports(launch: Launch) -> None:
    serve = (
        "import socket; s = socket.create_server(('algo-1', 0)); "
        "open('/shared/port', 'w').write(str(s.getsockname()[1]) + '.'); "
        "print(s.accept()[0].makefile('rb').read())"
    )
    call = (
        "import pathlib, socket, time; f = pathlib.Path('/shared/port')\n"
        "while not (f.exists() and f.read_text().endswith('.')): time.sleep(0.02)\n"
        "socket.create_connection(('algo-1', int(f.read_text()[:-1]))).sendall(b'hello')"
    )
    # Both see one more directory of this machine, to tell each other the port.
    shared = launch("true").directory("/opt/ml/model")
    run = launch(serve, call, entrypoint=("python", "-c"), mounts=[Mount(shared, "/shared")])
    assert [end.code for end in run.exits()] == [0, 0], run.output.data
    assert run.output.text() == "b'hello'\n"


def test_the_directories_of_the_contract_are_writable(launch: Launch) -> None:
    script = "for d in input model output checkpoints; do echo $d > /opt/ml/$d/mine || exit 1; done"
    run = launch(f"{script}; mkdir /opt/ml/code && touch /opt/ml/code/x /tmp/t $HOME/h")
    assert run.exits()[0].code == 0, run.output.text()
    assert (run.directory("/opt/ml/model") / "mine").read_text() == "model\n"
    assert (run.directory("/opt/ml/output") / "mine").read_text() == "output\n"


def test_a_mount_below_another_and_one_of_its_own_top_level(launch: Launch, tmp_path: Path) -> None:
    for name in ("deep", "state"):
        (tmp_path / name).mkdir()
    mounts = [Mount(tmp_path / "deep", "/opt/ml/output/deep"), Mount(tmp_path / "state", "/state")]
    run = launch("touch /opt/ml/output/deep/a /state/b", mounts=mounts)
    assert run.exits()[0].code == 0, run.output.text()
    assert (tmp_path / "deep" / "a").exists()
    assert (tmp_path / "state" / "b").exists()


def test_a_read_only_mount_cannot_be_written(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mounts = [Mount(tmp_path / "data", "/opt/ml/input/data/train", read_only=True)]
    assert launch("touch /opt/ml/input/data/train/x", mounts=mounts).exits()[0].code == 1


def test_tmp_is_private_and_shared_memory_is_large(launch: Launch) -> None:
    script = (
        "touch /tmp/$(hostname); sleep 0.2; ls /tmp/algo-*; df -P /dev/shm | awk 'END{print $2}'"
    )
    run = launch(script, script)
    run.exits()
    name, kilobytes = run.output.text("algo-2").split()
    assert name == "/tmp/algo-2"
    assert int(kilobytes) > 1_000_000


def test_both_directories_for_temporary_files_can_be_written(launch: Launch) -> None:
    run = launch("touch /tmp/a /var/tmp/b && cd /var/tmp && ls /tmp/a *")
    run.exits()
    assert run.output.text("algo-1").split() == ["/tmp/a", "b"]


def test_the_command_is_the_first_process_of_its_own_world(launch: Launch) -> None:
    run = launch("echo $$; ls -d /proc/[0-9]* | wc -l")
    run.exits()
    first, count = map(int, run.output.text().split())
    assert first == 1
    assert count < 8


def test_the_environment_is_the_plans_and_not_the_emulators(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    long = "é" * 50_000
    run = launch(
        "import os; print(os.environ['A'] == 'x\\ny', len(os.environ['LONG']), "
        "'SECRET_OF_THE_USER' in os.environ, os.environ['SAGEMAKER_TRAINING_MODULE'])",
        entrypoint=("python", "-c"),
        environment={"A": "x\ny", "LONG": long},
    )
    run.exits()
    assert run.output.text().split() == [
        "True",
        "50000",
        "False",
        "sagemaker_pytorch_container.training:main",
    ]


def test_a_hundred_variables_of_the_largest_size_fit(launch: Launch) -> None:
    environment = {f"V{i}": "x" * 512 for i in range(100)}
    run = launch("env | grep -c '^V[0-9]*=x*$'", environment=environment)
    run.exits()
    assert run.output.text() == "100\n"


def test_an_isolated_instance_reaches_nothing_on_this_machine(launch: Launch) -> None:
    script = """
import socket
for line in open("/proc/net/route").readlines()[1:]:
    gateway = socket.inet_ntoa(bytes.fromhex(line.split()[2])[::-1])
    try:
        socket.create_connection((gateway, PORT), timeout=2)
        print("reached", gateway)
    except OSError:
        pass
print("done")
"""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        script = script.replace("PORT", str(listener.getsockname()[1]))
        run = launch(script, entrypoint=("python", "-c"), network_isolation=True)
        run.exits()
    assert run.output.text() == "done\n"


def test_two_jobs_at_once_do_not_see_each_other(launch: Launch) -> None:
    first, second = launch("sleep 0.3; ls /opt/ml/model"), launch("touch /opt/ml/model/x")
    assert [end.code for end in (*first.exits(), *second.exits())] == [0, 0]
    assert first.output.text() == ""


def test_two_jobs_at_once_may_listen_on_the_same_port(runtime: Runtime, launch: Launch) -> None:
    if runtime.traits.shares_ports:
        pytest.skip("jobs have no network of their own here")
    listen = "import socket, time; s = socket.create_server(('algo-1', 7777)); print('listens')"
    first = launch(f"{listen}; time.sleep(300)", entrypoint=("python", "-uc"))
    first.await_text("listens")
    second = launch(listen, entrypoint=("python", "-uc"))
    assert second.exits()[0].code == 0, second.output.text()


def test_isolated_instances_have_each_other(runtime: Runtime, launch: Launch) -> None:
    if runtime.traits.shares_ports:
        pytest.skip("jobs have no network of their own here")
    serve = (
        "import socket; s = socket.create_server(('algo-1', 7777)); "
        "print(s.accept()[0].makefile('rb').read())"
    )
    call = """
import socket, time
for _ in range(1000):
    try:
        socket.create_connection(("algo-1", 7777)).sendall(b"hello")
        break
    except OSError:
        time.sleep(0.02)
"""
    run = launch(serve, call, entrypoint=("python", "-c"), network_isolation=True)
    assert [end.code for end in run.exits()] == [0, 0], run.output.data
    assert run.output.text() == "b'hello'\n"


def test_close_kills_what_runs_and_leaves_nothing(launch: Launch) -> None:
    mark = f"4{os.getpid()}"
    run = launch(f"(sleep {mark} &) ; touch $HOME/x /opt/ml/y; echo ready; {SHELL_LOOP}")
    run.await_text("ready")
    run.fleet.close()
    run.fleet.close()
    assert not [
        p for p in Path("/proc").glob("[0-9]*/cmdline") if f"\0{mark}\0".encode() in _read(p)
    ]
    scratch = run.plan.instances[0].scratch
    assert not scratch.exists() or list(scratch.iterdir()) == []


def test_no_descriptor_is_left_open(launch: Launch) -> None:
    for _ in range(2):  # a runtime may keep connections to its engine
        launch("true", "true").fleet.close()
    before = _descriptors()
    for _ in range(3):
        run = launch("true", "true")
        run.exits()
        run.fleet.close()
    # A thread that has just ended may be about to close its own.
    deadline = time.monotonic() + PATIENCE
    while _descriptors() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sink_that_fails_does_not_stop_the_job(launch: Launch) -> None:
    def broken(host: str, chunk: bytes) -> None:
        raise RuntimeError("disk full")

    run = launch("head -c 1000000 /dev/zero; exit 5", on_output=broken)
    assert run.exits()[0].code == 5


def test_a_plain_job_passes_the_check(runtime: Runtime, image: str | None) -> None:
    said: list[str] = []
    runtime.check(image, 2, False)
    runtime.prepare(image, said.append, lambda: False)
    assert all(said)


def test_isolated_instances_need_a_network_of_their_own(
    runtime: Runtime, image: str | None
) -> None:
    if runtime.traits.shares_ports:
        with pytest.raises(ClientError, match="EnableNetworkIsolation"):
            runtime.check(image, 2, True)
    else:
        runtime.check(image, 2, True)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
