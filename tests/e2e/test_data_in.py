"""Every way for data to reach a training script, through boto3."""

from __future__ import annotations

import gzip
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from e2e_jobs import channel, log_lines, run, shell_request, wait_for
from emulators import start_emulator

TRAIN = "/opt/ml/input/data/train"


def put(s3: Any, bucket: str, prefix: str, files: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda item: s3.put_object(Bucket=bucket, Key=prefix + item[0], Body=item[1]),
                files.items(),
            )
        )


def source(bucket: str, key: str, **changes: Any) -> dict[str, Any]:
    """The DataSource of a channel."""
    s3 = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}", **changes}
    return {"DataSource": {"S3DataSource": s3}}


def test_instances_change_their_own_files_only(
    sagemaker: Any, s3: Any, logs: Any, bucket: str
) -> None:
    put(s3, bucket, "own/", {"a": b"one", "sub/b c+%.txt": b"two"})
    body = shell_request(
        bucket,
        f"set -e; cd {TRAIN}; cat a; echo; cat 'sub/b c+%.txt'; echo; echo $(hostname) > a; "
        "rm -r sub; mkdir new; echo x > new/y; sleep 1; cat a; find . -type f | sort; "
        f"cat {TRAIN}-manifest",
        instances=2,
        InputDataConfig=[channel(bucket, "train", "own")],
    )
    for _ in range(2):  # the second job has the first one's data, unchanged
        body["TrainingJobName"] += "x"
        job = run(sagemaker, body)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        for host in ("algo-1", "algo-2"):
            lines = log_lines(logs, job["TrainingJobName"], host)[-8:]
            assert lines[:5] == ["one", "two", host, "./a", "./new/y"]
            assert lines[5:] == [
                "own",
                f"s3://{bucket}/own/a",
                f"s3://{bucket}/own/sub/b c+%.txt",
            ]


