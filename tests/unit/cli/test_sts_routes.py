"""Which CONNECT goes where, and through which proxy of the machine."""

from __future__ import annotations

import pytest

from emulator.cli.sts_proxy import Route, Target, Upstream


@pytest.mark.parametrize(
    ("host", "route"),
    [
        ("sts.us-east-1.amazonaws.com", Route.EMULATOR),
        ("sts.amazonaws.com", Route.EMULATOR),
        ("sts.cn-north-1.amazonaws.com.cn", Route.EMULATOR),
        ("sm-pysdk-t-us-east-1.s3.us-east-1.amazonaws.com", Route.TELEMETRY),
        ("datasets.s3.amazonaws.com", Route.TUNNEL),
        ("sts.us-east-1.amazonaws.com.example.org", Route.TUNNEL),
        ("notsts.amazonaws.com", Route.TUNNEL),
    ],
)
def test_only_sts_is_answered_here(host: str, route: Route) -> None:
    assert Target(host, 443).route is route


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (
            "CONNECT STS.us-east-1.amazonaws.com:443 HTTP/1.1",
            Target("sts.us-east-1.amazonaws.com", 443),
        ),
        ("CONNECT [::1]:8443 HTTP/1.0", Target("::1", 8443)),
        ("GET http://example.org/ HTTP/1.1", None),
        ("CONNECT nowhere HTTP/1.1", None),
        ("", None),
    ],
)
def test_request_lines(line: str, target: Target | None) -> None:
    assert Target.parse(line) == target


@pytest.mark.parametrize(
    ("ambient", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, Upstream("proxy", 3128)),
        ({"https_proxy": "proxy:3128", "HTTPS_PROXY": "http://other"}, Upstream("proxy", 3128)),
        ({"HTTPS_PROXY": "http://u:p%40@proxy"}, Upstream("proxy", 80, "Basic dTpwQA==")),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "a.org, .example.org"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "ample.org"}, Upstream("proxy", 80)),
        ({"HTTPS_PROXY": "http://127.0.0.1:4571"}, None),
    ],
)
def test_other_hosts_are_reached_as_this_machine_reaches_them(
    ambient: dict[str, str], expected: Upstream | None
) -> None:
    assert Upstream.for_host("www.example.org", 4571, ambient) == expected
