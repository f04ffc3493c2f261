"""The ports of a training job's launcher that are the same for every job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.model.workload import InstanceGroup

_LAUNCHERS = (
    "sagemaker_torch_distributed_enabled",
    "sagemaker_mpi_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_distributed_dataparallel_enabled",
)
_SDK_DRIVERS = "sm_drivers"
"""The channel by which SDK v3 brings its launchers."""


def launcher_ports(
    request: Mapping[str, Any], groups: tuple[InstanceGroup, ...]
) -> tuple[str, ...]:
    """The ports a job's launcher would take that are the same for every job.

    The toolkit and SDK v3's drivers let all ranks meet on port 7777 of the first host, and
    torchrun on one host uses 29500: on a shared network only one such job can run. A single
    script listens on nothing. (sagemaker-training 5.1.4, sagemaker-train 1.27)
    """
    parameters = request.get("HyperParameters", {})
    enabled = (parameters.get(name, "").strip('"').lower() for name in _LAUNCHERS)
    channels = request.get("InputDataConfig", ())
    drivers = any(channel["ChannelName"] == _SDK_DRIVERS for channel in channels)
    if sum(group.count for group in groups) > 1 or drivers or "true" in enabled:
        return ("port 7777", "port 29500")
    return ()
