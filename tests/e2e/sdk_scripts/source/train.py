"""A DDP script as the SDK's documentation shows it; prints what the tests look for."""

import argparse
import os

import six  # from requirements.txt
import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
arguments, _ = parser.parse_known_args()

dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr)
for epoch in range(arguments.epochs):
    loss = model(torch.ones(4, 2)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"epoch {epoch} loss={loss.item():.4f};", flush=True)
rows = open(os.path.join(arguments.train, "numbers.csv")).read().split()
print(
    f"rank {dist.get_rank()} of {dist.get_world_size()} read {rows} six {six.__version__}",
    flush=True,
)
if dist.get_rank() == 0:
    torch.save(model.module.state_dict(), os.path.join(arguments.model_dir, "model.pth"))
dist.barrier()
os._exit(0)  # past Gloo's threads, which abort an interpreter that ends at times
