"""S3 clients that training scripts use, each as its documentation has it.

A job runs those that its arguments name and says of each whether it worked.
"""

import io
import os
import subprocess
import sys
import tarfile
import traceback
from pathlib import Path

BUCKET, PREFIX = os.environ["BUCKET"], os.environ["PREFIX"]
AWS = os.environ.get("AWS_PROGRAM", "aws")


def s3torchconnector_map_dataset():
    from s3torchconnector import S3MapDataset

    prefix = f"s3://{BUCKET}/{PREFIX}/in/"
    data = S3MapDataset.from_prefix(prefix, region=os.environ["AWS_REGION"])
    found = {data[n].key.rsplit("/", 1)[1]: data[n].read() for n in range(len(data))}
    assert found == {"a.txt": b"one", "b.txt": b"two"}, found


def s3torchconnector_checkpoint():
    import torch
    from s3torchconnector import S3Checkpoint

    place = S3Checkpoint(region=os.environ["AWS_REGION"])
    uri = f"s3://{BUCKET}/{PREFIX}/model.pt"
    with place.writer(uri) as writer:
        torch.save({"w": torch.arange(2_000_000)}, writer)
    with place.reader(uri) as reader:
        assert torch.load(reader)["w"][-1] == 1_999_999


def pyarrow_file_system():
    from pyarrow import parquet, table

    # By an address it takes the endpoint from the environment.
    place = f"s3://{BUCKET}/{PREFIX}/n.parquet"
    parquet.write_table(table({"n": list(range(1000))}), place)
    assert parquet.read_table(place).num_rows == 1000


def s3fs_open():
    import s3fs

    store = s3fs.S3FileSystem()
    with store.open(f"{BUCKET}/{PREFIX}/s3fs.txt", "wb") as file:
        file.write(b"x" * 6_000_000)
    assert store.size(f"{BUCKET}/{PREFIX}/s3fs.txt") == 6_000_000
    listed = sorted(name.rsplit("/", 1)[1] for name in store.ls(f"{BUCKET}/{PREFIX}/in"))
    assert listed == ["a.txt", "b.txt"], listed


def smart_open_stream():
    from smart_open import open as stream

    with stream(f"s3://{BUCKET}/{PREFIX}/smart.txt.gz", "w") as file:
        file.write("line\n" * 1000)
    with stream(f"s3://{BUCKET}/{PREFIX}/smart.txt.gz") as file:
        assert sum(1 for _ in file) == 1000


def webdataset_pipe():
    import boto3
    import webdataset

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(3):
            info = tarfile.TarInfo(f"{n}.txt")
            info.size = 1
            tar.addfile(info, io.BytesIO(str(n).encode()))
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{PREFIX}/shard.tar", Body=buffer.getvalue())
    url = f"pipe:{AWS} s3 cp s3://{BUCKET}/{PREFIX}/shard.tar -"
    items = list(webdataset.WebDataset(url, shardshuffle=False).decode())
    assert [item["txt"] for item in items] == ["0", "1", "2"], items


def aws_s3_sync():
    here, again = Path("/tmp/here"), Path("/tmp/again")
    (here / "deep").mkdir(parents=True)
    (here / "deep" / "large").write_bytes(os.urandom(12_000_000))
    (here / "small").write_bytes(b"x")
    there = f"s3://{BUCKET}/{PREFIX}/tree"
    for source, target in ((here, there), (there, again)):
        subprocess.run([AWS, "s3", "sync", "--quiet", source, target], check=True)
    for name in ("deep/large", "small"):
        assert (again / name).read_bytes() == (here / name).read_bytes(), name


for name in sys.argv[1:]:
    try:
        globals()[name]()
        print(f"{name}: works", flush=True)
    except Exception:  # noqa: BLE001 - the next one is tried, too
        traceback.print_exc()
