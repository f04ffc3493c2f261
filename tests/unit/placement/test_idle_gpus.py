"""Whose GPUs are unused, from what NVML said of them one moment after another."""

from emulator.placement.device import GpuLoad
from emulator.placement.idle_gpus import IdleGpus
from emulator.placement.leases import Lease

TWO = Lease("arn:two", "two", {"algo-1": ("GPU-0",), "algo-2": ("GPU-1",)})
ONE = Lease("arn:one", "one", {"algo-1": ("GPU-2",)})
ON_CPU = Lease("arn:cpu", "cpu", {"algo-1": ()})
SLICE = Lease("arn:mig", "mig", {"algo-1": ("MIG-0",)})


def since(*looks, leases=(TWO, ONE, ON_CPU, SLICE)):
    """What is known after these looks, ten seconds apart; a look is a load for each GPU."""
    idle = IdleGpus()
    for number, busy in enumerate(looks):
        loads = {f"GPU-{gpu}": GpuLoad(one) for gpu, one in enumerate(busy) if one is not None}
        idle.look(leases, {**loads, "MIG-0": GpuLoad(None)}, 10.0 * number)
    return dict(idle.since)


def test_a_job_is_idle_when_none_of_its_gpus_is_used():
    assert since((90, 80, 50), (0, 0, 50), (0, 0, 50)) == {"arn:two": 10}
    assert since((0, 80, 50)) == {}


def test_work_on_any_of_them_starts_the_time_anew():
    assert since((0, 0, 9), (0, 3, 9), (0, 0, 9)) == {"arn:two": 20}


def test_a_gpu_of_which_nothing_is_known_counts_as_used():
    assert since((0, None, 9)) == {}
    assert "arn:mig" not in since((0, 0, 0))


def test_who_gave_the_gpus_back_is_forgotten():
    idle = IdleGpus()
    idle.look([ONE], {"GPU-2": GpuLoad(0.0)}, 1.0)
    idle.look([], {"GPU-2": GpuLoad(0.0)}, 2.0)
    assert idle.since == {}
    idle.look([ONE], {"GPU-2": GpuLoad(0.0)}, 3.0)
    assert idle.since == {"arn:one": 3.0}
