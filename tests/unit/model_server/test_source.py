"""The model server runs in interpreters that the emulator itself does not support."""

import ast
from pathlib import Path

import pytest

from emulator.model_server import PROGRAM

FILES = sorted(PROGRAM.parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_source_is_python_3_9(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))

    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if node.module == "__future__"
    }
    # Annotations such as `str | None` are not evaluated then.
    assert "annotations" in imported or not any(
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) for node in ast.walk(tree)
    )
