"""What holds of the source as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "emulator"
MODULES = sorted(PACKAGE.rglob("*.py"))
LOCAL = re.compile(
    # This checkout's own place, and hosts that only an installer's configuration should name.
    re.escape(f"{REPOSITORY}/")
    + r"|pypi\.org|pythonhosted\.org|registry\.npmjs|proxy\.golang|download\.pytorch"
)
TEXTS = ("*.py", "*.md", "*.toml", "*.yaml", "*.yml", "Makefile", "run")


def tracked(*patterns: str) -> list[Path]:
    """Files under version control; without a repository (an unpacked archive) what lies there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=REPOSITORY, capture_output=True, check=False
    )
    if listed.returncode:
        found = [path for pattern in patterns for path in REPOSITORY.rglob(pattern)]
        return [path for path in found if ".venv" not in path.parts and ".envs" not in path.parts]
    names = listed.stdout.decode().split("\0")
    return [REPOSITORY / name for name in names if name and (REPOSITORY / name).is_file()]


def test_no_floor_imports_one_above_it() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_module_and_its_public_classes_and_functions_say_what_they_mean(module: Path) -> None:
    tree = ast.parse(module.read_text())
    silent = [node.name for node in public(tree) if ast.get_docstring(node) is None]
    assert not silent
    if tree.body:
        assert ast.get_docstring(tree)


def test_nothing_depends_on_one_machine() -> None:
    texts = tracked(*TEXTS)
    assert texts
    found = {
        f"{path.relative_to(REPOSITORY)}: {match[0]}"
        for path in texts
        if path != Path(__file__)
        for match in LOCAL.finditer(path.read_text())
    }
    assert not found


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & {path.stem for path in MODULES}


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Top-level classes and functions that other modules may use."""
    for node in tree.body:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
