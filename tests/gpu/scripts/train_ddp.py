"""Several instances, one rank each: DDP on different data must give every rank one model."""

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

resources = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
hosts = resources["hosts"]
rank = hosts.index(resources["current_host"])
device = torch.device(os.environ.get("TEST_DEVICE", "cuda"))
for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
    os.environ.setdefault(name, resources["network_interface_name"])
if device.type == "cuda":
    print(
        f"devices={torch.cuda.device_count()} gpu={os.environ['CUDA_VISIBLE_DEVICES']}", flush=True
    )
    torch.cuda.set_device(0)
backend = "nccl" if device.type == "cuda" else "gloo"
address = f"tcp://{hosts[0]}:7777"
dist.init_process_group(backend, address, rank=rank, world_size=len(hosts))

torch.manual_seed(rank)
x = torch.rand(1024, 1, device=device)
model = DistributedDataParallel(torch.nn.Linear(1, 1).to(device))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for _ in range(200):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), 3 * x + 1)
    loss.backward()
    optimizer.step()
weight, bias = (value.item() for value in model.parameters())
print(f"loss={loss.item():.6f} model={weight:.9f},{bias:.9f}", flush=True)
dist.destroy_process_group()
