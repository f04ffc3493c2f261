"""Distributed data parallel under torchrun, which sets RANK, WORLD_SIZE and the master.

`sagemaker-emulator demo` trains with this file as well.
"""

import argparse
import os
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def build_model(hidden):
    return nn.Sequential(
        nn.Linear(64, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def load(folder, name):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long()


def accuracy(model, images, labels):
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def train(args):
    use_cuda = torch.cuda.is_available()
    dist.init_process_group(backend="nccl" if use_cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    host = os.environ.get("SM_CURRENT_HOST", "this host")
    print(f"rank {rank} of {world} on {host}, backend {dist.get_backend()}", flush=True)
    device = torch.device("cpu")
    if use_cuda:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)

    torch.manual_seed(args.seed)
    data = TensorDataset(*load(args.train, "train.csv"))
    sampler = DistributedSampler(data, seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler)
    test_images, test_labels = (part.to(device) for part in load(args.test, "test.csv"))
    model = DistributedDataParallel(build_model(args.hidden).to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        sampler.set_epoch(epoch)
        total = torch.zeros(1, device=device)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        # The mean over all ranks: proof that they talk to each other.
        dist.all_reduce(total)
        if rank == 0:
            mean = total.item() / (len(loader) * world)
            share = accuracy(model.module, test_images, test_labels)
            print(f"epoch={epoch} train_loss={mean:.4f} test_accuracy={share:.4f};", flush=True)

    if rank == 0:
        torch.save(model.module.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))
    # Nobody leaves while gloo's threads may still hold tensors of the last collective.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
    # Gloo's threads outlive the group; one that wakes while the interpreter ends would abort it.
    sys.stdout.flush()
    os._exit(0)
