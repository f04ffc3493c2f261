"""SeaweedFS as the emulator's child: its ports, its data, its end."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from store_rounds import rounds

from emulator.data.objectstore import embedded, weed
from emulator.data.objectstore import pdeathsig as tether
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.model.errors import SetupError

PARENT = """
import sys, time
from pathlib import Path
from emulator.data.objectstore.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]), "key", "secret").start()
print(store.pid, store.endpoint, flush=True)
time.sleep(600)
"""


def client(store: EmbeddedStore) -> ObjectStore:
    return ObjectStore(store.endpoint, "key", "secret")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    """Is the process there, and not a zombie?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def listening(pid: int) -> set[tuple[str, str]]:
    """The TCP addresses a process listens on, as /proc/net/tcp* writes them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            sockets.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                found.add((address, port))
    return found


@pytest.fixture
def parent(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )


def test_it_listens_on_loopback_only(embedded_store: EmbeddedStore) -> None:
    assert embedded_store.pid
    addresses = listening(embedded_store.pid)
    assert {address for address, _ in addresses} == {"0100007F"}
    # Every port is one that was asked for: nothing listens on a default port.
    asked = [*embedded_store._ports.http.values(), *embedded_store._ports.grpc.values()]  # type: ignore[union-attr]
    assert {int(port, 16) for _, port in addresses} <= set(asked)


def test_no_maintenance_rewrites_the_volumes(tmp_path: Path) -> None:
    """SeaweedFS's worker, once connected, writes down the jobs it offers (erasure coding…)."""
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        client(store).ensure_bucket("bucket")
        offered = tmp_path / "objects" / "admin" / "plugin" / "job_types"
        assert wait_until(offered.is_dir)
        assert not wait_until(lambda: any(offered.iterdir()), 2)


def test_buckets_behave_as_at_aws(object_store: ObjectStore, bucket: str) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        object_store.upload("never-made", "key", io.BytesIO(b"x"))
    assert not object_store.bucket_exists("never-made")


def test_a_restart_keeps_the_objects(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        client(store).ensure_bucket("bucket")
        client(store).upload("bucket", "ü/key", io.BytesIO(b"before"))
    assert store.pid is None
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        assert b"".join(client(store).read("bucket", "ü/key")) == b"before"
        client(store).upload("bucket", "new", io.BytesIO(b"after"))
        assert b"".join(client(store).read("bucket", "new")) == b"after"
        assert b"".join(client(store).read("bucket", "ü/key")) == b"before"
        sockets = store._ports.sockets  # type: ignore[union-attr]
        assert any(path.exists() for path in sockets)
    assert not any(path.exists() for path in sockets)


def test_it_ends_when_the_emulator_is_killed_and_loses_nothing(
    tmp_path: Path, parent: subprocess.Popen[str]
) -> None:
    assert parent.stdout
    pid, endpoint = parent.stdout.readline().split()
    store = ObjectStore(endpoint, "key", "secret")
    store.ensure_bucket("bucket")
    store.upload("bucket", "key", io.BytesIO(b"x" * 100_000))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not runs(int(pid)))
    left = weed.Ports.load((tmp_path / "objects.ports.json").read_text()).sockets
    with EmbeddedStore(tmp_path, "key", "secret") as again:
        assert b"".join(client(again).read("bucket", "key")) == b"x" * 100_000
        assert not any(path.exists() for path in left)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, "key", "secret")
    starter = threading.Thread(target=store.start)
    starter.start()
    starter.join()
    try:
        pid = store.pid
        assert pid
        assert not wait_until(lambda: not runs(pid), 0.5)
        assert not client(store).bucket_exists("bucket")
    finally:
        store.stop()


def test_a_second_emulator_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as first:
        with pytest.raises(SetupError, match=rf"Another emulator \(process {os.getpid()}\) uses"):
            EmbeddedStore(tmp_path, "key", "secret").start()
        assert first.trouble() == ""
        assert not client(first).bucket_exists("bucket")


