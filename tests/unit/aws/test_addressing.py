"""Buckets in the host name."""

from __future__ import annotations

import pytest

from emulator.aws.s3.addressing import path_style
from emulator.aws.signatures import SignedRequest


def request(host: str, path: str = "/a%2Fkey") -> SignedRequest:
    return SignedRequest("GET", path, "x=1", [(b"host", host.encode()), (b"a", b"b")])


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("data.localhost:4570", b"localhost:4570"),
        ("data.localhost", b"localhost"),
        ("DATA.LOCALHOST", b"localhost"),
        ("data.s3.localhost:4570", b"s3.localhost:4570"),
        ("data.s3.eu-west-1.localhost", b"s3.eu-west-1.localhost"),
        ("data.host.docker.internal:4570", b"host.docker.internal:4570"),
        ("data.s3.amazonaws.com", b"s3.amazonaws.com"),
        ("data.s3.dualstack.eu-west-1.amazonaws.com", b"s3.dualstack.eu-west-1.amazonaws.com"),
        ("data.s3-eu-west-1.amazonaws.com", b"s3-eu-west-1.amazonaws.com"),
    ],
)
def test_a_bucket_in_the_host(host: str, base: bytes) -> None:
    moved = path_style(request(host))
    assert moved.path == "/data/a%2Fkey"
    assert moved.query == "x=1"
    assert moved.headers == [(b"host", base), (b"a", b"b")]
    assert path_style(request(host, "/")).path == "/data"


def test_a_bucket_with_dots() -> None:
    assert path_style(request("my.data.s3.localhost")).path == "/my.data/a%2Fkey"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost:4570",
        "s3.localhost",
        "s3.us-east-1.localhost:4570",
        "host.docker.internal:4570",
        "127.0.0.1:4570",
        "[::1]:4570",
        "workstation.example.com",
        "s3.amazonaws.com",
        "s3.eu-west-1.amazonaws.com",
        ".localhost",
        "notlocalhost",
    ],
)
def test_hosts_without_a_bucket(host: str) -> None:
    same = request(host)
    assert path_style(same) is same
