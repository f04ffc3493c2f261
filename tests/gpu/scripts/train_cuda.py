"""One instance: fit a line on the GPU and keep it."""

import os
import subprocess
from pathlib import Path

import torch

device = torch.device(os.environ.get("TEST_DEVICE", "cuda"))
if device.type == "cuda":
    print(f"devices={torch.cuda.device_count()} name={torch.cuda.get_device_name()}", flush=True)
    listing = subprocess.check_output(["nvidia-smi", "--list-gpus"], text=True)
    print(f"listed={sum(line.startswith('GPU ') for line in listing.splitlines())}", flush=True)
torch.manual_seed(0)
x = torch.rand(4096, 1, device=device)
model = torch.nn.Linear(1, 1).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for _ in range(500):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), 3 * x + 1)
    loss.backward()
    optimizer.step()
print(f"loss={loss.item():.6f}", flush=True)
torch.save(model.state_dict(), Path("/opt/ml/model/model.pth"))