def test_one_that_is_killed_is_started_again_on_the_same_data_and_port(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        before, endpoint = store.pid, store.endpoint
        client(store).ensure_bucket("bucket")
        client(store).upload("bucket", "key", io.BytesIO(b"before"))
        assert before
        os.kill(before, signal.SIGKILL)
        assert wait_until(lambda: store.down != "")
        assert "ended (-9) and is being started again" in store.trouble()
        assert wait_until(lambda: store.down == "")
        assert store.pid not in (None, before)
        assert store.endpoint == endpoint
        assert b"".join(client(store).read("bucket", "key")) == b"before"
        client(store).upload("bucket", "new", io.BytesIO(b"after"))
    assert "the embedded object store answers again" in caplog.text
    assert store.down == "the embedded object store is not running"


def test_one_that_cannot_be_started_again_says_why_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        config = tmp_path / "objects.s3.json"
        right = config.read_text()
        config.write_text("{ not json")
        assert store.pid
        os.kill(store.pid, signal.SIGKILL)
        assert wait_until(lambda: "cannot be started again" in store.down)
        config.write_text(right)
        assert wait_until(lambda: store.down == "")
        assert not client(store).bucket_exists("bucket")


def test_a_stop_while_it_is_started_again(tmp_path: Path) -> None:
    for _ in range(3):
        store = EmbeddedStore(tmp_path, "key", "secret").start()
        assert store.pid
        os.kill(store.pid, signal.SIGKILL)
        assert wait_until(lambda store=store: store.down != "")  # type: ignore[misc]
        store.stop()
        assert store.pid is None


def test_nothing_acknowledged_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    outcome = rounds(tmp_path, 3, 1.5)
    assert outcome["kept"] > 0


def test_deleted_objects_free_their_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def used() -> int:
        files = (tmp_path / "objects").glob("*.dat")
        return sum(file.stat().st_blocks * 512 for file in files)

    monkeypatch.setattr(embedded, "VACUUM_SECONDS", 0.5)
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        objects = client(store)
        objects.ensure_bucket("bucket")
        body = os.urandom(4 << 20)
        for number in range(10):
            objects.upload("bucket", f"key/{number}", io.BytesIO(body))
        assert used() > 40 << 20
        for number in range(9):
            objects.delete("bucket", f"key/{number}")
        assert wait_until(lambda: used() < 6 << 20)
        assert b"".join(objects.read("bucket", "key/9")) == body


def test_a_port_lost_to_someone_else_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        found = weed.Ports.free()
        taken = weed.Ports({**found.http, "filer": foreign.getsockname()[1]}, found.grpc)
        choices = chain([taken], iter(weed.Ports.free, None))
        monkeypatch.setattr(weed.Ports, "free", lambda: next(choices))
        with EmbeddedStore(tmp_path, "key", "secret") as store:
            assert store.endpoint != f"http://127.0.0.1:{taken.http['s3']}"
            client(store).ensure_bucket("bucket")


def test_what_keeps_it_from_starting_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weed, "s3_config", lambda *_: "{ not json")
    with pytest.raises(SetupError, match=r"did not start: .*(config|json|parse|invalid)"):
        EmbeddedStore(tmp_path, "key", "secret").start()
    monkeypatch.undo()
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        assert store.trouble() == ""


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError, match="cannot be used"):
        EmbeddedStore(tmp_path / "file", "key", "secret").start()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        monkeypatch.setattr(embedded, "_LOW_DISK", 1 << 60)
        assert store.trouble().startswith("No space left on device: ")


def test_the_secret_is_for_the_owner_only(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, "key", "secret"):
        assert (tmp_path / "objects.s3.json").stat().st_mode & 0o077 == 0
        assert (tmp_path / "objects").stat().st_mode & 0o077 == 0


def test_no_space_is_taken_before_there_are_objects(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        for number in range(4):
            client(store).ensure_bucket(f"bucket-{number}")
            client(store).upload(f"bucket-{number}", "key", io.BytesIO(b"x"))
    blocks = sum(path.lstat().st_blocks for path in tmp_path.rglob("*"))
    assert blocks * 512 < 2 << 20


def test_a_tether_to_a_parent_that_is_gone_ends_at_once() -> None:
    command = [sys.executable, "-I", "-S", tether.__file__, "1", "/bin/sleep", "300"]
    assert subprocess.run(command, timeout=60).returncode == tether.PARENT_GONE


def test_one_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PROBE_SECONDS", 0.5), ("SILENT_SECONDS", 1.0), ("HUNG_SECONDS", 8.0)):
        monkeypatch.setattr(embedded, name, seconds)
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        client(store).ensure_bucket("bucket")
        client(store).upload("bucket", "key", io.BytesIO(b"before"))
        hung = store.pid
        assert hung
        os.kill(hung, signal.SIGSTOP)
        assert wait_until(lambda: "has not answered for" in store.down)
        assert store.pid == hung
        assert store.availability.away_since(time.time() - 60)
        assert wait_until(lambda: store.pid not in (None, hung) and not store.down)
        assert not runs(hung)
        assert b"".join(client(store).read("bucket", "key")) == b"before"


def test_one_that_answers_again_in_time_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PROBE_SECONDS", 0.5), ("SILENT_SECONDS", 1.0)):
        monkeypatch.setattr(embedded, name, seconds)
    with EmbeddedStore(tmp_path, "key", "secret") as store:
        pid = store.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        assert wait_until(lambda: "has not answered for" in store.down)
        os.kill(pid, signal.SIGCONT)
        assert wait_until(lambda: not store.down)
        assert store.pid == pid
