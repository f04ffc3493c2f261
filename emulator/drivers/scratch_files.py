"""Files of the runtimes' own in an instance's scratch directory: commands, and their removal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove_tree(root: Path) -> None:
    """Remove a directory, also where it holds directories without any permission.

    The kernel makes such ones for an overlay, and so may a script. Raises OSError.
    """
    for directory, names, _ in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(root)


def write_command(path: Path, text: str) -> None:
    """Write an executable script. Raises OSError."""
    path.write_text(text)
    path.chmod(0o755)
