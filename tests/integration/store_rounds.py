"""Is anything lost that the embedded store has acknowledged, when it is killed again and again?

Run by hand for many rounds: `python tests/integration/store_rounds.py --rounds 100`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emulator.data.objectstore import embedded
from emulator.data.objectstore.embedded import EmbeddedStore

BUCKET = "rounds"
PART = 5 << 20
"""Bytes: the least that S3 takes as a part that is not the last."""
WRITERS = 3
KEYS = ("key", "secret")


@dataclass
class Ledger:
    """What the store has acknowledged."""

    objects: dict[str, str] = field(default_factory=dict)
    """MD5 of the content, by key; "" for an object that was deleted."""
    uncertain: set[str] = field(default_factory=set)
    """Keys of requests without an answer: done or not, both are right."""
    uploads: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By key, uploads whose part 1 was acknowledged: the upload's id and the part's ETag."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def client(endpoint: str, attempts: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=20,
        ),
    )


class Writer(threading.Thread):
    """Puts, uploads in parts and deletes until it is told to end; tries nothing again."""

    def __init__(self, endpoint: str, ledger: Ledger, name: str):
        super().__init__(daemon=True)
        self._s3 = client(endpoint, 1)
        self._ledger = ledger
        self._prefix = name
        self._random = random.Random(name)
        self.ending = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ending.is_set():
            number += 1
            key = f"{self._prefix}/{number}"
            act = self._random.choice((self._put, self._put, self._parts, self._remove))
            try:
                act(key)
            except (BotoCoreError, ClientError):
                time.sleep(0.02)

    def _put(self, key: str) -> None:
        body = self._random.randbytes(self._random.choice((0, 10, 10_000, 1_500_000)))
        self._certainly(key, body, lambda: self._s3.put_object(Bucket=BUCKET, Key=key, Body=body))

    def _parts(self, key: str) -> None:
        first, last = self._random.randbytes(PART), self._random.randbytes(1000)
        where = {"Bucket": BUCKET, "Key": key}
        upload = self._s3.create_multipart_upload(**where)["UploadId"]
        where["UploadId"] = upload
        etag = self._s3.upload_part(**where, PartNumber=1, Body=first)["ETag"]
        with self._ledger.lock:
            self._ledger.uploads[key] = (upload, etag)
        parts = [{"ETag": etag, "PartNumber": 1}]
        parts.append(
            {
                "ETag": self._s3.upload_part(**where, PartNumber=2, Body=last)["ETag"],
                "PartNumber": 2,
            }
        )
        complete = {**where, "MultipartUpload": {"Parts": parts}}
        with self._ledger.lock:
            del self._ledger.uploads[key]
        self._certainly(key, first + last, lambda: self._s3.complete_multipart_upload(**complete))

    def _remove(self, _: str) -> None:
        with self._ledger.lock:
            mine = [k for k, md5 in self._ledger.objects.items() if md5 and self._is_mine(k)]
        if mine:
            key = self._random.choice(mine)
            self._certainly(key, None, lambda: self._s3.delete_object(Bucket=BUCKET, Key=key))

    def _is_mine(self, key: str) -> bool:
        return key.startswith(f"{self._prefix}/") and key not in self._ledger.uncertain

    def _certainly(self, key: str, body: bytes | None, act: Any) -> None:
        with self._ledger.lock:
            self._ledger.uncertain.add(key)
        act()
        with self._ledger.lock:
            self._ledger.objects[key] = "" if body is None else hashlib.md5(body).hexdigest()
            self._ledger.uncertain.discard(key)


def rounds(root: Path, number: int, seconds: float, seed: int = 0) -> dict[str, int]:
    """Kill the store `number` times while it is written to; raises AssertionError for a loss."""
    ledger, chance = Ledger(), random.Random(seed)
    embedded.STEADY_SECONDS = 0
    finished = 0
    with EmbeddedStore(root, *KEYS) as store:
        patient = client(store.endpoint, 10)
        patient.create_bucket(Bucket=BUCKET)
        for turn in range(number):
            before = store.pid
            writers = [Writer(store.endpoint, ledger, f"{turn}-{n}") for n in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(0.1, seconds))
            assert before
            os.kill(before, signal.SIGKILL)
            wait_until_it_is_back(store, before)
            time.sleep(chance.uniform(0, seconds / 4))
            for writer in writers:
                writer.ending.set()
            for writer in writers:
                writer.join()
            finished += finish(patient, ledger)
            check(patient, ledger, f"{turn}-")
        check(patient, ledger, "")
    kept = sum(bool(md5) for md5 in ledger.objects.values())
    return {
        "rounds": number,
        "kept": kept,
        "deleted": len(ledger.objects) - kept,
        "uploads finished after a kill": finished,
        "without an answer": len(ledger.uncertain),
    }


def wait_until_it_is_back(store: EmbeddedStore, before: int, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while store.down or store.pid in (None, before):
        assert time.monotonic() < deadline, f"not back: {store.down}"
        time.sleep(0.02)


def finish(s3: Any, ledger: Ledger) -> int:
    """Complete the uploads that a kill interrupted: their first part was acknowledged."""
    uploads, ledger.uploads = ledger.uploads, {}
    for key, (upload, etag) in uploads.items():
        parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
        where = {"Bucket": BUCKET, "Key": key}
        s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
        body = read(s3, key)
        assert body is not None
        assert f'"{hashlib.md5(body).hexdigest()}"' == etag, key
        ledger.objects[key] = hashlib.md5(body).hexdigest()
        ledger.uncertain.discard(key)
    return len(uploads)


def check(s3: Any, ledger: Ledger, prefix: str) -> None:
    for key, md5 in ledger.objects.items():
        if not key.startswith(prefix) or key in ledger.uncertain:
            continue
        body = read(s3, key)
        found = "" if body is None else hashlib.md5(body).hexdigest()
        assert found == md5, f"{key}: {found or 'nothing'} instead of {md5 or 'nothing'}"


def read(s3: Any, key: str) -> bytes | None:
    try:
        answer = s3.get_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    buffer = io.BytesIO()
    for piece in answer["Body"].iter_chunks(1 << 20):
        buffer.write(piece)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-rounds-") as folder:
        print(rounds(Path(folder), options.rounds, options.seconds, options.seed))


if __name__ == "__main__":
    main()
