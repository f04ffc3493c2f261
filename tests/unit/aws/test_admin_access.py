"""Who may use the admin routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.types import ASGIApp

from emulator.aws.admin_access import HEALTH, PREFIX, AdminAccess, ForJobs

TOKEN = "token-of-this-test"


def application(*, trust_loopback: bool = True) -> FastAPI:
    access = AdminAccess(TOKEN, lambda: trust_loopback)
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(access)])
    router.add_api_route("/gpus", lambda: {"gpus": []}, methods=["GET", "POST"])
    app = FastAPI()
    app.add_api_route(HEALTH, lambda: {"status": "ok"})
    app.include_router(router)
    return app


def status(
    app: ASGIApp,
    client: str = "127.0.0.1",
    path: str = "/_emulator/gpus",
    url: str = "http://127.0.0.1:4570",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> int:
    sent: list[Any] = []
    host = url.partition("//")[2]
    given = {"host": host, **{name.lower(): text for name, text in (headers or {}).items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in given.items()],
        "client": (client, 40_000),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize("host", ["[", "[::1", "a]:1", "[x]"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert status(application(), headers={"host": host}) == 403


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_this_machines_user_has_access(client: str) -> None:
    assert status(application(), client) == 200


@pytest.mark.parametrize("url", ["http://localhost:4570", "http://[::1]:4570"])
def test_by_every_name_of_the_loopback_interface(url: str) -> None:
    assert status(application(), url=url) == 200


@pytest.mark.parametrize("client", ["172.17.0.3", "192.168.1.7", "fe80::1", "testclient"])
def test_other_addresses_need_the_token(client: str) -> None:
    assert status(application(), client) == 403
    assert status(application(), client, headers={"authorization": "Bearer wrong"}) == 403
    assert status(application(), client, headers={"authorization": f"Basic {TOKEN}"}) == 403
    assert status(application(), client, headers={"Authorization": f"bearer {TOKEN}"}) == 200


def test_where_jobs_share_the_network_loopback_needs_the_token() -> None:
    app = application(trust_loopback=False)
    assert status(app) == 403
    assert status(app, headers={"authorization": f"Bearer {TOKEN}"}) == 200


def test_a_page_in_a_browser_and_a_rebound_name_have_no_access() -> None:
    assert status(application(), headers={"origin": "http://example.com"}) == 403
    assert status(application(), url="http://rebound.example.com:4570") == 403
    assert status(application(), headers={"origin": "http://127.0.0.1:4570"}) == 200


def test_a_job_has_no_access_whatever_it_sends() -> None:
    app = ForJobs(application())
    assert status(app) == 403
    assert status(app, headers={"authorization": f"Bearer {TOKEN}"}) == 403
    assert status(app, path=HEALTH) == 200


COOKIE = AdminAccess(TOKEN, lambda: True)
SIGNED_IN = {"cookie": f"{COOKIE.cookie_name}={COOKIE.cookie}"}


def test_a_browser_that_brought_the_token_has_access_by_its_cookie() -> None:
    assert status(application(), "172.17.0.1", headers=SIGNED_IN) == 200
    wrong = {"cookie": f"{COOKIE.cookie_name}={TOKEN}"}
    assert status(application(), "172.17.0.1", headers=wrong) == 403


def test_the_cookie_does_not_tell_the_token() -> None:
    assert TOKEN not in COOKIE.cookie
    assert COOKIE.csrf_token != COOKIE.cookie


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_and_ports_read_nothing(site: str) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert status(application(), headers=headers) == 403
    assert status(application(), "172.17.0.1", headers={**SIGNED_IN, **headers}) == 403


def test_a_link_on_another_page_may_lead_here() -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert status(application(), headers=headers) == 200


@pytest.mark.parametrize("who", [{"origin": "http://127.0.0.1:4570"}, SIGNED_IN])
def test_a_browser_changes_nothing_without_the_pages_own_token(who: Mapping[str, str]) -> None:
    assert status(application(), headers=who, method="POST") == 403
    with_token = {**who, "x-emulator-csrf": COOKIE.csrf_token}
    assert status(application(), headers=with_token, method="POST") == 200


def test_a_program_needs_no_such_token() -> None:
    assert status(application(), method="POST") == 200
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert status(application(), "172.17.0.1", headers=bearer, method="POST") == 200


def test_the_cookie_counts_on_pages_of_its_own_origin_alone() -> None:
    headers = {
        **SIGNED_IN,
        "origin": "http://evil.example",
        "x-emulator-csrf": COOKIE.csrf_token,
    }
    assert status(application(), headers=headers, method="POST") == 403


@pytest.mark.parametrize(
    ("host", "trusted", "needed"),
    [("127.0.0.1", True, False), ("0.0.0.0", True, True), ("127.0.0.1", False, True)],
)
def test_who_needs_the_token(host: str, trusted: bool, needed: bool) -> None:
    assert AdminAccess(TOKEN, lambda: trusted).needs_token(host) is needed
