"""Who a request for a proxy is for, and which other proxy leads there."""

from __future__ import annotations

import pytest

from emulator.drivers.tunnel import Target, Upstream

BOTH = {"http_proxy": "http://plain:3128", "HTTPS_PROXY": "http://tunnel", "no_proxy": "corp"}


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("http", "a.org", Upstream("plain", 3128)),
        ("https", "a.org", Upstream("tunnel", 80)),
        ("http", "a.corp", None),
        ("https", "corp", None),
    ],
)
def test_each_scheme_has_its_own_proxy(scheme: str, host: str, expected: Upstream | None) -> None:
    assert Upstream.for_host(host, 0, BOTH, scheme) == expected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("CONNECT A.org:443 HTTP/1.1", "a.org:443"),
        ("CONNECT [::1]:8443 HTTP/1.0", "[::1]:8443"),
    ],
)
def test_a_target_is_written_as_it_is_read(line: str, text: str) -> None:
    assert str(Target.parse(line)) == text
