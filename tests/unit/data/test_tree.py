"""The trees of several instances, merged into one."""

from __future__ import annotations

import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.data.objectstore.objects import ignore_bytes
from emulator.data.outputs.archive import TarGz
from emulator.data.outputs.tree import Found, content, link_target, merge, open_file, scan

DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


def found(name: str, mode: int = FILE, size: int = 1, host: str = "") -> Found:
    return Found(tuple(name.split("/")), Path(f"/{host}/{name}"), mode, size, 0)


def names(merged: tuple[Found, ...]) -> list[str]:
    return ["/".join(each.name) for each in merged]


def test_the_later_host_wins() -> None:
    merged = merge([[found("m", host="1"), found("a", host="1")], [found("m", host="2")]])
    assert [str(each.path) for each in merged] == ["/1/a", "/2/m"]


def test_a_later_file_takes_the_place_of_a_directory() -> None:
    merged = merge(
        [[found("a", DIR), found("a/b", DIR), found("a/b/c"), found("ab")], [found("a")]]
    )
    assert names(merged) == ["a", "ab"]


def test_a_later_directory_takes_the_place_of_a_file() -> None:
    assert names(merge([[found("a")], [found("a", DIR), found("a/b")]])) == ["a", "a/b"]


def test_directories_are_merged() -> None:
    merged = merge([[found("a", DIR), found("a/1")], [found("a", DIR), found("a/2")]])
    assert names(merged) == ["a", "a/1", "a/2"]


NODES = st.dictionaries(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple), st.booleans(), max_size=8
)


def as_tree(nodes: dict[tuple[str, ...], bool]) -> list[Found]:
    """A tree that can exist: what has children is a directory."""
    parents = {name[:depth] for name in nodes for depth in range(1, len(name))}
    return [
        found("/".join(name), DIR if name in parents or nodes[name] else FILE)
        for name in {*nodes, *parents}
    ]


@given(st.lists(NODES, max_size=3))
def test_a_merged_tree_can_exist(trees: list[dict[tuple[str, ...], bool]]) -> None:
    merged = merge(as_tree(nodes) for nodes in trees)
    seen: dict[tuple[str, ...], Found] = {}
    for each in merged:
        assert each.name not in seen
        assert all(seen[each.name[:depth]].is_directory for depth in range(1, len(each.name)))
        seen[each.name] = each
    if trees:
        assert {f.name for f in as_tree(trees[-1])} <= set(seen)


def test_what_no_archive_can_hold_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    warnings: list[str] = []
    assert names(merge([scan(tmp_path, warnings.append)])) == ["file", "link"]
    assert sorted(warnings) == [
        "pipe is left out: it is a named pipe",
        "socket is left out: it is a socket",
    ]


def test_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(scan(tmp_path / "none", [].append)) == []


def test_opening_follows_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's choice
            open_file(Found((name,), tmp_path / name, FILE, 1, 0))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory that is not the job's."""
    (tmp_path / "home" / "inner").mkdir(parents=True)
    (tmp_path / "home" / "key").write_text("secret")
    (tmp_path / "home" / "inner" / "key").write_text("secret")
    return tmp_path / "home"


def test_a_root_that_became_a_link_is_left_out(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "data").symlink_to(secret)
    warnings: list[str] = []
    assert list(scan(tmp_path / "data", warnings.append)) == []
    assert warnings == ["data is left out: it is a link"]


def test_a_root_behind_a_link_is_left_out(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "way").symlink_to(secret)
    warnings: list[str] = []
    assert list(scan(tmp_path / "output" / "way" / "inner", warnings.append, depth=2)) == []
    assert warnings == ["inner is left out: it is no directory"]


def test_a_directory_that_becomes_a_link_during_the_scan_is_left_out(
    tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    warnings: list[str] = []
    seen = []
    for each in scan(tmp_path / "data", warnings.append):
        seen.append(each.name)
        (tmp_path / "data" / "inner").rmdir()
        (tmp_path / "data" / "inner").symlink_to(secret / "inner")
    assert seen == [("inner",)]
    assert warnings == ["inner is left out: Not a directory"]


@pytest.mark.parametrize("replaced", ["data", "data/inner"])
def test_nothing_is_read_through_a_link_that_came_after_the_scan(
    tmp_path: Path, secret: Path, replaced: str
) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "key").write_text("own")
    (tmp_path / "data" / "inner" / "link").symlink_to("key")
    tree = {each.name[-1]: each for each in scan(tmp_path / "data", [].append)}
    (tmp_path / replaced).rename(tmp_path / "moved")
    (tmp_path / replaced).symlink_to(secret / replaced.removeprefix("data").strip("/"))
    with pytest.raises(OSError):  # noqa: PT011
        open_file(tree["key"])
    with pytest.raises(OSError):  # noqa: PT011
        link_target(tree["link"])
    with pytest.raises(OSError):  # noqa: PT011
        open_file(content(tree["link"]))


