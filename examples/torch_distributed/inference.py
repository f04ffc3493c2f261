"""How an endpoint serves the model that train.py makes; train.py lies beside it in code/."""

import os

import torch
from train import build_model


def model_fn(model_dir):
    weights = torch.load(
        os.path.join(model_dir, "model.pth"), map_location="cpu", weights_only=True
    )
    model = build_model(hidden=len(weights["0.bias"]))
    model.load_state_dict(weights)
    return model.eval()


def predict_fn(data, model):
    with torch.no_grad():
        return model(data.float() / 16).argmax(1)
