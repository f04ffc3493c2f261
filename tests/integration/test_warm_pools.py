"""What a job with KeepAlivePeriodInSeconds leaves, who takes it over, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from job_bench import SCOPE, Bench, statuses

from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.lifecycle import Phase, Status
from emulator.model.warm_pool import PoolStatus, WarmPool
from emulator.placement.device import Gpu
from emulator.placement.gpus import Inventory
from emulator.resources.training import job_id
from emulator.resources.training.job import with_keep_alive


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.shutdown()


def kept(seconds: int, **more: Any) -> dict[str, Any]:
    return {
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
            "KeepAlivePeriodInSeconds": seconds,
            **more,
        }
    }


def pool(bench: Bench, name: str) -> WarmPool:
    pool = bench.job(name).warm_pool
    assert pool is not None
    return pool


def pools_on_disk(bench: Bench) -> int:
    directory = bench.context.pool_directory
    return len(list(directory.iterdir())) if directory.exists() else 0


def test_a_matching_job_takes_the_pool_over(bench: Bench) -> None:
    bench.submit('echo "from one" > "$WARM/file"', "one", **kept(600))
    bench.ended("one")
    assert pool(bench, "one").status is PoolStatus.AVAILABLE
    bench.submit('cat "$WARM/file"', "two", **kept(600))
    assert bench.ended("two").life.status is Status.COMPLETED
    assert bench.lines(name="two") == [
        "Warm pool of training job one: cache directories (/opt/ml/sagemaker/warmpoolcache) "
        "are reused.",
        "from one",
    ]
    one = bench.job("one")
    assert one.life.transitions[-1].message == "Resource reused by training job: two"
    assert (pool(bench, "one").status, pool(bench, "one").reused_by) == (PoolStatus.REUSED, "two")
    assert pool(bench, "one").retained_seconds is not None
    assert pool(bench, "two").status is PoolStatus.AVAILABLE
    # One that keeps nothing ends the pool with itself.
    bench.submit('cat "$WARM/file"', "three")
    bench.ended("three")
    assert "from one" in bench.lines(name="three")
    assert pool(bench, "two").reused_by == "three"
    assert bench.job("three").warm_pool is None
    bench.eventually(lambda: pools_on_disk(bench) == 0)


def test_input_data_stays_as_long_as_the_pool(bench: Bench) -> None:
    for name in ("one", "two"):
        bench.submit("true", name, **kept(600))
        bench.ended(name)
        assert bench.supervisor.wait(job_id(SCOPE, name), 60)
    assert bench.folder.let_go == {"one"}, "the second job has its own hold on what both use"
    bench.supervisor.update_keep_alive(job_id(SCOPE, "two"), 0, with_keep_alive)
    bench.eventually(lambda: bench.folder.let_go == {"one", "two"})
    bench.submit("true", "three")
    bench.ended("three")
    bench.eventually(lambda: "three" in bench.folder.let_go)


def test_what_does_not_match_leaves_the_pool_alone(bench: Bench) -> None:
    bench.submit("true", "one", **kept(600))
    bench.ended("one")
    bench.submit("true", "larger", **kept(0, VolumeSizeInGB=2))
    bench.submit("true", "isolated", EnableNetworkIsolation=True)
    for name in ("larger", "isolated"):
        bench.ended(name)
    assert pool(bench, "one").status is PoolStatus.AVAILABLE


def test_a_pool_is_in_use_while_its_job_runs(bench: Bench, tmp_path: Path) -> None:
    bench.submit(f"until [ -e '{tmp_path}/enough' ]; do sleep 0.05; done", "one", **kept(600))
    assert pool(bench, "one").status is PoolStatus.IN_USE
    (tmp_path / "enough").touch()
    bench.ended("one")


def test_a_pool_ends_when_its_time_is_over(bench: Bench) -> None:
    bench.submit("true", "one", **kept(1))
    bench.ended("one")
    bench.eventually(lambda: pool(bench, "one").status is PoolStatus.TERMINATED)
    assert pool(bench, "one").retained_seconds == 1
    bench.eventually(lambda: pools_on_disk(bench) == 0)


def test_updating_the_period(bench: Bench) -> None:
    bench.submit("true", "one", **kept(600))
    bench.ended("one")
    job = bench.supervisor.update_keep_alive(job_id(SCOPE, "one"), 700, with_keep_alive)
    assert job.spec.request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 700
    assert pool(bench, "one").status is PoolStatus.AVAILABLE
    bench.supervisor.update_keep_alive(job_id(SCOPE, "one"), 0, with_keep_alive)
    assert pool(bench, "one").status is PoolStatus.TERMINATED
    with pytest.raises(ValidationError, match="no warm pool"):
        bench.supervisor.update_keep_alive(job_id(SCOPE, "one"), 60, with_keep_alive)


def test_the_period_can_end_while_the_job_runs(bench: Bench) -> None:
    bench.submit("echo ready; sleep 0.5", "one", **kept(600))
    bench.supervisor.update_keep_alive(job_id(SCOPE, "one"), 0, with_keep_alive)
    bench.ended("one")
    bench.eventually(lambda: pool(bench, "one").status is PoolStatus.TERMINATED)


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 1", PoolStatus.AVAILABLE), ("true", PoolStatus.AVAILABLE)],
)
def test_instances_of_a_failed_script_are_kept(
    bench: Bench, script: str, status: PoolStatus
) -> None:
    bench.submit(script, "one", **kept(600))
    bench.ended("one")
    assert pool(bench, "one").status is status


def test_nothing_is_kept_after_an_error_of_the_platform(bench: Bench) -> None:
    bench.folder.broken.add("upload crash")
    bench.submit("true", "one", **kept(600))
    bench.ended("one")
    assert pool(bench, "one").status is PoolStatus.TERMINATED
    bench.eventually(lambda: pools_on_disk(bench) == 0)


def test_spot_jobs_have_no_pools(bench: Bench) -> None:
    limits = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    bench.submit(
        "true", "one", EnableManagedSpotTraining=True, StoppingCondition=limits, **kept(600)
    )
    assert bench.ended("one").warm_pool is None


def test_deleting_jobs(bench: Bench) -> None:
    with pytest.raises(ValidationError, match="not found"):
        bench.supervisor.delete(job_id(SCOPE, "one"))
    bench.submit("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done", "one", **kept(60))
    with pytest.raises(ResourceInUse, match="InProgress"):
        bench.supervisor.delete(job_id(SCOPE, "one"))
    bench.supervisor.stop(job_id(SCOPE, "one"))
    bench.ended("one")
    if pool(bench, "one").status is PoolStatus.AVAILABLE:
        with pytest.raises(ResourceInUse, match="warm pool"):
            bench.supervisor.delete(job_id(SCOPE, "one"))
        bench.supervisor.update_keep_alive(job_id(SCOPE, "one"), 0, with_keep_alive)
    bench.supervisor.delete(job_id(SCOPE, "one"))
    with pytest.raises(ValidationError, match="not found"):
        bench.job("one")
    bench.submit("echo again", "one")
    assert bench.ended("one").life.status is Status.COMPLETED


def test_gpus_stay_with_the_pool(tmp_path: Path) -> None:
    gpu = Gpu("GPU-0", "NVIDIA L40S", 46068)
    bench = Bench(tmp_path, Inventory((gpu,), source="nvml"))
    try:
        bench.submit("true", "one", **kept(600, InstanceType="ml.g5.xlarge"))
        bench.ended("one")
        bench.submit("true", "larger", **kept(0, InstanceType="ml.g5.2xlarge"))
        bench.until(Phase.PENDING, "larger")
        bench.submit("true", "two", **kept(600, InstanceType="ml.g5.xlarge"))
        two = bench.ended("two")
        assert statuses(two)[:2] == ["Starting", "Downloading"], "it passes the one that waits"
        assert "GPUs and cache directories" in " ".join(bench.lines(name="two"))
        (held,) = bench.context.capacity.holdings()["gpus"]
        assert (held["job"], held["instance"]) == ("two", "algo-1")
        assert bench.job("larger").life.phase is Phase.PENDING
        bench.supervisor.update_keep_alive(job_id(SCOPE, "two"), 0, with_keep_alive)
        assert bench.ended("larger").life.status is Status.COMPLETED
    finally:
        bench.supervisor.shutdown()


def test_pools_end_with_the_emulator(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.submit("true", "closed", **kept(600))
    first.ended("closed")
    first.supervisor.shutdown()
    assert pool(first, "closed").status is PoolStatus.TERMINATED
    assert pools_on_disk(first) == 0
    killed = Bench(tmp_path)
    killed.submit("true", "killed", **kept(600))
    killed.ended("killed")
    second = Bench(tmp_path)
    second.supervisor.recover()
    assert pool(second, "killed").status is PoolStatus.TERMINATED
