"""What an endpoint does with the model: SageMaker's PyTorch containers call these functions.

Requests and answers are read and written by the containers' own `input_fn` and `output_fn`: JSON,
CSV or NumPy's npy, as the request's Content-Type and Accept say.
"""

import os

import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_model():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def model_fn(model_dir):
    model = build_model()
    weights = torch.load(
        os.path.join(model_dir, "model.pth"), map_location=device, weights_only=True
    )
    model.load_state_dict(weights)
    return model.to(device).eval()


def predict_fn(data, model):
    with torch.no_grad():
        return model(data.to(device).float() / 16).argmax(1)
