"""Starts the model server from wherever this directory lies: `<python> <directory>/serve.py`."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    directory = Path(__file__).resolve().parent
    # Only the server itself is imported from here. The model's process never sees this path.
    sys.path[0] = str(directory.parent)
    program = import_module(f"{directory.name}.program")
    del sys.path[0]
    sys.exit(program.main())
