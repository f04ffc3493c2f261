"""A job's whole life with real processes, files and a database; only S3 is a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_bench import INTERNAL_ERROR, SCOPE, SECONDS, Bench, statuses

from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.lifecycle import Phase, Status
from emulator.resources.training import TRAINING, job_id
from emulator.workloads.run.attempt import SHUTDOWN_NOTICE


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.folder.holding.clear()
    bench.supervisor.shutdown()


def test_success(bench: Bench) -> None:
    bench.submit('echo "hello from $HOST"; echo weights > "$MODEL/model.pth"', instances=2)
    job = bench.ended()
    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [t.message for t in job.life.transitions] == [
        "Preparing the instances for training",
        "Downloading the training image",
        "Training image download completed. Training in progress.",
        "Uploading generated training model",
        "Training job completed",
    ]
    assert job.life.status is Status.COMPLETED
    assert job.artifacts == "s3://bucket/out/job/output/model.tar.gz"
    assert bench.lines("algo-2") == ["hello from algo-2"]
    assert (bench.folder.root / "job/algo-2/model.pth").read_text() == "weights\n"
    assert not bench.context.job_directory(job.spec).exists()
    assert job.life.started == job.life.transitions[1].started


def test_the_last_line_is_readable_before_the_job_has_ended(bench: Bench) -> None:
    bench.folder.holding.add("upload")
    bench.submit("seq 20000; printf 'no newline'")
    assert bench.folder.reached.wait(SECONDS)
    streams = bench.logs.stream_names(SCOPE, TRAINING.log_group, "job/")
    last = bench.logs.backward(SCOPE, TRAINING.log_group, streams[0], limit=2).events
    assert [event.message for event in last] == ["20000", "no newline"]


def test_the_first_instance_that_fails_ends_the_job(bench: Bench) -> None:
    bench.submit(
        'if [ $HOST = algo-2 ]; then printf "rank 1 died" > "$OUTPUT/failure"; exit 3; fi;'
        'echo half > "$MODEL/half"; trap "" TERM; sleep 300',
        instances=2,
    )
    job = bench.ended()
    assert job.life.failure_reason == "AlgorithmError: rank 1 died, exit code: 3"
    assert statuses(job)[-2:] == ["Uploading", "Failed"]
    assert job.artifacts is None
    assert (bench.folder.root / "job/algo-1/half").exists(), "what there is is kept"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "AlgorithmError: , exit code: 1"),
        ("kill -9 $$", "AlgorithmError: , exit code: 137"),
        (
            'echo "ClientError: bad data" > "$OUTPUT/failure"; exit 1',
            "ClientError: bad data",
        ),
        ('ln -s /etc/passwd "$OUTPUT/failure"; exit 1', "AlgorithmError: , exit code: 1"),
        ('mkfifo "$OUTPUT/failure"; exit 1', "AlgorithmError: , exit code: 1"),
    ],
)
def test_failure_reasons(bench: Bench, script: str, reason: str) -> None:
    bench.submit(script)
    job = bench.ended()
    assert job.life.failure_reason == reason
    assert statuses(job) == ["Starting", "Downloading", "Training", "Failed"]


def test_stop_while_training(bench: Bench) -> None:
    bench.submit(
        "trap 'echo saving; echo w > \"$MODEL/m\"; exit 5' TERM; echo ready;"
        "while :; do sleep 0.05; done"
    )
    bench.until_logged("ready")
    assert bench.supervisor.stop(job_id(SCOPE, "job")).life.status is Status.STOPPING
    job = bench.ended()
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert job.life.failure_reason is None
    assert job.artifacts
    assert "saving" in bench.lines()
    assert (bench.folder.root / "job/algo-1/m").exists()


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    object.__setattr__(bench.context, "stop_grace", 0.3)
    bench.submit("trap '' TERM; echo ready; sleep 300")
    bench.until_logged("ready")
    bench.supervisor.stop(job_id(SCOPE, "job"))
    assert bench.ended().life.status is Status.STOPPED


def test_stop_while_downloading(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    bench.submit("echo never")
    assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    job = bench.ended()
    assert statuses(job) == ["Starting", "Downloading", "Stopping", "Stopped"]
    assert job.artifacts is None
    assert bench.lines() == []


def test_stop_while_waiting_for_capacity(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    bench.submit("true", "first", HyperParameters={"needs": "port"})
    bench.until(Phase.DOWNLOADING, "first")
    bench.submit("true", "second", HyperParameters={"needs": "port"})
    bench.until(Phase.PENDING, "second")
    assert bench.job("second").life.transitions[-1].message == "Training job waiting for capacity"
    bench.supervisor.stop(job_id(SCOPE, "second"))
    stopped = bench.ended("second")
    assert statuses(stopped) == ["Starting", "Pending", "Stopping", "Stopped"]
    assert (stopped.life.started, stopped.life.ended) == (None, None)
    bench.folder.holding.clear()
    assert bench.ended("first").life.status is Status.COMPLETED


def test_a_job_that_waited_runs_when_its_turn_comes(bench: Bench) -> None:
    bench.folder.holding.add("stage")
    bench.submit("true", "first", HyperParameters={"needs": "port"})
    bench.until(Phase.DOWNLOADING, "first")
    bench.submit("true", "second", HyperParameters={"needs": "port"})
    bench.until(Phase.PENDING, "second")
    bench.folder.holding.clear()
    second = bench.ended("second")
    assert statuses(second)[:3] == ["Starting", "Pending", "Downloading"]
    assert second.life.transitions[1].message == "Preparing the instances for training"
    assert second.life.transitions[2].started >= bench.ended("first").life.modified


def test_stop_while_uploading(bench: Bench) -> None:
    bench.folder.holding.add("upload")
    bench.submit('echo w > "$MODEL/m"')
    assert bench.folder.reached.wait(SECONDS)
    bench.supervisor.stop(job_id(SCOPE, "job"))
    bench.folder.holding.clear()
    job = bench.ended()
    assert statuses(job)[-2:] == ["Uploading", "Stopped"]
    assert job.artifacts


def test_stop_of_unknown_and_ended_jobs(bench: Bench) -> None:
    with pytest.raises(ValidationError, match=r"^Requested resource not found\.$"):
        bench.supervisor.stop(job_id(SCOPE, "nothing"))
    bench.submit("true")
    bench.ended()
    text = "The request was rejected because the training job is in status Completed."
    with pytest.raises(ValidationError, match=text):
        bench.supervisor.stop(job_id(SCOPE, "job"))


def test_max_runtime(bench: Bench) -> None:
    bench.submit(
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
        StoppingCondition={"MaxRuntimeInSeconds": 3},
    )
    job = bench.ended()
    assert job.life.status is Status.STOPPED
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "MaxRuntimeExceeded"]
    training = job.life.transitions[2]
    assert training.ended is not None
    assert 2 <= training.ended - training.started < 30


@pytest.mark.parametrize(
    ("gate", "reason", "last"),
    [
        ("stage", "ClientError: stage failed:Access Denied", "Downloading"),
        ("upload", "ClientError: upload failed:Access Denied", "Uploading"),
        ("stage crash", INTERNAL_ERROR, "Downloading"),
        ("upload crash", INTERNAL_ERROR, "Uploading"),
    ],
)
def test_trouble_with_the_data(bench: Bench, gate: str, reason: str, last: str) -> None:
    bench.folder.broken.add(gate)
    bench.submit("echo hello")
    job = bench.ended()
    assert job.life.failure_reason == reason
    assert statuses(job)[-2:] == [last, "Failed"]
    assert job.artifacts is None
    if "crash" in gate:
        assert "The emulator failed" in bench.lines()[-1]


def test_an_upload_that_fails_is_not_why_a_job_failed(bench: Bench) -> None:
    bench.folder.broken.add("upload")
    bench.submit('echo w > "$MODEL/m"; exit 4')
    assert bench.ended().life.failure_reason == "AlgorithmError: , exit code: 4"


def test_a_directory_that_the_script_made_read_only_is_removed(bench: Bench) -> None:
    bench.submit('mkdir -p "$OUTPUT/a/b"; touch "$OUTPUT/a/b/c"; chmod 500 "$OUTPUT/a/b"')
    spec = bench.ended().spec
    assert not bench.context.job_directory(spec).exists()


def test_an_image_that_cannot_be_had(bench: Bench) -> None:
    bench.submit("true", image="missing")
    assert bench.ended().life.failure_reason == "ClientError: Cannot pull algorithm container."


def test_what_is_refused_leaves_no_job(bench: Bench) -> None:
    with pytest.raises(ValidationError, match="no more than 4"):
        bench.submit("true", instances=5)
    bench.folder.broken.add("check")
    with pytest.raises(ValidationError, match="No S3 objects"):
        bench.submit("true")
    bench.folder.broken.clear()
    with pytest.raises(ValidationError):
        bench.job()
    bench.submit("true")
    with pytest.raises(ResourceInUse):
        bench.submit("true")


def test_shutdown_fails_what_runs(bench: Bench) -> None:
    bench.submit("trap '' TERM; echo ready; sleep 300")
    bench.until_logged("ready")
    bench.supervisor.shutdown()
    job = bench.job()
    assert job.life.failure_reason == f"{INTERNAL_ERROR} {SHUTDOWN_NOTICE}"
    assert bench.lines()[-1] == SHUTDOWN_NOTICE
    assert bench.supervisor.running() == 0
    with pytest.raises(Exception, match="shutting down"):
        bench.submit("true", "late")


def test_a_job_that_a_shutdown_left_before_its_training_begins_anew(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.folder.holding.add("stage")
    first.submit("true")
    assert first.folder.reached.wait(SECONDS)
    first.supervisor.shutdown()
    bench = Bench(tmp_path)
    bench.supervisor.recover()
    job = bench.ended()
    again = ["Starting", "Downloading"]
    assert statuses(job) == [*again, *again, "Training", "Uploading", "Completed"]
    assert SHUTDOWN_NOTICE in bench.lines()


def test_jobs_that_a_kill_left_before_their_training_begin_anew(tmp_path: Path) -> None:
    killed = Bench(tmp_path)
    killed.folder.holding.add("stage")
    killed.submit("true", "early")
    killed.submit("true", "done")
    for name in ("early", "done"):
        killed.until(Phase.DOWNLOADING, name)
    # What the file holds at this moment is all that a kill would leave.
    shutil.copytree(tmp_path, tmp_path.with_name("after"))
    killed.folder.holding.clear()
    killed.ended("early")
    killed.ended("done")

    bench = Bench(tmp_path.with_name("after"))
    (bench.context.directory / "123456789012/us-east-1/early").mkdir(parents=True, exist_ok=True)
    bench.supervisor.recover()
    bench.ended("done")
    job = bench.ended("early")
    again = ["Starting", "Downloading"]
    assert statuses(job) == [*again, *again, "Training", "Uploading", "Completed"]
    assert not bench.context.job_directory(job.spec).exists()
    assert statuses(bench.job("done"))[-1] == "Completed"


def test_from_the_last_exit_to_the_end_takes_little(bench: Bench) -> None:
    bench.submit('date +%s.%N > "$MODEL/end"')
    job = bench.ended()
    ended = float((bench.folder.root / "job/algo-1/end").read_text())
    assert job.life.ended is not None
    assert job.life.ended - ended < 20, "it was not noticed when it happened"
