"""What an S3 store does through the emulator's port, feature by feature: the rows of docs/s3.md."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

KEYS = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator-secret"}
BODY = b"123456789"
CHECKSUMS = {
    "CRC32": zlib.crc32(BODY).to_bytes(4, "big"),
    # Check values of the two algorithms for these digits.
    "CRC32C": bytes.fromhex("e3069283"),
    "CRC64NVME": bytes.fromhex("ae8b14860a799888"),
    "SHA256": hashlib.sha256(BODY).digest(),
}
ODD_KEYS = (
    "a//b",
    "/leading",
    "a/../b",
    "a/./b",
    "ends/",
    "ünïcode/日本語",
    "two  spaces",
    "plus+",
    "100%",
    "a%2Fb",
    "q?x=1&y#z",
)


def client(endpoint: str, **more: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4"),
        **KEYS,
        **more,
    )


@dataclass(frozen=True)
class Place:
    """A bucket of one feature's own."""

    endpoint: str
    s3: Any
    bucket: str

    def put(self, key: str = "key", **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.s3.put_object(
            Bucket=self.bucket, Key=key, **{"Body": BODY, **more}
        )
        return found

    def get(self, key: str = "key", **more: Any) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key, **more)["Body"].read()
        return body


Feature = Callable[[Place], bool]


def refused(action: Callable[[], Any], *codes: str) -> bool:
    try:
        action()
    except ClientError as error:
        return not codes or error.response["Error"]["Code"] in codes
    return False


def objects(at: Place) -> bool:
    at.put(Metadata={"a": "b"}, ContentType="text/x")
    head = at.s3.head_object(Bucket=at.bucket, Key="key")
    at.s3.copy_object(Bucket=at.bucket, Key="copy", CopySource=f"{at.bucket}/key")
    at.s3.delete_object(Bucket=at.bucket, Key="key")
    return (
        head["Metadata"] == {"a": "b"}
        and at.get("copy", Range="bytes=2-4") == b"345"
        and refused(at.get, "NoSuchKey")
    )


def multipart(at: Place) -> bool:
    at.s3.upload_fileobj(io.BytesIO(b"x" * (9 << 20)), at.bucket, "key")
    return len(at.get()) == 9 << 20


def region(at: Place) -> bool:
    return bool(at.s3.head_bucket(Bucket=at.bucket).get("BucketRegion") == "us-east-1")


def kms(at: Place) -> bool:
    at.put(ServerSideEncryption="aws:kms", SSEKMSKeyId="a-key")
    return at.get() == BODY


def session_token(at: Place) -> bool:
    client(at.endpoint, aws_session_token="token").put_object(
        Bucket=at.bucket, Key="key", Body=BODY
    )
    return at.get() == BODY


def versioning(at: Place) -> bool:
    at.s3.put_bucket_versioning(Bucket=at.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = at.put()["VersionId"]
    at.put(Body=b"new")
    at.s3.delete_object(Bucket=at.bucket, Key="key")
    found = at.s3.list_object_versions(Bucket=at.bucket)
    return (
        at.get(VersionId=first) == BODY
        and len(found["Versions"]) == 2
        and len(found["DeleteMarkers"]) == 1
        and refused(at.get, "NoSuchKey")
    )


def object_lock(at: Place) -> bool:
    bucket = f"{at.bucket}-lock"
    at.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    version = at.s3.put_object(Bucket=bucket, Key="key", Body=BODY)["VersionId"]
    hold = {"Status": "ON"}
    at.s3.put_object_legal_hold(Bucket=bucket, Key="key", LegalHold=hold)
    held = refused(lambda: at.s3.delete_object(Bucket=bucket, Key="key", VersionId=version))
    at.s3.put_object_legal_hold(Bucket=bucket, Key="key", LegalHold={"Status": "OFF"})
    return held


def object_tags(at: Place) -> bool:
    at.put(Tagging="a=b")
    found = at.s3.get_object_tagging(Bucket=at.bucket, Key="key")["TagSet"]
    return bool(found == [{"Key": "a", "Value": "b"}])


def bucket_tags(at: Place) -> bool:
    tags = [{"Key": "a", "Value": "b"}]
    at.s3.put_bucket_tagging(Bucket=at.bucket, Tagging={"TagSet": tags})
    return bool(at.s3.get_bucket_tagging(Bucket=at.bucket)["TagSet"] == tags)


def cors(at: Place) -> bool:
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["http://page"]}
    at.s3.put_bucket_cors(Bucket=at.bucket, CORSConfiguration={"CORSRules": [rule]})
    request = urllib.request.Request(f"{at.endpoint}/{at.bucket}/key", method="OPTIONS")
    request.add_header("Origin", "http://page")
    request.add_header("Access-Control-Request-Method", "GET")
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Access-Control-Allow-Origin"] in ("http://page", "*")


def lifecycle(at: Place) -> bool:
    rule = {
        "ID": "r",
        "Status": "Enabled",
        "Filter": {"Prefix": "tmp/"},
        "Expiration": {"Days": 1},
    }
    at.s3.put_bucket_lifecycle_configuration(
        Bucket=at.bucket, LifecycleConfiguration={"Rules": [rule]}
    )
    found = at.s3.get_bucket_lifecycle_configuration(Bucket=at.bucket)["Rules"]
    return bool(found[0]["Expiration"]["Days"] == 1)


