"""Pages for people, below `/_emulator/ui`: the queries in HTML."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from jinja2 import Environment

from emulator.data.objectstore.objects import StoreError
from emulator.model.errors import ApiError
from emulator.model.lifecycle import Status
from emulator.model.workload import WorkloadId
from emulator.resources import KINDS
from emulator.web import request_code
from emulator.web.api import PLAIN, UNTRUSTED, EndpointName, JobName, Queries, job_filter
from emulator.web.endpoints import AskedEndpoint
from emulator.web.jobs import Asked, next_name
from emulator.web.live import Fragments, Render, changes
from emulator.web.machine import machine
from emulator.web.templating import UI, environment, render, static_file
from emulator.workloads.store.queries import Overview

PAGE_ROWS = 50
COMPARED = 12
"""Jobs whose curves one plot shows."""
_DIGITS = 10
"""Of an offset at most: SQLite's numbers end."""
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_CONTENT = {
    **PLAIN,
    "referrer-policy": "same-origin",
    # Nothing of another server, nothing inline: a log line that became markup could do nothing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
_STATIC = {"x-content-type-options": "nosniff", "cache-control": "max-age=31536000, immutable"}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Access:
    """What pages need to know of who may use them."""

    csrf_token: str
    cookie_name: str
    cookie: str
    admits: Callable[[str], bool]
    """Whether this is the token."""
    refuse_jobs: Callable[[Request], None]
    """A dependency of pages that need no token."""


class Pages:
    """The pages of one emulator."""

    def __init__(self, queries: Queries, access: Access, closing: Callable[[], bool]):
        """`closing` says whether the emulator ends: pages that listen are left then."""
        self._queries = queries
        self._access = access
        self._closing = closing
        self._templates: Environment = environment()

    def install(self, app: FastAPI, router: APIRouter) -> None:
        """Add pages that need access to `router`, and those to get it to `app`."""
        self._entrance(app)
        pages = APIRouter(prefix="/ui", default_response_class=HTMLResponse)
        self._machine(pages)
        self._jobs(pages)
        self._job(pages)
        self._endpoints(pages)
        self._objects(pages)
        router.include_router(pages, include_in_schema=False)

    # Answers

    def _page(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        text = render(self._templates, template, csrf=self._access.csrf_token, **context)
        return HTMLResponse(text, status, headers=_CONTENT)

    def _fragment(self, template: str, **context: Any) -> str:
        return render(self._templates, template, **context)

    def _stream(self, rendered: Render) -> StreamingResponse:
        events = changes(rendered, self._closing)
        return StreamingResponse(events, media_type="text/event-stream", headers=PLAIN)

    def refused(self, request: Request, error: HTTPException) -> Response:
        """The page for who asks for one and may not have it, or for one that is not there."""
        if error.status_code == 403:
            return self._page("enter.html", 403, problem="", next=str(request.url.path))
        return self._page("problem.html", error.status_code, problem=str(error.detail))

    # Who comes in

    def _entrance(self, app: FastAPI) -> None:
        jobs_stay_out = [Depends(self._access.refuse_jobs)]

        @app.get("/", include_in_schema=False)
        def root() -> Response:
            return RedirectResponse(f"{UI}/", 302)

        @app.get(UI, include_in_schema=False)
        def without_slash() -> Response:
            return RedirectResponse(f"{UI}/", 302)

        @app.get(f"{UI}/static/{{name}}", include_in_schema=False)
        def static(name: str) -> Response:
            file = static_file(name)
            if file is None:
                raise HTTPException(404, f"There is no {name}.")
            kind = _TYPES.get(f".{name.rpartition('.')[2]}", "text/plain")
            return Response(file.read_bytes(), media_type=kind, headers=_STATIC)

        @app.get(f"{UI}/enter", include_in_schema=False, dependencies=jobs_stay_out)
        def link(token: str = "") -> Response:
            return self._enter(token, f"{UI}/")

        @app.post(f"{UI}/enter", include_in_schema=False, dependencies=jobs_stay_out)
        async def form(request: Request) -> Response:
            given = dict(parse_qsl((await request.body())[:4096].decode("utf-8", "replace")))
            return self._enter(given.get("token", ""), given.get("next", f"{UI}/"))

    def _enter(self, token: str, then: str) -> Response:
        if not self._access.admits(token):
            return self._page("enter.html", 403, problem="This is not the token.", next=f"{UI}/")
        answer = RedirectResponse(then if then.startswith(f"{UI}/") else f"{UI}/", 303)
        answer.set_cookie(
            self._access.cookie_name,
            self._access.cookie,
            max_age=30 * 86_400,
            path="/_emulator",
            httponly=True,
            samesite="lax",
        )
        return answer

    # Machine

    def _machine(self, pages: APIRouter) -> None:
        @pages.get("/")
        def machine_page() -> Response:
            return self._page("machine.html", machine=machine(self._queries.sources))

        @pages.get("/live/machine", response_class=StreamingResponse)
        def live() -> Response:
            return self._stream(self._machine_fragments)

    def _machine_fragments(self) -> tuple[Fragments, dict[str, object]]:
        now = machine(self._queries.sources)
        names = ("machine-gpus", "machine-load", "machine-queue", "machine-pools", "machine-facts")
        return {name: self._fragment(f"parts/{name}.html", machine=now) for name in names}, {}

    # Jobs

    def _jobs(self, pages: APIRouter) -> None:
        @pages.get("/jobs")
        def jobs_page(
            request: Request, query: Annotated[Overview, Depends(_rows_filter)]
        ) -> Response:
            return self._page("jobs.html", **self._rows(request, query))

        @pages.get("/live/jobs", response_class=StreamingResponse)
        def live(request: Request, query: Annotated[Overview, Depends(_rows_filter)]) -> Response:
            def fragments() -> tuple[Fragments, dict[str, object]]:
                return {
                    "job-rows": self._fragment("parts/job-rows.html", **self._rows(request, query))
                }, {}

            return self._stream(fragments)

        @pages.get("/compare")
        def compare(job: Annotated[list[str] | None, Query()] = None) -> Response:
            details = []
            for one in (job or [])[:COMPARED]:
                # kind/name/account/region; no name has a slash.
                asked = Asked(*one.split("/")[:4]) if "/" in one else Asked("", one)
                try:
                    key = self._queries.jobs.key(asked)
                    details.append(self._queries.jobs.one(key))
                except ApiError as error:
                    raise HTTPException(404, error.message) from error
            return self._page("compare.html", jobs=details)

    def _rows(self, request: Request, query: Overview) -> dict[str, Any]:
        given = [(k, v) for k, v in request.query_params.multi_items() if k != "offset" and v]

        def at(offset: int) -> str:
            return urlencode([*given, ("offset", str(offset))])

        found = self._queries.jobs.page(query)
        return {
            "found": found,
            "query": query,
            "search": urlencode(given),
            "statuses": [one.value for one in Status],
            "kinds": [(one.name, one.noun) for one in KINDS],
            "later": at(query.offset + query.limit)
            if query.offset + query.limit < found.total
            else "",
            "earlier": at(max(0, query.offset - query.limit)) if query.offset else "",
        }

    # Job

    def _job(self, pages: APIRouter) -> None:
        jobs = self._queries.jobs

        @pages.get("/jobs/{kind}/{name}")
        def job_page(asked: JobName) -> Response:
            key = jobs.key(asked)
            record = self._found(key)
            job = jobs.one(key)
            request = job.request
            return self._page(
                "job.html",
                job=job,
                traceback=jobs.traceback(record) if job.status == "Failed" else "",
                scope=self._scope(key),
                next_name=next_name(job.name),
                code={
                    "JSON": request_code.as_json(request),
                    "AWS CLI": request_code.as_command(record.spec.kind, request),
                    "boto3": request_code.as_boto3(record.spec.kind, request),
                    "SageMaker SDK": request_code.as_sdk(request),
                },
            )

        @pages.get("/jobs/{kind}/{name}/data")
        def data(asked: JobName) -> Response:
            key = jobs.key(asked)
            record = self._found(key)
            try:
                found = self._queries.data.of(record)
            except StoreError as error:
                return self._page("parts/store-problem.html", problem=str(error))
            return self._page("parts/job-data.html", data=found)

        @pages.get("/live/job/{kind}/{name}", response_class=StreamingResponse)
        def live(asked: JobName) -> Response:
            key = jobs.key(asked)
            self._found(key)

            def fragments() -> tuple[Fragments, dict[str, object]]:
                record = jobs.find(key)
                job = jobs.one(key)
                failed = job.status == "Failed"
                traceback = jobs.traceback(record) if failed else ""
                html = self._fragment(
                    "parts/job-head.html",
                    job=job,
                    traceback=traceback,
                    scope=self._scope(key),
                )
                phases = self._fragment("parts/job-phases.html", job=job)
                return {"job-head": html, "job-phases": phases}, {
                    "points": job.points,
                    "streams": [one.model_dump() for one in job.streams],
                    "ended": record.life.status.terminal,
                }

            return self._stream(fragments)

    def _found(self, key: WorkloadId) -> Any:
        try:
            return self._queries.jobs.find(key)
        except ApiError as error:
            raise HTTPException(404, f"There is no {key.kind} {key.name}.") from error

    def _scope(self, key: WorkloadId) -> str:
        """What addresses of the job say of its scope: nothing where it is that of the settings."""
        settings = self._queries.sources.settings
        given = {"account": key.scope.account, "region": key.scope.region}
        own = {"account": settings.account, "region": settings.region}
        return "" if given == own else urlencode(given)

    # Endpoints

    def _endpoints(self, pages: APIRouter) -> None:
        endpoints = self._queries.endpoints

        @pages.get("/endpoints")
        def list_page() -> Response:
            return self._page("endpoints.html", endpoints=endpoints.all())

        @pages.get("/live/endpoints", response_class=StreamingResponse)
        def live_list() -> Response:
            def fragments() -> tuple[Fragments, dict[str, object]]:
                found = endpoints.all()
                html = self._fragment("parts/endpoint-rows.html", endpoints=found)
                return {"endpoint-rows": html}, {}

            return self._stream(fragments)

        @pages.get("/endpoints/{name}")
        def endpoint_page(asked: EndpointName) -> Response:
            try:
                found = endpoints.one(asked)
            except ApiError as error:
                raise HTTPException(404, error.message) from error
            return self._page("endpoint.html", endpoint=found, scope=_endpoint_scope(asked))

        @pages.get("/live/endpoint/{name}", response_class=StreamingResponse)
        def live(asked: EndpointName) -> Response:
            def fragments() -> tuple[Fragments, dict[str, object]]:
                found = endpoints.one(asked)
                html = self._fragment("parts/endpoint-head.html", endpoint=found)
                return {"endpoint-head": html}, {
                    "points": self._queries.sources.metrics.newest(),
                    "streams": [one.model_dump() for one in found.streams],
                }

            try:
                endpoints.one(asked)
            except ApiError as error:  # once the stream has begun nobody could be told
                raise HTTPException(404, error.message) from error
            return self._stream(fragments)

    # Objects

    def _objects(self, pages: APIRouter) -> None:
        stored = self._queries.stored

        @pages.get("/objects")
        def buckets() -> Response:
            try:
                return self._page("buckets.html", buckets=stored.buckets())
            except StoreError as error:
                return self._page("problem.html", 502, problem=str(error))

        @pages.get("/objects/{bucket}")
        def folder(bucket: str, prefix: str = "", after: str = "") -> Response:
            try:
                found = stored.folder(bucket, prefix, after)
            except StoreError as error:
                return self._page("problem.html", error.status, problem=str(error))
            return self._page("folder.html", folder=found, crumbs=_crumbs(prefix))

        @pages.get("/look/{bucket}/{key:path}")
        def look(bucket: str, key: str) -> Response:
            try:
                size = stored.size(bucket, key)
                kind = mimetypes.guess_type(key)[0] or ""
                beginning = b"" if kind in _IMAGES else stored.beginning(bucket, key)
            except StoreError as error:
                return self._page("problem.html", error.status, problem=str(error))
            return self._page(
                "look.html",
                bucket=bucket,
                key=key,
                size=size,
                image=kind in _IMAGES,
                text=_shown(beginning),
                cut=size > len(beginning),
                crumbs=_crumbs(key),
            )

        @pages.get("/image/{bucket}/{key:path}", response_class=StreamingResponse)
        def image(bucket: str, key: str) -> Response:
            kind = mimetypes.guess_type(key)[0] or ""
            if kind not in _IMAGES:
                raise HTTPException(404, "This is no picture.")
            return StreamingResponse(
                stored.read(bucket, key), media_type=kind, headers={**UNTRUSTED}
            )


def _endpoint_scope(asked: AskedEndpoint) -> str:
    given = {"account": asked.account, "region": asked.region}
    return urlencode({name: value for name, value in given.items() if value})


def _rows_filter(request: Request) -> Overview:
    """Which rows a page of the table shows."""
    given = request.query_params
    offset = given.get("offset", "0")
    return job_filter(
        [one for one in given.getlist("status") if one],
        [one for one in given.getlist("kind") if one],
        given.get("q", ""),
        offset=int(offset) if offset.isdecimal() and len(offset) < _DIGITS else 0,
        limit=PAGE_ROWS,
    )


def _crumbs(key: str) -> list[tuple[str, str]]:
    """The folders on the way to a key: the name of each, and its prefix."""
    names = key.split("/")[:-1]
    return [(name, "/".join(names[: place + 1]) + "/") for place, name in enumerate(names)]


def _shown(data: bytes) -> str | None:
    """The text of an object's beginning; None where it is not text."""
    if b"\0" in data:
        return None
    text = data.decode("utf-8", "replace")
    return None if text.count("\ufffd") > max(3, len(text) // 20) else text
