"""Uploads over one kept connection: `s3_one_connection.py ENDPOINT BUCKET SECRET`."""

import io
import sys

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, bucket, secret = sys.argv[1:]


def client(secret, attempts, token=None):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="emulator",
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(max_pool_connections=1, retries={"total_max_attempts": attempts}),
    )


s3 = client(secret, 3)
for turn in range(2):
    for size in (0, 10_000, 3_000_000):
        for body in (b"x" * size, io.BytesIO(b"x" * size)):
            answer = s3.put_object(Bucket=bucket, Key=f"{turn}/{size}", Body=body)
            assert answer["ETag"], (turn, size, answer)
            read = s3.get_object(Bucket=bucket, Key=f"{turn}/{size}")["Body"].read()
            assert len(read) == size
    kms = s3.put_object(Bucket=bucket, Key="kms", Body=b"", ServerSideEncryption="aws:kms")
    assert kms["ETag"]

for token in (None, "token"):
    wrong = client("wrong", 3, token)
    for size in (0, 10_000, 3_000_000):
        for more in ({}, {"ServerSideEncryption": "aws:kms"}):
            try:
                wrong.put_object(Bucket=bucket, Key="refused", Body=b"x" * size, **more)
            except ClientError as error:
                if error.response["Error"]["Code"] != "SignatureDoesNotMatch":
                    raise
            else:
                raise SystemExit("it was not refused")

print("botocore", botocore.__version__)
