"""`/_emulator/v1`: the JSON behind the pages, for programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, cast
from urllib.parse import quote

from anyio import from_thread
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from emulator import __version__
from emulator.data.objectstore.objects import StoreError
from emulator.model.errors import ApiError
from emulator.model.lifecycle import Status
from emulator.resources import KINDS
from emulator.web import models, prometheus
from emulator.web.endpoints import AskedEndpoint, Endpoints
from emulator.web.job_data import JobData
from emulator.web.jobs import Asked, Jobs
from emulator.web.logs import LINES, Logs, Place
from emulator.web.machine import machine
from emulator.web.sources import Sources
from emulator.web.stored import Stored
from emulator.workloads.store.queries import Overview

V1 = "/_emulator/v1"
MOST_JOBS = 1000
JobName = Annotated[Asked, Depends(Asked)]
"""Of a URL."""
EndpointName = Annotated[AskedEndpoint, Depends(AskedEndpoint)]
"""Of a URL."""
PLAIN = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer: it is nothing for caches, nor for pages of other origins."""
UNTRUSTED = {
    **PLAIN,
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
}
"""Headers of what jobs have written: it is shown as what it is, or saved, and runs no script."""


@dataclass(frozen=True)
class Queries:
    """All that pages and the API ask."""

    sources: Sources
    jobs: Jobs
    data: JobData
    endpoints: Endpoints
    stored: Stored

    @classmethod
    def of(cls, sources: Sources) -> Queries:
        return cls(
            sources, Jobs(sources), JobData(sources), Endpoints(sources), Stored(sources.objects)
        )


def job_filter(
    status: Annotated[list[str] | None, Query(description="Any without one.")] = None,
    kind: Annotated[list[str] | None, Query(description="training-job, processing-job")] = None,
    q: Annotated[str, Query(description="A part of the name.")] = "",
    account: Annotated[str | None, Query(description="Any without one.")] = None,
    region: Annotated[str | None, Query(description="Any without one.")] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_JOBS)] = 100,
) -> Overview:
    """Which jobs are meant, from the query of a URL."""
    known = [one.value for one in Status]
    return Overview(
        kinds=tuple(one.name for one in KINDS if one.name in (kind or ())),
        statuses=tuple(one for one in known if one in (status or ())),
        accounts=(account,) if account else (),
        regions=(region,) if region else (),
        text=q.strip(),
        limit=limit,
        offset=offset,
    )


def install(app: FastAPI, queries: Queries, router: APIRouter) -> None:
    """Add all routes to `router`, which checks who may use them, and errors' answers to `app`."""
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(StoreError, _store_failed)
    v1 = APIRouter(prefix="/v1", default_response_class=_Json)
    _machine_routes(v1, queries)
    _job_routes(v1, queries)
    _data_routes(v1, queries)
    _endpoint_routes(v1, queries)
    _object_routes(v1, queries)

    @v1.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return _document(v1)

    router.include_router(v1)

    @router.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        text = prometheus.exposition(queries.sources)
        return Response(text, media_type=prometheus.CONTENT_TYPE, headers=PLAIN)


def _document(v1: APIRouter) -> dict[str, Any]:
    """What all routes of the API take and give (OpenAPI)."""
    made = get_openapi(
        title="sagemaker-emulator",
        version=__version__,
        description="What this emulator knows of its machine, jobs and objects.",
        routes=v1.routes,
    )
    return {**made, "paths": {f"/_emulator{path}": one for path, one in made["paths"].items()}}


class _Json(JSONResponse):
    def __init__(self, content: Any, status_code: int = 200, **more: Any):
        super().__init__(content, status_code, **more)
        self.headers.update(PLAIN)


def _machine_routes(v1: APIRouter, queries: Queries) -> None:
    @v1.get("/machine", response_model=models.Machine)
    def machine_now() -> models.Machine:
        """GPUs, load, queue, warm pools, and what this emulator is."""
        return machine(queries.sources)


