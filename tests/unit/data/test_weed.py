"""How SeaweedFS is told what to do, and what its log says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.data.objectstore import weed

LOG = """
  Starting SeaweedFS Mini ...
  Master       ready     0.2s
E1123 00:05:30.096029 leveldb2_store.go:64 filer store open dir: resource temporarily unavailable
F1123 00:05:30.096253 configuration.go:26 failed to initialize store for leveldb2
goroutine 226 [running]:
github.com/seaweedfs/seaweedfs/weed/glog.stacks(0x0)
"""


def test_the_program_comes_with_its_wheel() -> None:
    assert weed.find_program().name == "weed"
    assert weed.find_program().is_file()


def test_every_service_has_ports_of_its_own() -> None:
    ports = weed.Ports.free()
    numbers = [*ports.http.values(), *ports.grpc.values()]
    assert len(set(numbers)) == len(numbers)
    given = weed.arguments(ports, Path("/state/s3.json"))
    for name in ("s3", "master", "filer", "volume", "admin"):
        assert f"-{name}.port={ports.http[name]}" in given
        assert f"-{name}.port.grpc={ports.grpc[name]}" in given


def test_no_port_is_ten_thousand_above_the_admin_server() -> None:
    """There the maintenance worker would look for it."""
    for _ in range(20):
        assert weed.Ports.free().http["admin"] + 10_000 > 65_535


def test_the_lonely_worker_is_noise() -> None:
    assert weed.is_noise(b"W1 client.go:379 [session 961a] Reconnection attempt 2 failed: ...")
    assert weed.is_noise(b"W1 worker.go:180 Plugin worker w-vm-24e4 stream ended: open worker")
    assert not weed.is_noise(b"E1 s3api_object_handlers_put.go:626 putToFiler: no space left")


def test_nothing_but_s3_is_on_and_nothing_is_reported() -> None:
    given = weed.arguments(weed.Ports.free(), Path("/state/s3.json"))
    off = {"-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"}
    assert off | {"-master.telemetry=false", "-ip.bind=127.0.0.1"} <= set(given)


def test_ports_are_remembered() -> None:
    ports = weed.Ports.free()
    assert weed.Ports.load(ports.dump()) == ports
    for broken in ("", "[]", '{"http": {}}', "null"):
        with pytest.raises(ValueError, match=r"not a set of ports|Expecting value"):
            weed.Ports.load(broken)


def test_the_configuration_has_the_credentials() -> None:
    (identity,) = json.loads(weed.s3_config('k"', "s\\"))["identities"]
    assert identity["credentials"] == [{"accessKey": 'k"', "secretKey": "s\\"}]
    assert "Admin" in identity["actions"]


@pytest.mark.parametrize(
    ("log", "lost"),
    [
        (LOG, False),
        ("W1 mini.go:854 Port 23646 for Admin is not available on 127.0.0.1, finding", True),
        ("listen tcp 127.0.0.1:8333: bind: address already in use", True),
    ],
)
def test_a_lost_port_is_seen_in_the_log(log: str, lost: bool) -> None:
    assert weed.lost_a_port(log) is lost


def test_last_words_are_the_errors() -> None:
    words = weed.last_words(LOG)
    assert words.splitlines()[0].startswith("E1123")
    assert words.endswith("failed to initialize store for leveldb2")
    assert weed.last_words("one\n\ntwo\n") == "one\ntwo"
    assert len(weed.last_words("x" * 5000)) == 600


@pytest.mark.parametrize("key", ["a//b", "/a", "a\\b", "//", "a/b//"])
def test_keys_that_would_become_others(key: str) -> None:
    assert f"{key!r} has a leading or doubled slash" in weed.key_problem(key)


@pytest.mark.parametrize("key", ["a", "a/b", "a/", "a/..b", "ü", "a b", "%2F"])
def test_keys_that_are_kept(key: str) -> None:
    assert weed.key_problem(key) == ""


def test_a_key_that_ends_in_a_slash_has_no_content() -> None:
    assert "has content" in weed.key_problem("a/", 1)
    assert weed.key_problem("a/", 0) == ""


def test_no_space_below_a_hundredth_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib = 1 << 30
    for free, size, full in ((11, 0, False), (11, 2 * gib, True), (9, 0, True)):
        usage = (1000 * gib, 0, free * gib)
        monkeypatch.setattr(weed.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert bool(weed.no_space(tmp_path, size)) is full
    monkeypatch.setattr(weed.shutil, "disk_usage", lambda _: (1 << 20, 0, 1 << 20))
    assert weed.no_space(tmp_path, 0).startswith(f"No space left on device: {tmp_path} has 1 MiB")
