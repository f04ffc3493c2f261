"""Write scikit-learn's digits as train.csv and test.csv: the label first, then 64 pixels.

python make_data.py data
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def write(folder: Path) -> None:
    digits = load_digits()
    table = np.column_stack([digits.target, digits.data]).astype(int)
    train, test = train_test_split(table, test_size=0.2, random_state=0, stratify=digits.target)
    for name, rows in (("train", train), ("test", test)):
        channel = folder / name
        channel.mkdir(parents=True, exist_ok=True)
        np.savetxt(channel / f"{name}.csv", rows, fmt="%d", delimiter=",")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
