"""What becomes of a job whose instances are gone with an earlier emulator."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.plan import Exit
from emulator.model.record import Job
from emulator.model.run_record import Cause, Ending, Reason, RunRecord
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job
from emulator.workloads.run.recovery import (
    Past,
    ending_of_lost,
    holds_nothing,
    remove_leftovers,
    run_of,
)

BEGIN, PENDING, LOADS = Phase.STARTING, Phase.PENDING, Phase.DOWNLOADING
TRAINS, TAKEN, UPLOADS = Phase.RUNNING, Phase.INTERRUPTED, Phase.UPLOADING


def life(*statuses: Phase, stopped: bool = False) -> Lifecycle:
    """Each status lasts ten seconds."""
    made = Lifecycle.begin(0)
    for number, status in enumerate(statuses, 1):
        made = made.enter(status, "", 10 * number)
    return made.request_stop(10 * len(statuses)) if stopped else made


def spec(**more: Any) -> WorkloadSpec:
    return training_job(
        {
            "TrainingJobName": "job",
            "RoleArn": "arn:aws:iam::123456789012:role/Role",
            "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            },
            **more,
        },
        Scope("123456789012", "us-east-1"),
    )


@pytest.mark.parametrize(
    ("statuses", "past"),
    [
        ([], Past()),
        ([LOADS, TRAINS], Past()),
        ([LOADS, TRAINS, BEGIN], Past(10, 1)),
        ([LOADS, TRAINS, TAKEN, BEGIN, LOADS, TRAINS], Past(10, 0)),
        ([LOADS, TRAINS, BEGIN, PENDING, LOADS, TRAINS, TAKEN, BEGIN, BEGIN], Past(20, 2)),
        ([LOADS, TRAINS, UPLOADS, BEGIN], Past(10, 1)),
    ],
)
def test_what_attempts_have_used_is_in_the_record(statuses: list[Phase], past: Past) -> None:
    assert Past.of(life(*statuses)) == past


@pytest.mark.parametrize(
    ("statuses", "waits"),
    [
        ([], True),
        ([PENDING], True),
        ([LOADS], False),
        ([LOADS, TRAINS], False),
        ([LOADS, TRAINS, TAKEN], True),
        ([LOADS, TRAINS, BEGIN], True),
    ],
)
def test_what_has_no_instances_waits_on(statuses: Sequence[Phase], waits: bool) -> None:
    assert holds_nothing(life(*statuses)) is waits
    assert not holds_nothing(life(*statuses, stopped=True))


DECIDED = Ending(Cause.DONE)


@pytest.mark.parametrize(
    ("record", "spot", "stopped", "statuses", "cause"),
    [
        (None, False, False, [LOADS], Cause.LOST),
        (None, False, False, [LOADS, TRAINS], Cause.LOST),
        (None, True, False, [LOADS], Cause.INTERRUPTED),
        (None, True, False, [LOADS, TRAINS], Cause.INTERRUPTED),
        (None, True, False, [LOADS, TRAINS, UPLOADS], Cause.LOST),
        (None, True, True, [LOADS, TRAINS], Cause.CANCELLED),
        (None, False, True, [LOADS, TRAINS, UPLOADS], Cause.CANCELLED),
        (None, False, True, [LOADS], None),
        (None, False, True, [], None),
        (DECIDED, True, False, [LOADS, TRAINS], Cause.DONE),
        (DECIDED, False, True, [LOADS, TRAINS, UPLOADS], Cause.DONE),
    ],
)
def test_how_the_training_of_a_lost_job_ended(
    record: Ending | None,
    spot: bool,
    stopped: bool,
    statuses: list[Phase],
    cause: Cause | None,
) -> None:
    ending = ending_of_lost(
        spec(EnableManagedSpotTraining=spot), life(*statuses, stopped=stopped), record
    )
    assert (ending and ending.cause) is cause


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (None, None),
        (Ending(Cause.DONE), None),
        (Ending(Cause.FAILED, Exit("algo-2", 3, 4.5)), None),
        (Ending(Cause.INTERRUPTED, away=7), Reason.MAX_WAIT),
        (Ending(Cause.HUNG, why="idle"), Reason.STOP),
    ],
)
def test_what_is_written_down_is_read_again(ending: Ending | None, reason: Reason | None) -> None:
    run = RunRecord("docker", 12.5, 3.0, 1, "/pools/x", ending, reason)
    assert RunRecord.from_json(run.to_json()) == run


def job(*statuses: Phase) -> Job:
    return Job(spec(), life(*statuses))


def test_an_attempt_of_an_earlier_version_is_read_from_its_files(tmp_path: Path) -> None:
    attempt = {"runtime": "docker", "began": 9.5, "trained": 0, "retries": 1, "cache": None}
    (tmp_path / "attempt.json").write_text(json.dumps(attempt))
    assert run_of(job(LOADS, TRAINS), tmp_path) == RunRecord("docker", 9.5, 0, 1)
    assert run_of(job(LOADS), tmp_path) is None, "it had no instances yet"
    ending = {"cause": "WISH", "failed": None, "away": 0, "why": ""}
    text = json.dumps({"ending": ending, "reason": "STOP"})
    (tmp_path / "ending.json").write_text(text)
    run = run_of(job(LOADS, TRAINS), tmp_path)
    assert run
    assert (run.ending, run.reason) == (Ending(Cause.CANCELLED), Reason.STOP)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ending": {"cause": "X"}, "reason": null}'])
def test_a_foreign_record_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempt.json").write_text(text)
    assert run_of(job(LOADS, TRAINS), tmp_path) is None
    assert run_of(job(LOADS, TRAINS), tmp_path / "nothing") is None


def test_only_directories_of_jobs_that_run_stay(tmp_path: Path) -> None:
    scope = tmp_path / "123456789012" / "us-east-1"
    names = ("runs", "ended", "half~1", "aside.1795837569")
    for name in names:
        (scope / name / "algo-1").mkdir(parents=True)
    remove_leftovers(tmp_path, {scope / "runs"})
    assert not (scope / "ended").exists(), "a new job may have the name at once"
    for thread in threading.enumerate():
        if thread.name == "leftovers":
            thread.join()
    assert sorted(path.name for path in scope.iterdir()) == ["aside.1795837569", "runs"]
