"""Trains a model of handwritten digits, and puts the code that serves it beside it."""

import argparse
import os
import shutil

import numpy as np
import torch

# `estimator.deploy()` serves with the training script: it finds the functions here.
from inference import build_model, model_fn, predict_fn  # noqa: F401
from torch import nn


def load(folder, name):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long()


def train(args):
    torch.manual_seed(args.seed)
    images, labels = load(args.train, "train.csv")
    model = build_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for epoch in range(1, args.epochs + 1):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch={epoch} loss={loss.item():.4f};", flush=True)

    torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))
    # With it in model.tar.gz, CreateModel needs nothing else.
    code = os.path.join(args.model_dir, "code")
    os.makedirs(code, exist_ok=True)
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "inference.py"), code)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    train(parser.parse_args())
