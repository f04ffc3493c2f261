"""A processing script that is one file."""

import os
import sys
from pathlib import Path

lines = Path("/opt/ml/processing/input/data/numbers.csv").read_text().split()
print(f"alone read {lines} with {sys.argv[1:]} as {os.environ['WHO']}")
Path("/opt/ml/processing/output/alone.txt").write_text(f"{len(lines)}\n")
Path("/opt/ml/output/message").write_text("two lines")
