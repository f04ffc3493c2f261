"""Which file each object becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.data.inputs.naming import entries, listed_entries, manifest, relative_name
from emulator.data.objectstore.objects import ObjectInfo
from emulator.model.errors import ClientError
from emulator.model.workload import S3Uri

PARTS = st.one_of(st.sampled_from(["", ".", "..", "a", "b", "a b", "é", "x" * 300]), st.text())
KEYS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(bool)


def infos(*keys: str, size: int = 1) -> list[ObjectInfo]:
    return [ObjectInfo(key, 0 if key.endswith("/") else size, "") for key in keys]


def paths(prefix: str, *keys: str) -> list[str]:
    return [entry.path for entry in entries(S3Uri("b", prefix), infos(*keys))]


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("Task1/input", "Task1/input/test", "test"),
        ("training/", "training/en-ja/train.en", "en-ja/train.en"),
        ("training", "training/en-ja/train.en", "en-ja/train.en"),
        ("data/abalone.libsvm", "data/abalone.libsvm", "abalone.libsvm"),
        ("", "a/b", "a/b"),
        ("data/tr", "data/train/x", "train/x"),
        ("tr", "train/x", "train/x"),
        ("d", "d/with space/ü%2F+.txt", "with space/ü%2F+.txt"),
    ],
)
def test_a_key_keeps_what_follows_the_prefix(prefix: str, key: str, path: str) -> None:
    assert relative_name(prefix, key) == path


@given(prefix=KEYS, keys=st.lists(KEYS, min_size=1, max_size=6))
def test_no_key_leads_out_of_the_channel(prefix: str, keys: list[str]) -> None:
    channel = Path("/channel")
    found = infos(*(key for key in keys if key.startswith(prefix)), prefix + "/x", prefix)
    try:
        made = entries(S3Uri("b", prefix), found)
    except ClientError:
        return
    files = [channel / entry.path for entry in made]
    assert all(file != channel and file.is_relative_to(channel) for file in files)
    assert not any(".." in file.parts or "\0" in str(file) for file in files)
    assert len(set(files)) == len(files)
    # None of them needs another one to be a directory.
    assert not {parent for file in files for parent in file.parents} & set(files)


def test_a_listed_file_is_called_what_the_manifest_says_after_its_prefix() -> None:
    made = listed_entries(S3Uri("b", "p/x"), infos("p/x/2/b", "p/xa"))
    assert [entry.path for entry in made] == ["2/b", "a"]


@pytest.mark.parametrize("keys", [("p/",), ("p/../a",), ("p/a", "p/a/b"), ("p/a", "p//a")])
def test_listed_files_obey_the_same_rules(keys: tuple[str, ...]) -> None:
    with pytest.raises(ClientError, match="Failed to download data"):
        listed_entries(S3Uri("b", "p/"), [ObjectInfo(key, 1, "") for key in keys])


def test_order_is_that_of_the_bytes() -> None:
    assert paths("", "b", "a/b", "a b", "B", "é", "z") == ["B", "a b", "a/b", "b", "z", "é"]


@pytest.mark.parametrize(
    ("key", "sequence"),
    [
        ("a//b", "//"),
        ("a/b//", "//"),
        ("/b", "//"),
        ("a/../b", ".."),
        ("..", ".."),
        ("a/./b", "."),
        ("a/b\0c", "\\0"),
    ],
)
def test_illegal_keys_are_named(key: str, sequence: str) -> None:
    with pytest.raises(ClientError) as caught:
        entries(S3Uri("bkt", ""), [ObjectInfo(key, 3, "")])
    assert str(caught.value) == (
        "ClientError: Data download failed:Failed to download data. "
        f"S3 key: s3://bkt/{key} has an illegal char sub-sequence '{sequence}' in it"
    )


@pytest.mark.parametrize("key", ["a/b..c", "...", "a/.hidden", "..a/b", "a/b c%2F..+"])
def test_dots_within_a_name_are_fine(key: str) -> None:
    assert paths("", key) == [key]


def test_an_illegal_prefix_is_refused_before_the_listing_is_looked_at() -> None:
    with pytest.raises(ClientError, match="s3://b/a//b has an illegal char sub-sequence '//'"):
        entries(S3Uri("b", "a//b"), infos("a/b"))


def test_a_prefix_may_end_within_a_hidden_name() -> None:
    assert paths("a/.", "a/.hidden") == [".hidden"]


def test_directory_markers_are_skipped() -> None:
    assert paths("d", "d/", "d/sub/", "d/sub/x") == ["sub/x"]


def test_a_marker_with_content_is_refused() -> None:
    with pytest.raises(ClientError, match="names a directory but has content"):
        entries(S3Uri("b", "d"), [ObjectInfo("d/sub/", 5, "")])


@pytest.mark.parametrize("keys", [(), ("d/",), ("d/a/", "d/b/")])
def test_a_channel_of_nothing_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ClientError, match="No S3 objects found under s3://b/d"):
        entries(S3Uri("b", "d"), infos(*keys))


@pytest.mark.parametrize("keys", [("d/a", "d/a/b"), ("d/a/b/c", "d/a"), ("d/x/y", "d/x/y/z/1")])
def test_a_file_that_is_also_a_directory_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ClientError, match="both a file and a directory"):
        entries(S3Uri("b", "d"), infos(*keys))


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ClientError, match="s3://b/d/t/tx and s3://b/d/tx would make tx the same"):
        entries(S3Uri("b", "d/t"), infos("d/t/tx", "d/tx"))


@pytest.mark.parametrize(("name", "fits"), [("x" * 255, True), ("x" * 256, False), ("é" * 128, 0)])
def test_names_longer_than_the_file_system_has(name: str, fits: bool) -> None:
    if fits:
        assert paths("d", f"d/{name}/f") == [f"{name}/f"]
        return
    with pytest.raises(ClientError, match="has a name too long"):
        paths("d", f"d/{name}/f")


def test_the_manifest_has_the_size_seen_on_the_service() -> None:
    made = entries(S3Uri("bkt", "data/training"), infos("data/training/b", "data/training/a"))
    text = manifest(S3Uri("bkt", "data/training"), made)
    assert text == "data/training\ns3://bkt/data/training/a\ns3://bkt/data/training/b\n"
    assert made[0].path == "a"
