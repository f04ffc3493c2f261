"""Distributed data parallel with SageMaker's own library (SMDDP).

Importing the library registers the backend `smddp`, and its launcher sets RANK and WORLD_SIZE. The
emulator has a stand-in for the library: NCCL where there are GPUs, gloo where there are none.

mpirun starts the ranks of other instances without the SM_* variables, so paths are written out.
"""

import argparse
import os
import socket
import sys

import numpy as np
import smdistributed.dataparallel.torch.torch_smddp  # noqa: F401 - registers the backend
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
    dist.init_process_group(backend="smddp")
    rank, world = dist.get_rank(), dist.get_world_size()
    print(f"rank {rank} of {world} on {socket.gethostname()}", flush=True)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)

    torch.manual_seed(args.seed)
    data = TensorDataset(*load(args.train, "train.csv"))
    sampler = DistributedSampler(data, seed=args.seed)
    loader = DataLoader(data, batch_size=64, sampler=sampler)
    test_images, test_labels = (part.to(device) for part in load(args.test, "test.csv"))
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        if rank == 0:
            with torch.no_grad():
                right = model.module(test_images).argmax(1) == test_labels
            print(f"epoch={epoch} test_accuracy={right.float().mean():.4f};", flush=True)

    if rank == 0:
        torch.save(model.module.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))
    # Nobody leaves while the others may still wait for a collective.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model-dir", default="/opt/ml/model")
    parser.add_argument("--train", default="/opt/ml/input/data/train")
    parser.add_argument("--test", default="/opt/ml/input/data/test")
    train(parser.parse_args())
    # Gloo's threads outlive the group; one that wakes while the interpreter ends would abort it.
    sys.stdout.flush()
    os._exit(0)