def _job_routes(v1: APIRouter, queries: Queries) -> None:
    jobs = queries.jobs

    @v1.get("/jobs", response_model=models.JobList)
    def list_jobs(query: Annotated[Overview, Depends(job_filter)]) -> models.JobList:
        """Jobs of all kinds, newest first."""
        return jobs.page(query)

    @v1.get("/jobs/{kind}/{name}", response_model=models.JobDetail)
    def one_job(asked: JobName) -> models.JobDetail:
        """All that is known of a job but its data."""
        return jobs.one(jobs.key(asked))

    @v1.get("/jobs/{kind}/{name}/metrics", response_model=models.MetricPoints)
    def points(
        asked: JobName,
        after: Annotated[int, Query(ge=0, description="The cursor of the answer before.")] = 0,
        instance: Annotated[
            str | None, Query(description="What this instance uses of the machine instead.")
        ] = None,
    ) -> models.MetricPoints:
        """Every value that the script printed, in the order in which they came."""
        return jobs.points(jobs.find(jobs.key(asked)), after, instance)

    _log_routes(
        v1,
        "/jobs/{kind}/{name}",
        Asked,
        jobs.logs,
        lambda asked: jobs.place(jobs.find(jobs.key(asked))),
    )

    @v1.post("/jobs/{kind}/{name}/stop", response_model=models.Done)
    def stop(asked: JobName, now: bool = False) -> models.Done:
        """Stop a job as StopTrainingJob does; with `now` its instances get no time."""
        return jobs.stop(jobs.key(asked), now=now)

    @v1.post("/jobs/{kind}/{name}/move-first", response_model=models.Done)
    def move_first(asked: JobName) -> models.Done:
        """Let a job start before all others that wait; lasts as long as this emulator runs."""
        return jobs.move_first(jobs.key(asked))

    @v1.post("/jobs/{kind}/{name}/submit-again", response_model=models.Done, status_code=201)
    def submit_again(asked: JobName, wish: models.Resubmission) -> models.Done:
        """Run the job once more under another name, perhaps with other hyperparameters."""
        return jobs.submit_again(jobs.key(asked), wish)


