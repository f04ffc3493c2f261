from __future__ import annotations

from emulator.drivers.base import Usage
from emulator.drivers.docker.usage import usage_in

# What an engine with cgroup v2 answers, less what nobody reads.
RUNNING = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}, "online_cpus": 2},
    "memory_stats": {"usage": 5000, "limit": 100_000, "stats": {"inactive_file": 2000}},
}


def test_a_running_container() -> None:
    assert usage_in(RUNNING) == Usage(2.5, 3000, 100_000)


def test_the_older_name_of_file_cache() -> None:
    memory = {"usage": 5000, "limit": 100_000, "stats": {"total_inactive_file": 1000}}
    usage = usage_in({**RUNNING, "memory_stats": memory})
    assert usage
    assert usage.memory_bytes == 4000


def test_a_container_that_has_ended_uses_nothing() -> None:
    assert usage_in({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}) is None
