"""Scale the digits and split them, from directories to directories below /opt/ml/processing."""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--test-share", type=float, default=0.25)
parser.add_argument("--root", type=Path, default=Path("/opt/ml/processing"))
args = parser.parse_args()

tables = [
    np.loadtxt(path, delimiter=",") for path in sorted((args.root / "input/data").glob("*.csv"))
]
table = np.vstack(tables)
train, test = train_test_split(table, test_size=args.test_share, random_state=0)
scaler = StandardScaler().fit(train[:, 1:])
for name, rows in (("train", train), ("test", test)):
    folder = args.root / "output" / name
    folder.mkdir(parents=True, exist_ok=True)
    scaled = np.column_stack([rows[:, 0], scaler.transform(rows[:, 1:])])
    np.savetxt(folder / f"{name}.csv", scaled, fmt="%.4f", delimiter=",")
print(f"rows={len(table)} train={len(train)} test={len(test)}", flush=True)
# What DescribeProcessingJob shows as ExitMessage.
message = Path("/opt/ml/output/message")
if message.parent.is_dir():
    message.write_text(json.dumps({"train": len(train), "test": len(test)}))