def test_shards_of_a_manifest(sagemaker: Any, s3: Any, logs: Any, bucket: str) -> None:
    put(s3, bucket, "listed/", {name: name.encode() for name in "abcd"})
    listing = [{"prefix": f"s3://{bucket}/listed/"}, "d", "b", "a"]
    s3.put_object(Bucket=bucket, Key="listing.json", Body=json.dumps(listing).encode())
    given = source(
        bucket,
        "listing.json",
        S3DataType="ManifestFile",
        S3DataDistributionType="ShardedByS3Key",
    )
    body = shell_request(
        bucket,
        f"ls {TRAIN}",
        instances=2,
        InputDataConfig=[{"ChannelName": "train", **given}],
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert log_lines(logs, job["TrainingJobName"], "algo-1")[-2:] == ["a", "d"]
    assert log_lines(logs, job["TrainingJobName"], "algo-2")[-1:] == ["b"]


def test_pipes_of_two_epochs(sagemaker: Any, s3: Any, logs: Any, bucket: str) -> None:
    put(s3, bucket, "piped/", {f"{n}.gz": gzip.compress(f"part {n}\n".encode()) for n in range(3)})
    body = shell_request(
        bucket,
        # The second epoch is closed early; the third pipe is never opened.
        f"cat {TRAIN}_0; head -n 1 {TRAIN}_1; "
        f"while [ -e {TRAIN}_1 ] || ! [ -e {TRAIN}_2 ]; do sleep 0.05; done; ls /opt/ml/input/data",
        InputDataConfig=[channel(bucket, "train", "piped", InputMode="Pipe")],
    )
    body["InputDataConfig"][0]["CompressionType"] = "Gzip"
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    lines = log_lines(logs, job["TrainingJobName"])
    assert lines[-6:] == ["part 0", "part 1", "part 2", "part 0", "train-manifest", "train_2"]


def test_a_truncated_gzip_fails_the_job(sagemaker: Any, s3: Any, bucket: str) -> None:
    data = gzip.compress(b"x" * 100_000)
    put(s3, bucket, "cut/", {"a.gz": data[: len(data) // 2]})
    body = shell_request(
        bucket,
        f"cat {TRAIN}_0 | wc -c; sleep 600",
        InputDataConfig=[
            {**channel(bucket, "train", "cut"), "InputMode": "Pipe", "CompressionType": "Gzip"}
        ],
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == (
        f"ClientError: Data download failed:Failed to download data. S3 key: s3://{bucket}"
        "/cut/a.gz: the gzip file ends too early"
    )


def test_fast_files(sagemaker: Any, s3: Any, logs: Any, bucket: str) -> None:
    data = bytes(range(256)) * 40_000
    put(s3, bucket, "fast/", {"big": data, "sub/ü +%.txt": b"text", "sub/deep/x": b"1"})
    body = shell_request(
        bucket,
        f"cd {TRAIN}; md5sum < big; cat sub/ü*; echo; find . -type f | sort; "
        "touch no 2>/dev/null || echo read-only",
        instances=2,
        InputDataConfig=[channel(bucket, "train", "fast", InputMode="FastFile")],
    )
    job = run(sagemaker, body)
    if "FUSE" in job.get("FailureReason", ""):
        pytest.skip(job["FailureReason"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    for host in ("algo-1", "algo-2"):
        lines = log_lines(logs, job["TrainingJobName"], host)[-6:]
        assert lines[:2] == [f"{hashlib.md5(data).hexdigest()}  -", "text"]
        assert lines[2:] == ["./big", "./sub/deep/x", "./sub/ü +%.txt", "read-only"]


def test_a_partial_prefix_of_fast_files(sagemaker: Any, s3: Any, bucket: str) -> None:
    put(s3, bucket, "part/", {"train-baseline/x.csv": b"1"})
    body = shell_request(
        bucket,
        "true",
        InputDataConfig=[channel(bucket, "train", "part/train", InputMode="FastFile")],
    )
    job = run(sagemaker, body)
    assert job["FailureReason"] == (
        "ClientError: Data download failed:Failed to download data. For FastFile mode, partial S3 "
        "prefix is not supported. S3 prefix has to end with a full file or folder. Add a trailing "
        "'/' to the S3 prefix if it ends with a folder name that is also a prefix for other "
        "folders. Current S3 prefix: [part/train], found S3 object: [part/train-baseline/x.csv]."
    )


def test_several_channels_of_several_modes(sagemaker: Any, s3: Any, logs: Any, bucket: str) -> None:
    put(s3, bucket, "many/", {f"{name}/f": name.encode() for name in ("a", "b", "c")})
    body = shell_request(
        bucket,
        'cd /opt/ml/input/data; cat a/f b/f c_0; echo; python3 -c "import json; c = json.load('
        "open('/opt/ml/input/config/inputdataconfig.json')); "
        "print(*(c[n]['TrainingInputMode'] for n in 'abc'))\"",
        InputDataConfig=[
            channel(bucket, "a", "many/a"),
            channel(bucket, "b", "many/b"),
            channel(bucket, "c", "many/c", InputMode="Pipe"),
        ],
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert log_lines(logs, job["TrainingJobName"])[-2:] == ["abc", "File File Pipe"]


def test_file_systems_and_what_a_killed_emulator_leaves(tmp_path: Path) -> None:
    shared = tmp_path / "efs" / "set"
    shared.mkdir(parents=True)
    (shared / "a").write_text("from efs\n")
    config = tmp_path / "emulator.toml"
    config.write_text(f'[file_systems]\nfs-0123456789abcdef0 = "{tmp_path}/efs"\n')
    where = (tmp_path / "state", "--config", str(config))
    emulator = start_emulator(*where)
    try:
        emulator.client("s3").create_bucket(Bucket="e2e-bucket")
        jobs, logs = emulator.client("sagemaker"), emulator.client("logs")
        given = {
            "FileSystemId": "fs-0123456789abcdef0",
            "FileSystemType": "EFS",
            "DirectoryPath": "/set",
        }
        channels = [
            {
                "ChannelName": mode,
                "DataSource": {
                    "FileSystemDataSource": {**given, "FileSystemAccessMode": mode},
                },
            }
            for mode in ("ro", "rw")
        ]
        command = (
            "cd /opt/ml/input/data; cat ro/a; touch ro/b 2>/dev/null || echo read-only; "
            "hostname >> rw/seen"
        )
        body = shell_request("e2e-bucket", command, instances=2, InputDataConfig=channels)
        job = run(jobs, body)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert log_lines(logs, job["TrainingJobName"])[-2:] == ["from efs", "read-only"]
        assert sorted((shared / "seen").read_text().split()) == ["algo-1", "algo-2"]
        assert sorted(path.name for path in shared.iterdir()) == ["a", "seen"]

        channels[0]["DataSource"]["FileSystemDataSource"]["FileSystemId"] = "fs-00000000000000000"
        body["TrainingJobName"] += "-2"
        with pytest.raises(ClientError, match="No directory stands for the file system fs-0000"):
            jobs.create_training_job(**body)

        # Killed while a job has a mount: nothing of it is in the next one's way.
        put(emulator.client("s3"), "e2e-bucket", "fast/", {"a": b"x"})
        long = shell_request(
            "e2e-bucket",
            f"cat {TRAIN}/a; sleep 600",
            InputDataConfig=[channel("e2e-bucket", "train", "fast", InputMode="FastFile")],
        )
        jobs.create_training_job(**long)
        job = wait_for(
            jobs,
            long["TrainingJobName"],
            lambda job: job["SecondaryStatus"] in ("Training", "Failed"),
        )
        emulator.process.kill()
        emulator.process.wait(60)
        emulator = start_emulator(*where)
        assert list((tmp_path / "state" / "scratch").iterdir()) == []
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    finally:
        emulator.end()
