"""The `smddp` backend of torch.distributed, over NCCL or gloo."""
