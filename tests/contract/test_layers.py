"""A directory that several instances see, and that each may change for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtime_harness import Launch

from emulator.drivers.base import Runtime
from emulator.model.plan import Mount

TARGET = "/opt/ml/input/data/train"
SCRIPT = f"""
cd {TARGET} && cat a sub/b && echo changed > a && rm sub/b && echo new > c &&
sync && cat a c && ls sub | wc -l && stat -c %u a
"""


def test_changes_stay_in_the_layer(runtime: Runtime, launch: Launch, tmp_path: Path) -> None:
    if not runtime.traits.overlays:
        pytest.skip(f"{runtime.traits.name} has no overlays here")
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("one\n")
    (source / "sub" / "b").write_text("two\n")
    mount = Mount(source, TARGET, layer=tmp_path / "layer")
    for directory in (mount.upper, mount.work):
        assert directory
        directory.mkdir(parents=True)
    run = launch(SCRIPT, mounts=[mount])
    end = run.fleet.next_exit(60)
    assert end
    assert end.code == 0
    assert run.output.text("algo-1").splitlines()[:5] == ["one", "two", "changed", "new", "0"]
    assert sorted(path.name for path in source.rglob("*")) == ["a", "b", "sub"]
    assert (source / "a").read_text() == "one\n"
