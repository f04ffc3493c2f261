"""A classifier in plain Python, in an image without AWS's toolkit.

The service starts the entry point of the image with the argument `train`. All else are files:
hyperparameters and data in /opt/ml/input, the model in /opt/ml/model, and the reason of a failure
in /opt/ml/output/failure.
"""

import csv
import json
import math
import random
import sys
from pathlib import Path

import yaml

ML = Path("/opt/ml")


def hyperparameters():
    """Those of a recipe, or those of the request, whose values are all text."""
    recipe = ML / "input/data/recipe/recipe.yaml"
    if recipe.exists():
        given = yaml.safe_load(recipe.read_text())["training_config"]
    else:
        given = json.loads((ML / "input/config/hyperparameters.json").read_text())
    return int(given.get("epochs", 5)), float(given.get("lr", 0.1))


def load(channel):
    with open(ML / "input/data" / channel / f"{channel}.csv", newline="") as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file)]
    return [([pixel / 16 for pixel in row[1:]], int(row[0])) for row in rows]


def scores(weights, image):
    return [sum(map(float.__mul__, row, image)) for row in weights]


def train():
    epochs, lr = hyperparameters()
    rows, test = load("train"), load("test")
    weights = [[0.0] * 64 for _ in range(10)]
    shuffler = random.Random(1)
    for epoch in range(1, epochs + 1):
        shuffler.shuffle(rows)
        for image, label in rows:
            powers = [math.exp(score) for score in scores(weights, image)]
            for digit, row in enumerate(weights):
                error = powers[digit] / sum(powers) - (digit == label)
                row[:] = [
                    weight - lr * error * pixel for weight, pixel in zip(row, image, strict=True)
                ]
        guesses = [max(range(10), key=scores(weights, image).__getitem__) for image, _ in test]
        right = sum(guess == label for guess, (_, label) in zip(guesses, test, strict=True))
        print(f"epoch={epoch} test_accuracy={right / len(test):.4f};", flush=True)
    (ML / "model/weights.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    try:
        train()
    except (OSError, ValueError, KeyError) as error:
        (ML / "output/failure").write_text(f"{type(error).__name__}: {error}")
        sys.exit(1)
