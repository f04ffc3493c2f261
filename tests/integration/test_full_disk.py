"""A disk that is really full: a small file system of its own. Needs the right to mount one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from http_server import serving

from emulator.aws.gateway import Gateway
from emulator.aws.s3.proxy import S3Proxy
from emulator.aws.wire.http import HttpRequest
from emulator.data.objectstore.disk_reserve import Reserve
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.weed import no_space
from emulator.database import Database
from emulator.model.errors import SetupError
from emulator.settings import Settings

MIB = 1 << 20
SCHEMA = ("CREATE TABLE t (x);",)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Until not one byte more fits."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def add(database: Database) -> None:
    with database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(50000))")


def add_many(database: Database) -> None:
    for _ in range(10):
        add(database)


def test_changes_find_room_for_as_long_as_the_reserve_lasts(disk: Path) -> None:
    reserve = Reserve(disk, 8 * MIB)
    reserve.release_to_start()
    database = Database(disk / "db", SCHEMA, reserve.make_room)
    for left in (7, 6, 5):
        fill(disk)
        assert os.statvfs(disk).f_bavail == 0
        add(database)
        assert (disk / "reserve").stat().st_size == left * MIB
    (disk / "filler").unlink()
    add(database)
    assert (disk / "reserve").stat().st_size == 8 * MIB
    database.close()


def test_without_a_reserve_nothing_can_be_changed(disk: Path) -> None:
    database = Database(disk / "db", SCHEMA)
    fill(disk)
    with pytest.raises(sqlite3.OperationalError, match=r"full|I/O"):
        add_many(database)
    database.close()


def test_a_start_on_a_full_disk_opens_its_database(disk: Path) -> None:
    Reserve(disk, 16 * MIB).release_to_start()
    fill(disk)
    reserve = Reserve(disk, 16 * MIB)
    reserve.release_to_start()
    database = Database(disk / "db", SCHEMA, reserve.make_room)
    add(database)
    database.close()
    fill(disk)
    reserve.release_to_start()
    fill(disk)
    with pytest.raises(SetupError, match="is full"):
        Reserve(disk, 16 * MIB).release_to_start()


def test_an_operation_that_finds_no_room_is_to_be_sent_again(disk: Path) -> None:
    database = Database(disk / "db", SCHEMA)
    services = {
        "sagemaker": {"AddTags": lambda _: add_many(database)},
        "logs": {"PutLogEvents": lambda _: append(disk / "stream")},
    }
    gateway = Gateway(services, Settings(state_dir=disk))
    requests = (
        ask("SageMaker.AddTags", ResourceArn=ARN, Tags=[{"Key": "a", "Value": "b"}]),
        ask("Logs_20140328.PutLogEvents", logGroupName="a", logStreamName="b", logEvents=EVENTS),
    )
    fill(disk)
    for request in requests:
        reply = gateway.answer(request, None)
        told = json.loads(reply.body)
        assert (reply.status, told["__type"]) == (503, "ServiceUnavailable")
        assert f"state directory {disk} is full" in told["message"]
    (disk / "filler").unlink()
    assert [gateway.answer(request, None).status for request in requests] == [200, 200]
    database.close()


def test_an_upload_that_the_disk_has_no_room_for_is_refused_with_the_reason(disk: Path) -> None:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    with EmbeddedStore(disk, "key", "secret") as store:
        proxy = S3Proxy(store.endpoint, *keys.values(), no_space=partial(no_space, store.directory))
        with serving(Gateway({}, Settings(state_dir=disk)), proxy) as url:
            config = Config(retries={"total_max_attempts": 1})
            s3 = boto3.client(
                "s3", endpoint_url=url, region_name="us-east-1", config=config, **keys
            )
            s3.create_bucket(Bucket="bucket")
            s3.put_object(Bucket="bucket", Key="before", Body=b"before")
            with pytest.raises(ClientError, match="No space left on device") as error:
                s3.put_object(Bucket="bucket", Key="large", Body=bytes(44 * MIB))
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            fill(disk)
            source = {"Bucket": "bucket", "Key": "before"}
            with pytest.raises(ClientError, match="No space left on device"):
                s3.copy_object(Bucket="bucket", Key="copy", CopySource=source)
            assert s3.get_object(Bucket="bucket", Key="before")["Body"].read() == b"before"
            (disk / "filler").unlink()
            s3.put_object(Bucket="bucket", Key="after", Body=b"after")


ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
EVENTS = [{"timestamp": 1_700_000_000_000, "message": "text"}]


def append(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(bytes(4096))


def ask(target: str, **params: object) -> HttpRequest:
    headers = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"}
    return HttpRequest("POST", "/", "", headers, json.dumps(params).encode())
