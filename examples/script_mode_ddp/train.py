"""Several instances without a launcher: the script itself says which rank it is.

SageMaker starts this file once an instance; rank, world size and master follow from SM_HOSTS and
SM_CURRENT_HOST, as in the PyTorch MNIST example of AWS.
"""

import argparse
import json
import os
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def load(folder, name):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long()


def train(args):
    world_size = len(args.hosts)
    os.environ["WORLD_SIZE"] = str(world_size)
    rank = args.hosts.index(args.current_host)
    os.environ["RANK"] = str(rank)
    # The toolkit of boto3 and SDK v2 jobs has set both; SDK v3 starts the script without it.
    os.environ.setdefault("MASTER_ADDR", args.hosts[0])
    os.environ.setdefault("MASTER_PORT", "7777")
    dist.init_process_group(backend=args.backend, rank=rank, world_size=world_size)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()} on {args.current_host}", flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    data = TensorDataset(*load(args.train, "train.csv"))
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)

    for epoch in range(1, args.epochs + 1):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        if rank == 0:
            test_images, test_labels = load(args.test, "test.csv")
            with torch.no_grad():
                predicted = model.module(test_images.to(device)).argmax(1).cpu()
            accuracy = (predicted == test_labels).float().mean().item()
            print(f"epoch={epoch} loss={loss.item():.4f} test_accuracy={accuracy:.4f};", flush=True)

    if rank == 0:
        with open(os.path.join(args.model_dir, "model.pth"), "wb") as file:
            torch.save(model.module.cpu().state_dict(), file)
    # Nobody leaves while gloo's threads may still hold tensors of the last collective.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--backend", type=str, default="nccl" if torch.cuda.is_available() else "gloo"
    )
    parser.add_argument("--hosts", type=json.loads, default=os.environ.get("SM_HOSTS"))
    parser.add_argument("--current-host", type=str, default=os.environ.get("SM_CURRENT_HOST"))
    parser.add_argument("--model-dir", type=str, default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--train", type=str, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", type=str, default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
    # Gloo's threads outlive the group; one that wakes while the interpreter ends would abort it.
    sys.stdout.flush()
    os._exit(0)
