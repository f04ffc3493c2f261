"""A script for managed spot training: it goes on from the newest checkpoint.

What it saves in /opt/ml/checkpoints is in S3 while it runs, and is there again at the next start.
"""

import argparse
import os
import time

import numpy as np
import torch
from torch import nn


def save(state, path):
    """Write beside the old file, then take its place: an interruption leaves one of the two."""
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


def load(folder, name):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long()


def train(args):
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    checkpoint, first = os.path.join(args.checkpoints, "last.pt"), 1
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
        print(f"resumed at epoch {first}", flush=True)

    images, labels = load(args.train, "train.csv")
    test_images, test_labels = load(args.test, "test.csv")
    for epoch in range(first, args.epochs + 1):
        for batch in torch.randperm(len(images)).split(args.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
        print(f"epoch={epoch} test_accuracy={accuracy:.4f};", flush=True)
        state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save(state, checkpoint)
        time.sleep(args.seconds_per_epoch)
    torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seconds-per-epoch", type=float, default=0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", default="/opt/ml/checkpoints")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
