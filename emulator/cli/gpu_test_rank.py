"""One of two ranks of a timed all-reduce: an instance of a training job, or a plain process.

Runs in the interpreter of the training scripts; it needs PyTorch and nothing of the emulator.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

RESOURCES = Path("/opt/ml/input/config/resourceconfig.json")
MIB = 1024 * 1024
WARM_UP, ROUNDS = 3, 10


def main() -> None:
    """Join the other rank, reduce, and let rank 0 say how long it took."""
    meet()
    backend = os.environ["GPU_TEST_BACKEND"]
    dist.init_process_group(backend, timeout=timedelta(seconds=120))
    size = int(os.environ["GPU_TEST_MIB"]) * MIB
    values = torch.ones(size // 4, device=device(backend))
    dist.all_reduce(values)
    if not bool((values == dist.get_world_size()).all()):
        sys.exit("the all-reduce gave a wrong sum")
    seconds = timed(values)
    if dist.get_rank() == 0:
        # Of two ranks each sends and receives the whole tensor once.
        result = {"seconds": seconds, "gigabytes_per_second": size / seconds / 1e9}
        sys.stdout.write(f"gpu-test {json.dumps(result)}\n")
        sys.stdout.flush()
    dist.destroy_process_group()


def meet() -> None:
    """Set what PyTorch needs, as a launcher would; a plain process has it already."""
    if "RANK" in os.environ:
        return
    resources = json.loads(RESOURCES.read_text("utf-8"))
    hosts = resources["hosts"]
    os.environ.update(
        RANK=str(hosts.index(resources["current_host"])),
        WORLD_SIZE=str(len(hosts)),
        MASTER_ADDR=hosts[0],
        MASTER_PORT="7777",
    )
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        os.environ.setdefault(name, resources["network_interface_name"])


def device(backend: str) -> torch.device:
    """The rank's own GPU: an instance's first one, or that of a plain process's number."""
    if backend != "nccl":
        return torch.device("cpu")
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(own)
    return own


def timed(values: torch.Tensor) -> float:
    """Seconds that one all-reduce takes."""
    for _ in range(WARM_UP):
        dist.all_reduce(values)
    settle(values)
    started = time.perf_counter()
    for _ in range(ROUNDS):
        dist.all_reduce(values)
    settle(values)
    return (time.perf_counter() - started) / ROUNDS


def settle(values: torch.Tensor) -> None:
    """Wait until everything that was started is done."""
    if values.is_cuda:
        torch.cuda.synchronize()
    else:
        dist.barrier()


if __name__ == "__main__":
    main()
