"""How jobs end that are interrupted, retried, waited for too long, or met by seeded faults."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_bench import INTERNAL_ERROR, SCOPE, SECONDS, Bench, FolderSyncs, statuses

from emulator.model.errors import ValidationError
from emulator.model.faults import read_fault
from emulator.model.lifecycle import Phase, Status
from emulator.resources.training import TRAINING, job_id
from emulator.resources.training.billing import training_seconds
from emulator.workloads.fault_book import FaultBook

LONG = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
}
ONCE = ["Starting", "Downloading", "Training"]


@pytest.fixture
def new_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(*faults: dict[str, Any], **more: Any) -> Bench:
        book = FaultBook(read_fault(fault) for fault in faults)
        benches.append(Bench(tmp_path, faults=book, **more))
        return benches[-1]

    yield make
    for bench in benches:
        bench.folder.holding.clear()
        bench.supervisor.shutdown()


def spot(limit: int) -> dict[str, Any]:
    return {
        **SPOT,
        "StoppingCondition": {"MaxRuntimeInSeconds": limit, "MaxWaitTimeInSeconds": limit},
    }


def test_an_interrupted_spot_job_goes_on_from_its_checkpoint(
    new_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = new_bench(
        {"kind": "SpotInterruption", "after_seconds": 1.5},
        syncs=FolderSyncs(tmp_path / "checkpoints"),
    )
    bench.submit(
        'if [ -e "$CHECKPOINTS/step" ]; then cat "$CHECKPOINTS/step"; exit 0; fi;'
        "trap 'echo step 7 > \"$CHECKPOINTS/step\"; exit 0' TERM; while :; do sleep 0.05; done",
        **SPOT,
    )
    job = bench.ended()
    assert statuses(job) == [*ONCE, "Interrupted", *ONCE, "Uploading", "Completed"]
    assert bench.lines()[-1] == "step 7"
    assert job.life.started == job.life.transitions[1].started
    assert job.life.held_seconds < (job.life.ended or 0) - job.life.started


def test_instances_that_do_not_heed_the_notice_are_killed(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(
        {"kind": "SpotInterruption", "after_seconds": 0.2, "seconds": 300}, spot_notice=0.3
    )
    bench.submit("trap '' TERM; echo ready; sleep 300", **SPOT)
    bench.until(Phase.INTERRUPTED)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    assert statuses(bench.ended())[-1] == "Stopped"


@pytest.mark.parametrize("phase", ["stage", "train"])
def test_interrupting_by_hand(new_bench: Callable[..., Bench], phase: str) -> None:
    bench = new_bench()
    bench.folder.holding.add(phase)
    bench.submit(LONG, **SPOT)
    if phase == "train":
        bench.until_logged("ready")
    else:
        assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.interrupt(job_id(SCOPE, "job"), 0.05)
    bench.eventually(lambda: bench.job().life.attempts == 2)
    bench.folder.holding.clear()
    bench.eventually(lambda: statuses(bench.job())[-3:] == ONCE)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    job = bench.ended()
    assert "Interrupted" in statuses(job)
    assert job.life.status is Status.STOPPED


def test_what_cannot_be_interrupted(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench()
    with pytest.raises(ValidationError, match="not found"):
        bench.supervisor.interrupt(job_id(SCOPE, "job"))
    bench.submit("true")
    bench.submit("true", "spot", **SPOT)
    bench.ended()
    bench.ended("spot")
    with pytest.raises(ValidationError, match="not a managed spot"):
        bench.supervisor.interrupt(job_id(SCOPE, "job"))
    with pytest.raises(ValidationError, match="no instances"):
        bench.supervisor.interrupt(job_id(SCOPE, "spot"))


def test_no_spot_capacity_until_the_wait_is_over(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "SpotInterruption", "after_seconds": 0.1, "seconds": 300})
    bench.submit(LONG, **spot(4))
    job = bench.ended()
    assert statuses(job) == [*ONCE, "Interrupted", "Stopping", "MaxWaitTimeExceeded"]
    assert job.life.status is Status.STOPPED
    assert 4 <= job.life.modified - job.life.created < 30


@pytest.mark.parametrize("phase", ["wait", "stage", "train"])
def test_max_wait_counts_from_the_creation(new_bench: Callable[..., Bench], phase: str) -> None:
    bench = new_bench()
    if phase == "wait":
        bench.submit(LONG, "first", HyperParameters={"needs": "port"})
        bench.until(Phase.RUNNING, "first")
    bench.folder.holding.add(phase)
    limit = 4 if phase == "train" else 1
    bench.submit(LONG, HyperParameters={"needs": "port"}, **spot(limit))
    job = bench.ended()
    assert statuses(job)[-1] == "MaxWaitTimeExceeded"
    assert (job.artifacts is not None) == (phase == "train"), "what was trained is kept"
    assert limit <= job.life.modified - job.life.created < 30


def test_max_pending(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench()
    bench.submit(LONG, "first", HyperParameters={"needs": "port"})
    bench.until(Phase.RUNNING, "first")
    resources = {"InstanceType": "ml.trn1.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    for name, more in (("trn", {"ResourceConfig": resources}), ("cpu", {})):
        bench.submit(
            "true",
            name,
            HyperParameters={"needs": "port"},
            StoppingCondition={"MaxPendingTimeInSeconds": 1},
            **more,
        )
    assert statuses(bench.ended("trn")) == ["Starting", "Pending", "Stopping", "Stopped"]
    assert bench.job("cpu").life.phase is Phase.PENDING
    bench.supervisor.stop(job_id(SCOPE, "first"))
    assert bench.ended("cpu").life.status is Status.COMPLETED


def test_an_instance_that_fails_is_retried(new_bench: Callable[..., Bench], tmp_path: Path) -> None:
    bench = new_bench({"kind": "InstanceFailure", "host": "algo-2", "after_seconds": 1.5})
    bench.submit(
        f"[ -e '{tmp_path}/'$HOST ] && exit 0; touch '{tmp_path}/'$HOST; {LONG}",
        instances=2,
        RetryStrategy={"MaximumRetryAttempts": 2},
    )
    job = bench.ended()
    assert statuses(job) == [*ONCE, *ONCE, "Uploading", "Completed"]
    assert job.life.attempts == 2
    assert "told" in bench.lines("algo-1"), "a peer of the lost instance"
    assert "told" not in bench.lines("algo-2")


def test_an_instance_that_fails_too_often_fails_the_job(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "InstanceFailure", "after_seconds": 0.1, "times": 9})
    bench.submit("trap '' TERM; sleep 300", RetryStrategy={"MaximumRetryAttempts": 2})
    job = bench.ended()
    assert statuses(job) == [*ONCE, *ONCE, *ONCE, "Failed"]
    assert job.life.failure_reason == INTERNAL_ERROR


def test_an_error_of_the_script_is_not_retried(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench()
    bench.submit("exit 3", RetryStrategy={"MaximumRetryAttempts": 5})
    job = bench.ended()
    assert statuses(job) == [*ONCE, "Failed"]
    assert job.life.failure_reason == "AlgorithmError: , exit code: 3"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("mkdir failure", ""),
        ("ln -s /etc/passwd failure", ""),
        ("ln -s failure failure", ""),
        ("mkfifo failure", ""),
        ("echo why > failure; chmod 0 failure", "why" if os.geteuid() == 0 else ""),
        ("printf 'why \\377' > failure", "why \ufffd"),
        ("head -c 3000000 /dev/zero | tr '\\0' x > failure", "xxx"),
    ],
    ids=["directory", "link", "loop", "fifo", "unreadable", "not text", "huge"],
)
def test_whatever_the_script_leaves_as_its_failure_is_its_own(
    new_bench: Callable[..., Bench], command: str, text: str
) -> None:
    bench = new_bench()
    bench.submit(f'cd "$OUTPUT"; {command}; exit 3')
    life = bench.ended().life
    assert life.failure_reason
    assert life.failure_reason.startswith(f"AlgorithmError: {text}")
    assert life.failure_reason.endswith("exit code: 3")


def test_max_runtime_covers_all_attempts(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "SpotInterruption", "after_seconds": 2.5, "times": 9})
    bench.submit(
        LONG,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 4, "MaxWaitTimeInSeconds": 60},
    )
    job = bench.ended()
    assert statuses(job)[-1] == "MaxRuntimeExceeded"
    assert job.life.attempts == 2


@pytest.mark.parametrize("stage", ["Starting", "Downloading", "Training", "Uploading"])
def test_internal_errors_at_each_stage(new_bench: Callable[..., Bench], stage: str) -> None:
    bench = new_bench({"kind": "InternalServerError", "stage": stage, "job": "seed*"})
    bench.submit("sleep 0.5", "seeded")
    bench.submit("sleep 0.5", "other")
    job = bench.ended("seeded")
    assert job.life.failure_reason == INTERNAL_ERROR
    assert statuses(job)[-2:] == [stage, "Failed"]
    assert bench.ended("other").life.status is Status.COMPLETED


def test_no_capacity(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "CapacityError"})
    bench.submit("true")
    job = bench.ended()
    assert statuses(job) == ["Starting", "Failed"]
    assert job.life.failure_reason == (
        "CapacityError: Unable to provision requested ML compute capacity. "
        "Please retry using a different ML instance type."
    )
    assert training_seconds(job) is None


def test_a_slow_image_pull(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "SlowImagePull", "seconds": 300})
    bench.submit("true")
    bench.eventually(
        lambda: bench.job().life.transitions[-1].message == "Downloading the training image"
    )
    bench.supervisor.stop(job_id(SCOPE, "job"))
    assert statuses(bench.ended()) == ["Starting", "Downloading", "Stopping", "Stopped"]


def test_a_shutdown_within_the_grace_of_a_stop(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench()
    bench.submit("trap '' TERM; echo w > \"$MODEL/m\"; echo ready; sleep 300")
    bench.until_logged("ready")
    bench.supervisor.stop(job_id(SCOPE, "job"))
    bench.until(Phase.STOPPING)
    began = time.monotonic()
    bench.supervisor.shutdown()
    assert time.monotonic() - began < SECONDS
    job = bench.job()
    assert statuses(job)[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert job.life.failure_reason is None
    assert job.artifacts


def test_a_stop_while_interrupted(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench({"kind": "SpotInterruption", "seconds": 300})
    bench.submit(LONG, **SPOT)
    bench.until(Phase.INTERRUPTED)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    assert statuses(bench.ended())[-3:] == ["Interrupted", "Stopping", "Stopped"]


def test_a_stop_does_not_wait_for_the_image(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench()
    bench.submit("true", image="endless")
    image = TRAINING.words.downloading_image
    bench.eventually(lambda: bench.job().life.transitions[-1].message == image)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    assert bench.ended().life.status is Status.STOPPED


def test_the_emulators_own_output_tells_how_a_job_goes(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench()
    with caplog.at_level(logging.INFO, "emulator.workloads.run.status"):
        bench.submit("exit 3")
        assert bench.ended().life.phase is Phase.FAILED
    assert [record.getMessage() for record in caplog.records] == [
        "training job job: Downloading",
        "training job job: Training",
        "training job job: Failed: AlgorithmError: , exit code: 3",
    ]


def test_a_long_reason_is_told_with_its_end(
    new_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = new_bench()
    with caplog.at_level(logging.WARNING, "emulator.workloads.run.status"):
        bench.submit(
            '{ head -c 900 /dev/zero | tr "\\0" x; echo the cause; } > "$OUTPUT/failure"; exit 3'
        )
        assert bench.ended().life.phase is Phase.FAILED
    told = caplog.records[-1].getMessage()
    assert "the cause, exit code: 3" in told
    assert len(told) < 400
