"""What a job comes to when its checkpoints cannot be saved, and what it says while it uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_bench import SCOPE, Bench

from emulator.data.objectstore.objects import ObjectStore
from emulator.model.lifecycle import Status
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import job_id
from emulator.workloads.transfers.checkpoint_sync import S3Syncs
from emulator.workloads.transfers.inputs_outputs import S3Outputs
from emulator.workloads.transfers.reports import JobReports

NOWHERE = {"S3Uri": "s3://no-such-bucket-anywhere/c"}
NOWHERE_ELSE = {"S3OutputPath": "s3://no-such-bucket-anywhere/t"}


@pytest.fixture
def bench(tmp_path: Path, object_store: ObjectStore) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    reports = JobReports(bench.store, bench.logs)
    syncs = Unrestored(object_store, reports, tmp_path / "kept", interval=0.05, patience=0)
    object.__setattr__(bench.context, "syncs", syncs)
    yield bench
    bench.folder.holding.clear()
    bench.supervisor.shutdown()


class Unrestored(S3Syncs):
    """The bucket goes away between the start and the end."""

    def _restore(self, *_: object) -> None:
        pass


def test_a_job_whose_checkpoints_are_not_saved_fails_with_its_model_uploaded(
    bench: Bench, tmp_path: Path
) -> None:
    bench.submit(
        'echo w > "$MODEL/m"; echo c > "$MODEL/../checkpoints/c"', CheckpointConfig=NOWHERE
    )
    job = bench.ended()
    (place,) = (tmp_path / "kept/123456789012/us-east-1").iterdir()
    assert job.life.status is Status.FAILED
    assert job.life.failure_reason
    assert job.life.failure_reason.startswith(
        "ClientError: Upload of /opt/ml/checkpoints failed:NoSuchBucket (404): "
    )
    assert job.life.failure_reason.endswith(f" The files are kept in {place}.")
    assert (place / "algo-1/checkpoints/c").read_text() == "c\n"
    assert (bench.folder.root / "job/algo-1/m").exists(), "the model is no less worth for that"
    assert job.life.failure_reason in bench.lines()


def test_that_they_are_not_is_not_why_a_job_failed(bench: Bench) -> None:
    bench.submit('echo c > "$MODEL/../checkpoints/c"; exit 4', CheckpointConfig=NOWHERE)
    assert bench.ended().life.failure_reason == "AlgorithmError: , exit code: 4"


@pytest.mark.parametrize("put", ['echo x > "$BOARD"', 'ln -s / "$BOARD"'])
def test_what_is_no_directory_does_not_cost_the_job_its_model(bench: Bench, put: str) -> None:
    bench.submit(
        f'BOARD="$MODEL/../output/tensorboard"; {put}; echo w > "$MODEL/m"',
        TensorBoardOutputConfig=NOWHERE_ELSE,
    )
    assert bench.ended().life.status is Status.COMPLETED
    assert (bench.folder.root / "job/algo-1/m").exists()


def test_what_cannot_be_read_is_said_with_the_model_uploaded(bench: Bench) -> None:
    """No file system takes such a name: looking at it fails for root, too."""
    unreadable = f"/opt/ml/output/{'n' * 256}"
    bench.submit(
        'echo w > "$MODEL/m"', TensorBoardOutputConfig={**NOWHERE_ELSE, "LocalPath": unreadable}
    )
    reason = bench.ended().life.failure_reason
    assert reason
    assert "failed:not all of it could be read. The files are kept in" in reason
    assert (bench.folder.root / "job/algo-1/m").exists()


def test_a_missing_bucket_is_found_before_the_training(
    bench: Bench, object_store: ObjectStore, tmp_path: Path
) -> None:
    reports = JobReports(bench.store, bench.logs)
    syncs = S3Syncs(object_store, reports, tmp_path / "kept", interval=0.05, patience=0)
    object.__setattr__(bench.context, "syncs", syncs)
    bench.submit("echo never", CheckpointConfig=NOWHERE)
    reason = bench.ended().life.failure_reason
    assert reason
    assert reason.startswith("ClientError: Data download failed:")
    assert "never" not in bench.lines()


def test_a_long_upload_says_how_far_it_is(
    bench: Bench, object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    class Hasty(JobReports):
        """Every look at its clock is a minute later."""

        ticks = 0

        def monotonic(self) -> float:
            Hasty.ticks += 60
            return Hasty.ticks

    said: list[str] = []

    class Listening(Hasty):
        def status(self, spec: WorkloadSpec, message: str) -> None:
            super().status(spec, message)
            said.append(bench.supervisor.job(job_id(SCOPE, spec.name)).life.transitions[-1].message)

    reports = Listening(bench.store, bench.logs)
    outputs = S3Outputs(object_store, reports, tmp_path / "kept")
    object.__setattr__(bench.context, "outputs", outputs)
    bench.submit(
        'head -c 3000000 /dev/urandom > "$MODEL/m"',
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
    )
    job = bench.ended()
    assert said[0].startswith("Uploading generated training model: 1.0 MB of 3.0 MB, ")
    assert said[-1] == "Uploading generated training model"
    assert job.life.transitions[-2].message == "Uploading generated training model"
    assert any(line.startswith("Uploading generated training model: ") for line in bench.lines())
