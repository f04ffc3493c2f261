"""A processing script with a module of its own."""

import argparse
import json
from pathlib import Path

from helper import total

parser = argparse.ArgumentParser()
parser.add_argument("--label", required=True)
args = parser.parse_args()
with open("/opt/ml/config/resourceconfig.json") as file:
    resources = json.load(file)
host = resources["current_host"]
lines = [
    line
    for path in sorted(Path("/opt/ml/processing/input/data").glob("*.csv"))
    for line in path.read_text().split()
]
print(f"{host} of {resources['hosts']} read {lines}")
Path("/opt/ml/processing/output", f"{host}.txt").write_text(f"{args.label} {total(lines)}\n")