def policy(at: Place) -> bool:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{at.bucket}/*",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    at.s3.put_bucket_policy(Bucket=at.bucket, Policy=document)
    at.put()
    with urllib.request.urlopen(f"{at.endpoint}/{at.bucket}/key") as answer:
        return bool(answer.read() == BODY)


def presigned(at: Place) -> bool:
    names = {"Bucket": at.bucket, "Key": "a key"}
    put = at.s3.generate_presigned_url("put_object", names)
    request = urllib.request.Request(put, data=BODY, method="PUT", headers={"Content-Type": ""})
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(at.s3.generate_presigned_url("get_object", names)) as answer:
        return bool(answer.read() == BODY)


def presigned_post(at: Place) -> bool:
    form = at.s3.generate_presigned_post(at.bucket, "key")
    mark = "0" * 20
    lines = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    ]
    last = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = "".join([*lines, last]).encode() + BODY + f"\r\n--{mark}--\r\n".encode()
    request = urllib.request.Request(form["url"], data=body, method="POST")
    request.add_header("Content-Type", f"multipart/form-data; boundary={mark}")
    urllib.request.urlopen(request).close()
    return at.get() == BODY


def checksum(name: str) -> Feature:
    def feature(at: Place) -> bool:
        member, value = f"Checksum{name}", base64.b64encode(CHECKSUMS[name]).decode()
        wrong = base64.b64encode(bytes(len(CHECKSUMS[name]))).decode()
        at.put(**{member: value})
        head = at.s3.head_object(Bucket=at.bucket, Key="key", ChecksumMode="ENABLED")
        return head.get(member) == value and refused(lambda: at.put("wrong", **{member: wrong}))

    return feature


def write_if_absent(at: Place) -> bool:
    at.put(IfNoneMatch="*")
    return refused(lambda: at.put(IfNoneMatch="*"), "PreconditionFailed")


def write_if_unchanged(at: Place) -> bool:
    tag = at.put()["ETag"]
    at.put(IfMatch=tag, Body=b"new")
    return refused(lambda: at.put(IfMatch=tag), "PreconditionFailed") and at.get() == b"new"


def read_if_changed(at: Place) -> bool:
    tag = at.put()["ETag"]
    return refused(lambda: at.get(IfNoneMatch=tag), "304") and at.get(IfMatch=tag) == BODY


def attributes(at: Place) -> bool:
    at.put()
    found = at.s3.get_object_attributes(
        Bucket=at.bucket, Key="key", ObjectAttributes=["ObjectSize", "ETag"]
    )
    return bool(found["ObjectSize"] == len(BODY))


def listing(at: Place) -> bool:
    for number in range(4):
        at.put(f"a/{number}")
    pages = at.s3.get_paginator("list_objects_v2").paginate(
        Bucket=at.bucket, Prefix="a/", StartAfter="a/0", PaginationConfig={"PageSize": 2}
    )
    top = at.s3.list_objects_v2(Bucket=at.bucket, Delimiter="/")["CommonPrefixes"]
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    return keys == ["a/1", "a/2", "a/3"] and top == [{"Prefix": "a/"}]


def odd_key(key: str) -> Feature:
    def feature(at: Place) -> bool:
        at.put(key)
        listed = at.s3.list_objects_v2(Bucket=at.bucket)["Contents"]
        return at.get(key) == BODY and [item["Key"] for item in listed] == [key]

    return feature


FEATURES: dict[str, Feature] = {
    "Objects: put, get, ranges, head, copy, delete": objects,
    "Multipart uploads": multipart,
    "ListObjectsV2: pages, `StartAfter`, `Delimiter`": listing,
    "`HeadBucket` with `x-amz-bucket-region`": region,
    "Encryption with `aws:kms` (accepted, not encrypted)": kms,
    "Session tokens": session_token,
    "Versioning": versioning,
    "Object lock: legal hold": object_lock,
    "Tags of objects": object_tags,
    "Tags of buckets": bucket_tags,
    "CORS, with preflight": cors,
    "Life cycle rules are kept": lifecycle,
    "Bucket policy: public reads": policy,
    "Presigned GET and PUT": presigned,
    "Presigned POST": presigned_post,
    **{f"Checksum {name}: kept, and a wrong one refused": checksum(name) for name in CHECKSUMS},
    "Conditional write: `If-None-Match: *`": write_if_absent,
    "Conditional write: `If-Match`": write_if_unchanged,
    "Conditional read": read_if_changed,
    "`GetObjectAttributes`": attributes,
    **{f"Key `{key}`": odd_key(key) for key in ODD_KEYS},
}


def verdict(endpoint: str, feature: Feature) -> str:
    """What the table says of one feature of the store behind this endpoint."""
    s3 = client(endpoint)
    bucket = f"feature-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    try:
        return "yes" if feature(Place(endpoint, s3, bucket)) else "differs"
    except ClientError as error:
        return f"no: {error.response['Error']['Code']}"
    except urllib.error.HTTPError as error:
        return f"no: {error.code}"
    except (KeyError, HTTPClientError):
        return "differs"