def _log_routes(
    v1: APIRouter, path: str, asked_by: type[Any], logs: Logs, place: Callable[[Any], Place]
) -> None:
    """The log of what `path` names; `asked_by` reads that from a URL."""

    asked_for = Depends(asked_by)

    def the_place(asked: Any = asked_for) -> Place:
        return place(asked)

    here = Depends(the_place)

    def lines(
        where: Place = here,
        stream: str = Query(),
        before: Annotated[int | None, Query(ge=0)] = None,
        after: Annotated[int | None, Query(ge=0)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = LINES,
    ) -> models.LogLines:
        """Lines behind the offset `after`, else the last ones before `before` or the end."""
        return logs.lines(where, stream, before=before, after=after, limit=limit)

    def search(
        where: Place = here,
        stream: str = Query(),
        q: str = Query(min_length=1),
        after: Annotated[int, Query(ge=0)] = 0,
    ) -> models.LogLines:
        """The first lines that contain a text, from an offset on."""
        return logs.search(where, stream, q, after)

    def text(where: Place = here, stream: str = Query()) -> Response:
        """All lines as one file."""
        return StreamingResponse(
            logs.text(where, stream),
            media_type="text/plain; charset=utf-8",
            headers={**UNTRUSTED, **_attachment(f"{stream.replace('/', '-')}.log")},
        )

    v1.add_api_route(f"{path}/log", lines, response_model=models.LogLines)
    v1.add_api_route(f"{path}/log/search", search, response_model=models.LogLines)
    v1.add_api_route(f"{path}/log/text", text, response_class=PlainTextResponse)


def _data_routes(v1: APIRouter, queries: Queries) -> None:
    jobs = queries.jobs

    @v1.get("/jobs/{kind}/{name}/data", response_model=models.JobData)
    def data(asked: JobName) -> models.JobData:
        """Channels with their sizes, the files of outputs, checkpoints."""
        return queries.data.of(jobs.find(jobs.key(asked)))


def _endpoint_routes(v1: APIRouter, queries: Queries) -> None:
    endpoints = queries.endpoints

    @v1.get("/endpoints", response_model=list[models.EndpointSummary])
    def list_endpoints() -> list[models.EndpointSummary]:
        """Endpoints of all scopes, newest first."""
        return endpoints.all()

    @v1.get("/endpoints/{name}", response_model=models.EndpointDetail)
    def one_endpoint(asked: EndpointName) -> models.EndpointDetail:
        """Variants, instances and log streams."""
        return endpoints.one(asked)

    @v1.get("/endpoints/{name}/metrics", response_model=models.MetricPoints)
    def points(asked: EndpointName, after: Annotated[int, Query(ge=0)] = 0) -> models.MetricPoints:
        """Requests, latencies and errors by variant, in the last hour or after a cursor."""
        return endpoints.points(asked, after)

    @v1.post("/endpoints/{name}/invoke", response_class=Response)
    def invoke(asked: EndpointName) -> Response:
        """Send the body of this request to the endpoint, as InvokeEndpoint does."""
        return endpoints.invocation(asked)

    _log_routes(v1, "/endpoints/{name}", AskedEndpoint, endpoints.logs, endpoints.place)


def _object_routes(v1: APIRouter, queries: Queries) -> None:
    stored = queries.stored

    @v1.get("/buckets", response_model=list[models.Bucket])
    def buckets() -> list[models.Bucket]:
        """The buckets of the object store."""
        return stored.buckets()

    @v1.get("/folders/{bucket}", response_model=models.Folder)
    def folder(bucket: str, prefix: str = "", after: str = "") -> models.Folder:
        """What lies directly below a prefix."""
        return stored.folder(bucket, prefix, after)

    @v1.get("/objects/{bucket}/{key:path}", response_class=StreamingResponse)
    def download(bucket: str, key: str) -> Response:
        """An object's bytes."""
        size = stored.size(bucket, key)
        return StreamingResponse(
            stored.read(bucket, key),
            media_type="application/octet-stream",
            headers={
                **UNTRUSTED,
                **_attachment(key.rpartition("/")[2]),
                "content-length": str(size),
            },
        )

    @v1.put("/objects/{bucket}/{key:path}", status_code=201, response_model=models.StoredEntry)
    async def upload(bucket: str, key: str, request: Request) -> models.StoredEntry:
        """Keep the body of the request under that key."""
        body = _Body(request)
        size = int(request.headers.get("content-length", 0))
        await run_in_threadpool(stored.upload, bucket, key, cast(BinaryIO, body), size)
        name = key.rpartition("/")[2]
        return models.StoredEntry(name=name, key=key, prefix=False, size=body.count, modified=None)


class _Body:
    """The body of a request, read in another thread than the event loop's."""

    def __init__(self, request: Request):
        self._pieces: AsyncIterator[bytes] = request.stream()
        self._rest = b""
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = from_thread.run(self._next)
            if piece is None:
                break
            self._rest += piece
        cut = len(self._rest) if size < 0 else size
        given, self._rest = self._rest[:cut], self._rest[cut:]
        self.count += len(given)
        return given

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)


def _attachment(name: str) -> dict[str, str]:
    """The header by which a browser saves an answer under a name, whatever is in that."""
    return {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - it is the handler of no other
    unknown = "not find" in error.message or "not found" in error.message
    status = 404 if unknown or error.code == "ResourceNotFoundException" else error.status
    return JSONResponse({"detail": error.message}, status, headers=PLAIN)


def _store_failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)  # noqa: S101 - as above
    status = error.status if error.status in (400, 403, 404) else 502
    return JSONResponse({"detail": str(error)}, status, headers=PLAIN)


def as_json(value: Any) -> str:
    """For the data of server-sent events: one line."""
    return json.dumps(value, separators=(",", ":"))