def test_a_link_within_the_tree_stands_for_its_target(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "file").write_text("x")
    (tmp_path / "data" / "link").symlink_to("a/file")
    tree = {each.name: each for each in scan(tmp_path / "data", [].append)}
    source = content(tree[("link",)])
    os.close(open_file(source))
    assert (source.path, source.depth) == (tmp_path / "data" / "a" / "file", 3)


def read_all(archive: TarGz) -> bytes:
    with archive:
        return b"".join(iter(lambda: archive.read(1000), b""))


def unpacked(data: bytes, into: Path) -> tarfile.TarFile:
    into.write_bytes(data)
    return tarfile.open(into, "r:gz", encoding="utf-8", errors="surrogateescape")


def test_files_that_change_under_the_archive(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("gone", "grown", "kept", "shrunk"):
        (source / name).write_bytes(name.encode() * 1000)
    tree = merge([scan(source, [].append)])
    (source / "gone").unlink()
    warnings: list[str] = []
    kept = b"kept" * 1000

    def on_bytes(count: int) -> None:
        # After the first byte of a file was read: the header is written by now.
        if count == len(b"grown" * 1000):
            with (source / "grown").open("ab") as file:
                file.write(b"more")

    data = read_all(TarGz(tree, warnings.append, on_bytes))
    with unpacked(data, tmp_path / "a.tar.gz") as tar:
        assert tar.getnames() == ["grown", "kept", "shrunk"]
        content = tar.extractfile("kept")
        assert content
        assert content.read() == kept
    assert warnings == [
        "gone is left out: No such file or directory",
        "grown grew while it was read",
    ]


def test_a_file_that_shrinks_is_padded(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    large = 4 << 20
    (source / "big").write_bytes(b"x" * large)
    (source / "next").write_text("whole")
    tree = merge([scan(source, [].append)])
    warnings: list[str] = []

    def on_bytes(count: int) -> None:
        if (source / "big").stat().st_size == large:
            os.truncate(source / "big", 2 << 20)

    data = read_all(TarGz(tree, warnings.append, on_bytes))
    with unpacked(data, tmp_path / "a.tar.gz") as tar:
        assert [member.size for member in tar] == [large, 5]
        content = tar.extractfile("next")
        assert content
        assert content.read() == b"whole"
    assert len(warnings) == 1
    assert warnings[0].startswith("big lost ")


def test_archives_of_one_tree_are_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d" / "empty").mkdir(parents=True)
    odd = os.fsdecode(b"\xff\xfe odd\n")
    for name in ("z", "a b", "é" * 60 + "/" + "n" * 200, odd, "d/x"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(str(len(name)))
    (source / "dangling").symlink_to("../nowhere")
    (source / "z").chmod(0o750)
    tree = merge([scan(source, [].append)])
    first, second = (read_all(TarGz(tree, [].append, ignore_bytes)) for _ in range(2))
    assert first == second
    with unpacked(first, tmp_path / "a.tar.gz") as tar:
        assert set(tar.getnames()) == {"/".join(each.name) for each in tree}
        assert tar.getmember("dangling").linkname == "../nowhere"
        assert tar.getmember("z").mode == 0o750
        assert tar.getmember("d/empty").isdir()
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}
        content = tar.extractfile(odd)
        assert content
        assert content.read() == str(len(odd)).encode()


def test_a_reader_that_leaves_ends_the_writer(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    archive = TarGz(merge([scan(tmp_path, [].append)]), [].append, ignore_bytes)
    with archive:
        assert archive.read(10)
    assert not archive._thread.is_alive()


def test_a_failure_in_the_making_reaches_the_reader(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    def fail(count: int) -> None:
        raise RuntimeError("broken")

    archive = TarGz(merge([scan(tmp_path, [].append)]), [].append, fail)
    with pytest.raises(RuntimeError, match="broken"):
        read_all(archive)
