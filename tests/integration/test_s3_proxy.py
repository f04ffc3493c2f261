"""S3 through the gateway: boto3 on one side, a real SeaweedFS on the other."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from http_server import serving

from emulator.aws.gateway import Gateway
from emulator.aws.s3.proxy import S3Proxy
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.weed import key_problem
from emulator.settings import Settings

KEY, SECRET = "emulator", "emulator-secret"
MIB = 1024 * 1024
SESSION = boto3.Session()


@pytest.fixture(scope="module")
def endpoint(embedded_store: EmbeddedStore) -> Iterator[str]:
    proxy = S3Proxy(embedded_store.endpoint, KEY, SECRET, key_problem=key_problem)
    with serving(Gateway({}, Settings()), proxy) as url:
        yield url


def client(
    endpoint: str, secret: str = SECRET, key: str = KEY, style: str = "auto", **options: Any
) -> Any:
    return SESSION.client(
        "s3",
        endpoint_url=endpoint,
        region_name=options.pop("region", "us-east-1"),
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            retries={"max_attempts": 0}, signature_version="s3v4", s3={"addressing_style": style}
        ),
        **options,
    )


@pytest.fixture(scope="module")
def s3(endpoint: str) -> Any:
    s3 = client(endpoint)
    s3.create_bucket(Bucket="proxy-tests")
    return s3


def put(s3: Any, key: str, body: bytes = b"some bytes", **more: Any) -> Any:
    return s3.put_object(Bucket="proxy-tests", Key=key, Body=body, **more)


def get(s3: Any, key: str, **more: Any) -> bytes:
    body: bytes = s3.get_object(Bucket="proxy-tests", Key=key, **more)["Body"].read()
    return body


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_an_object_and_its_metadata_come_back(s3: Any) -> None:
    put(s3, "a/b.txt", ContentType="text/x-test", Metadata={"made-by": "a  test"})
    head = s3.head_object(Bucket="proxy-tests", Key="a/b.txt")
    assert head["ContentLength"] == 10
    assert head["ContentType"] == "text/x-test"
    assert head["Metadata"]["made-by"].split() == ["a", "test"]
    assert head["ETag"] == f'"{hashlib.md5(b"some bytes").hexdigest()}"'
    assert get(s3, "a/b.txt") == b"some bytes"


def test_an_empty_object(s3: Any) -> None:
    put(s3, "empty", b"")
    assert get(s3, "empty") == b""
    assert s3.head_object(Bucket="proxy-tests", Key="empty")["ContentLength"] == 0


@pytest.mark.parametrize(
    "key",
    [
        "ünïcode/日本語.txt",
        "plus+and space",
        "100%",
        "a%2Fb",
        "q?x=1&y",
        "tilde~=@:,;'()!*",
        "dots..x",
    ],
)
def test_any_key(s3: Any, key: str) -> None:
    put(s3, key, key.encode())
    assert get(s3, key) == key.encode()
    listed = s3.list_objects_v2(Bucket="proxy-tests", Prefix=key)
    assert [item["Key"] for item in listed["Contents"]] == [key]


def test_list_in_pages(s3: Any) -> None:
    for number in range(5):
        put(s3, f"pages/{number}")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="proxy-tests", Prefix="pages/", PaginationConfig={"PageSize": 2}
    )
    assert [i["Key"] for page in pages for i in page["Contents"]] == [
        f"pages/{number}" for number in range(5)
    ]


def test_a_range(s3: Any) -> None:
    put(s3, "range", bytes(range(100)))
    assert get(s3, "range", Range="bytes=10-19") == bytes(range(10, 20))


def test_copy_and_delete(s3: Any) -> None:
    put(s3, "from here")
    s3.copy_object(Bucket="proxy-tests", Key="to", CopySource="proxy-tests/from here")
    assert get(s3, "to") == b"some bytes"
    s3.delete_objects(
        Bucket="proxy-tests", Delete={"Objects": [{"Key": "to"}, {"Key": "from here"}]}
    )
    s3.delete_object(Bucket="proxy-tests", Key="never was")
    with pytest.raises(ClientError) as error:
        get(s3, "to")
    assert code_of(error) == "NoSuchKey"


def test_a_missing_bucket_is_404(s3: Any) -> None:
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket="not-there", ExpectedBucketOwner="123456789012")
    assert error.value.response["Error"] == {"Code": "404", "Message": "Not Found"}


def test_a_bucket_in_another_region(endpoint: str) -> None:
    s3 = client(endpoint, region="us-west-2")
    s3.create_bucket(
        Bucket="proxy-west", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    assert "proxy-west" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_multipart(s3: Any) -> None:
    s3.upload_fileobj(io.BytesIO(b"x" * 12 * MIB), "proxy-tests", "multi")
    assert s3.head_object(Bucket="proxy-tests", Key="multi")["ContentLength"] == 12 * MIB
    target = io.BytesIO()
    s3.download_fileobj("proxy-tests", "multi", target)
    assert target.getvalue() == b"x" * 12 * MIB


@pytest.mark.parametrize("token", [None, "a-session-token"])
def test_presigned(endpoint: str, s3: Any, token: str | None) -> None:
    signing = client(endpoint, aws_session_token=token)
    names = {"Bucket": "proxy-tests", "Key": f"presigned {token}"}
    upload = signing.generate_presigned_url("put_object", names)
    request = urllib.request.Request(upload, data=b"by url", method="PUT")
    request.add_header("Content-Type", "")
    assert urllib.request.urlopen(request).status == 200
    download = signing.generate_presigned_url("get_object", names)
    assert urllib.request.urlopen(download).read() == b"by url"
    spoilt = re.sub("X-Amz-Signature=....", "X-Amz-Signature=0000", download)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(spoilt)
    assert error.value.code == 403


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("encryption", [{}, {"ServerSideEncryption": "aws:kms"}])
def test_a_wrong_secret_is_refused(
    endpoint: str, s3: Any, token: str | None, encryption: dict[str, str]
) -> None:
    stranger = client(endpoint, secret="wrong", aws_session_token=token)
    with pytest.raises(ClientError) as error:
        put(stranger, "refused", **encryption)
    assert code_of(error) == "SignatureDoesNotMatch"
    unknown = client(endpoint, key="nobody", aws_session_token=token)
    with pytest.raises(ClientError) as error:
        put(unknown, "refused", **encryption)
    assert code_of(error) == "InvalidAccessKeyId"
    with pytest.raises(ClientError) as error:
        get(s3, "refused")
    assert code_of(error) == "NoSuchKey"


def test_a_large_upload_with_a_wrong_secret_gets_its_answer(endpoint: str, s3: Any) -> None:
    with pytest.raises(ClientError) as error:
        put(client(endpoint, secret="wrong"), "refused", b"x" * 20 * MIB)
    assert code_of(error) == "SignatureDoesNotMatch"


def test_a_session_token_works(endpoint: str, s3: Any) -> None:
    session = client(endpoint, aws_session_token="a-session-token")
    put(session, "with/token ü")
    assert get(session, "with/token ü") == b"some bytes"
    listed = session.list_objects_v2(Bucket="proxy-tests", Prefix="with/")
    assert listed["KeyCount"] == 1


def test_kms_uploads_work(s3: Any) -> None:
    put(s3, "kms", ServerSideEncryption="aws:kms", SSEKMSKeyId="a-key")
    assert get(s3, "kms") == b"some bytes"
    s3.upload_fileobj(
        io.BytesIO(b"y" * 9 * MIB),
        "proxy-tests",
        "kms-multi",
        ExtraArgs={"ServerSideEncryption": "aws:kms"},
    )
    assert get(s3, "kms-multi") == b"y" * 9 * MIB


def test_a_changed_body_is_refused_although_the_headers_are_signed_anew(
    endpoint: str, s3: Any
) -> None:
    changed = client(endpoint)

    def spoil(request: Any, **_: Any) -> None:
        request.body = b"OTHER"

    changed.meta.events.register("before-send.s3.PutObject", spoil)
    with pytest.raises(ClientError) as error:
        put(changed, "spoilt", b"bytes", ServerSideEncryption="aws:kms")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def sent_by_hand(
    endpoint: str, key: str, body: bytes, payload: str, extra: dict[str, str]
) -> bytes:
    """PUT an aws-chunked body over a bare socket; gives the whole answer."""
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "5",
        "x-amz-content-sha256": payload,
        **extra,
    }
    url = f"{endpoint}/proxy-tests/{key}"
    request = botocore.awsrequest.AWSRequest(method="PUT", url=url, headers=headers)
    signer = botocore.auth.S3SigV4Auth(
        botocore.credentials.Credentials(KEY, SECRET), "s3", "us-east-1"
    )
    signer.payload = lambda _: payload
    signer.add_auth(request)
    where = urlsplit(endpoint)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((where.hostname, where.port)) as line:
        line.sendall(
            f"PUT /proxy-tests/{key} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Transfer-Encoding: chunked\r\nConnection: close\r\n{head}\r\n".encode()
        )
        line.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        return line.makefile("rb").read()


KMS = {"x-amz-server-side-encryption": "aws:kms"}


@pytest.mark.parametrize("extra", [{}, KMS])
def test_chunks_with_an_unsigned_trailer(endpoint: str, s3: Any, extra: dict[str, str]) -> None:
    """An aws-chunked body with a checksum behind it, as SDKs send it over TLS."""
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    trailer = {"x-amz-trailer": "x-amz-checksum-crc32", **extra}
    answer = sent_by_hand(endpoint, "trailer", body, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailer)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert get(s3, "trailer") == b"hello"


def test_signed_chunks_cannot_be_signed_anew(endpoint: str) -> None:
    body = b"5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n"
    answer = sent_by_hand(endpoint, "chunks", body, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", KMS)
    assert answer.startswith(b"HTTP/1.1 501"), answer
    assert b"<Code>NotImplemented</Code>" in answer


def test_clients_that_leave_in_the_middle_do_no_harm(endpoint: str, s3: Any) -> None:
    put(s3, "left", b"x" * 8 * MIB)
    for _ in range(5):
        half = s3.get_object(Bucket="proxy-tests", Key="left")["Body"]
        half.read(1000)
        half.close()
    where = urlsplit(endpoint)
    with socket.create_connection((where.hostname, where.port)) as line:
        line.sendall(
            f"PUT /proxy-tests/never HTTP/1.1\r\nHost: {where.netloc}\r\n"
            "Content-Length: 1000000\r\n\r\nonly a little".encode()
        )
    assert get(s3, "left") == b"x" * 8 * MIB
    with pytest.raises(ClientError):
        get(s3, "never")


def test_an_unreachable_store_is_said_in_s3s_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            serving(Gateway({}, Settings()), S3Proxy(nobody, KEY, SECRET)) as url,
            pytest.raises(ClientError) as error,
        ):
            client(url).list_buckets()
    assert code_of(error) == "ServiceUnavailable"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_large_object_takes_no_memory(s3: Any, tmp_path: Path) -> None:
    size = 200 * MIB
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(size)
    before = resident("VmRSS")
    # The high-water mark counts from here on.
    Path("/proc/self/clear_refs").write_text("5")
    with source.open("rb") as file:
        s3.put_object(Bucket="proxy-tests", Key="large", Body=file)
    received = 0
    for chunk in s3.get_object(Bucket="proxy-tests", Key="large")["Body"].iter_chunks(MIB):
        received += len(chunk)
    assert received == size
    assert resident("VmHWM") - before < 60 * MIB


@pytest.mark.parametrize("secret", [SECRET, "whatever"])
def test_another_accounts_key_opens_the_store_too(endpoint: str, s3: Any, secret: str) -> None:
    other = client(endpoint, secret, key="111122223333")
    put(other, "of another account", b"its bytes")
    assert get(s3, "of another account") == b"its bytes"
    presigned = other.generate_presigned_url(
        "get_object", Params={"Bucket": "proxy-tests", "Key": "of another account"}
    )
    with urllib.request.urlopen(presigned) as answer:
        assert answer.read() == b"its bytes"


@pytest.mark.parametrize("key", ["odd//key", "/odd/key", "odd\\key"])
def test_a_key_that_the_store_would_change_is_refused(s3: Any, key: str) -> None:
    put(s3, "odd/key")
    with pytest.raises(ClientError, match="embedded object store would keep it under") as error:
        put(s3, key, b"other")
    assert code_of(error) == "InvalidArgument"
    with pytest.raises(ClientError) as error:
        get(s3, key)
    assert code_of(error) == "NoSuchKey"
    with pytest.raises(ClientError):
        s3.delete_object(Bucket="proxy-tests", Key=key)
    with pytest.raises(ClientError):
        s3.create_multipart_upload(Bucket="proxy-tests", Key=key)
    assert get(s3, "odd/key") == b"some bytes"


def test_such_a_key_in_the_body_of_delete_objects_deletes_nothing(s3: Any) -> None:
    put(s3, "odd/key")
    for odd in ("odd//key", "/odd/key", "odd\\key"):
        objects = [{"Key": "odd/key"}, {"Key": odd}]
        with pytest.raises(ClientError, match="would keep it under another") as error:
            s3.delete_objects(Bucket="proxy-tests", Delete={"Objects": objects})
        assert code_of(error) == "InvalidArgument"
        assert get(s3, "odd/key") == b"some bytes"


def test_many_objects_are_deleted_at_once(s3: Any) -> None:
    """Their names are more than is read ahead of a connection to the store."""
    keys = [f"{number}/{'é' * 100}" for number in range(1000)]
    put(s3, keys[0])
    objects = [{"Key": key} for key in keys]
    done = s3.delete_objects(Bucket="proxy-tests", Delete={"Objects": objects})
    assert [each["Key"] for each in done["Deleted"]] == keys
    assert "Errors" not in done


def test_such_a_key_is_not_copied_from_or_listed(s3: Any) -> None:
    put(s3, "odd/key")
    source = {"Bucket": "proxy-tests", "Key": "odd//key"}
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket="proxy-tests", Key="copy", CopySource=source)
    assert code_of(error) == "NoSuchKey"
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket="proxy-tests", Prefix="odd//")
    assert code_of(error) == "InvalidArgument"


def test_a_key_that_ends_in_a_slash_is_kept_without_content_only(s3: Any) -> None:
    put(s3, "folder/", b"")
    assert get(s3, "folder/") == b""
    with pytest.raises(ClientError, match="ends in a slash and has content"):
        put(s3, "folder/", b"content")


@pytest.fixture
def names_below_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every such name is this machine, as systemd's resolver and RFC 6761 have it."""
    ask = socket.getaddrinfo

    def answer(host: Any, *more: Any, **options: Any) -> Any:
        below = isinstance(host, str) and host.endswith(".localhost")
        return ask("127.0.0.1" if below else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.usefixtures("names_below_localhost")
@pytest.mark.parametrize("host", ["localhost", "s3.localhost"])
@pytest.mark.parametrize("credentials", [{}, {"aws_session_token": "t"}, {"key": "111122223333"}])
def test_virtual_hosted_buckets(endpoint: str, host: str, credentials: dict[str, str]) -> None:
    hosts = []
    virtual = client(endpoint.replace("127.0.0.1", host), style="virtual", **credentials)
    virtual.meta.events.register("before-send.s3", lambda request, **_: hosts.append(request.url))
    bucket = f"virtual-{uuid.uuid4().hex[:12]}"
    virtual.create_bucket(Bucket=bucket)
    virtual.put_object(Bucket=bucket, Key="a/ü +%2F", Body=b"virtual")
    assert all(f"//{bucket}.{host}:" in url for url in hosts), hosts
    assert virtual.get_object(Bucket=bucket, Key="a/ü +%2F")["Body"].read() == b"virtual"
    listed = virtual.list_objects_v2(Bucket=bucket, Prefix="a/")
    assert [item["Key"] for item in listed["Contents"]] == ["a/ü +%2F"]
    head = virtual.head_bucket(Bucket=bucket)
    assert head["BucketRegion"] == "us-east-1"
    virtual.upload_fileobj(io.BytesIO(b"y" * 9 * MIB), bucket, "multi")
    assert client(endpoint).head_object(Bucket=bucket, Key="multi")["ContentLength"] == 9 * MIB
    names = {"Bucket": bucket, "Key": "a/ü +%2F"}
    with urllib.request.urlopen(virtual.generate_presigned_url("get_object", names)) as answer:
        assert answer.read() == b"virtual"
    form = virtual.generate_presigned_post(bucket, "posted")
    assert f"//{bucket}.{host}:" in form["url"]
    if not credentials:
        stranger = client(endpoint.replace("127.0.0.1", host), "wrong", style="virtual")
        with pytest.raises(ClientError) as error:
            stranger.get_object(Bucket=bucket, Key="multi")
        assert code_of(error) == "SignatureDoesNotMatch"
