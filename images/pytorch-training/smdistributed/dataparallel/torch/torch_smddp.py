"""Importing this registers the backend `smddp`, as AWS's module of that name does.

`init_process_group(backend="smddp")` then gives what NCCL gives where there is a GPU, and
what gloo gives where there is none.
"""

from datetime import timedelta

import torch
import torch.distributed as dist


def _process_group(
    store: dist.Store, rank: int, size: int, timeout: timedelta
) -> dist.ProcessGroup:
    if torch.cuda.is_available():
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        return dist.ProcessGroupNCCL(store, rank, size, options)
    return dist.ProcessGroupGloo(store, rank, size, timeout)


if not hasattr(dist.Backend, "SMDDP"):
    dist.Backend.register_backend("smddp", _process_group, devices=["cpu", "cuda"])
