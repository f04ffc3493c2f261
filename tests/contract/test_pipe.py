"""Pipes: what comes when, and what ends them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from channel_harness import HOSTS, Stager

from emulator.data.inputs.base import StagedChannel
from emulator.data.objectstore.objects import ObjectInfo
from emulator.data.objectstore.transfer import Downloader
from emulator.model.errors import JobError

ONE = HOSTS[:1]


def read(stager: Stager, epoch: int) -> bytes:
    path = stager.directories["algo-1"] / f"train_{epoch}"
    until(path.exists)
    return path.read_bytes()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def trouble(staged: StagedChannel) -> JobError:
    until(staged.trouble)
    found = staged.trouble()
    assert found
    return found


def test_hundreds_of_objects_come_in_their_order(stager: Stager) -> None:
    data = {f"in/{n:04}": os.urandom(n) for n in range(300)}
    data["in/0150"] = os.urandom(3 << 20)  # more than is fetched ahead
    stager.put(data)
    stager.stage("in", hosts=ONE, mode="Pipe")
    for epoch in range(2):
        assert read(stager, epoch) == b"".join(data[key] for key in sorted(data))


def test_few_objects_are_fetched_ahead_of_the_reader(
    stager: Stager, monkeypatch: pytest.MonkeyPatch
) -> None:
    stager.put({f"in/{n:04}": bytes(100_000) for n in range(60)})
    fetched: list[str] = []
    real = Downloader.fetch

    def noted(
        self: Downloader, bucket: str, info: ObjectInfo, cancelled: Callable[[], bool]
    ) -> bytes:
        data = real(self, bucket, info, cancelled)
        fetched.append(info.key)
        return data

    monkeypatch.setattr(Downloader, "fetch", noted)
    staged = stager.stage("in", hosts=ONE, mode="Pipe")
    assert not fetched
    with (stager.directories["algo-1"] / "train_0").open("rb", buffering=0) as reader:
        reader.read(1)
        until(lambda: len(fetched) >= 16)
        time.sleep(0.3)
        # Sixteen, those that the pipe itself holds, and the one that is being written.
        assert len(fetched) <= 18
    staged.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_an_object_that_goes_is_trouble_in_its_place(stager: Stager) -> None:
    stager.put({f"in/{n}": bytes([n]) * 1000 for n in range(9)})
    staged = stager.stage("in", hosts=ONE, mode="Pipe")
    stager.store.delete(stager.bucket, "in/5")
    assert read(stager, 0) == b"".join(bytes([n]) * 1000 for n in range(5))
    assert "404" in str(trouble(staged))


def test_text_that_is_none_is_trouble(stager: Stager) -> None:
    good, bad = json.dumps({"text": "good"}), '{"text": "\\ud83d"}'
    stager.put({"m": f"{good}\n{bad}\n{good}\n".encode()})
    staged = stager.stage(
        "m", hosts=ONE, mode="Pipe", S3DataType="AugmentedManifestFile", AttributeNames=["text"]
    )
    read(stager, 0)
    assert "a line 2 whose 'text' is not valid Unicode" in str(trouble(staged))


def test_a_pipe_never_ends_without_a_word(stager: Stager, monkeypatch: pytest.MonkeyPatch) -> None:
    stager.put({"in/a": b"x"})
    staged = stager.stage("in", hosts=ONE, mode="Pipe")

    def broken(*_: object) -> bytes:
        raise RuntimeError("a mistake in the program")

    monkeypatch.setattr(Downloader, "fetch", broken)
    assert read(stager, 0) == b""
    assert "a mistake in the program" in str(trouble(staged))


def test_a_script_that_takes_the_next_pipes_name(stager: Stager) -> None:
    stager.put({"in/a": b"x"})
    staged = stager.stage("in", hosts=ONE, mode="Pipe")
    Path(stager.directories["algo-1"] / "train_1").touch()
    assert read(stager, 0) == b"x"
    assert "File exists" in str(trouble(staged))
