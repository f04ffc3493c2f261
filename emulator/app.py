"""The composition root: the only place that wires the parts together and answers for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler

from emulator import __version__
from emulator.aws.admin_access import HEALTH, PREFIX, AdminAccess, ForJobs, refuse_jobs
from emulator.aws.built import Hosting, operations_by_service
from emulator.aws.control import disturb_operations, routes
from emulator.aws.front.front import Front
from emulator.aws.gateway import Gateway, Shortcut
from emulator.aws.invocations.runtime import Runtime
from emulator.aws.s3.local_control import LocalControl
from emulator.aws.transforms.jobs import TransformJobs
from emulator.aws.transforms.objects import PatientObjects
from emulator.data.objectstore.weed import no_space
from emulator.drivers.base import Lasting
from emulator.model.errors import SetupError
from emulator.model.lifecycle import Phase
from emulator.parts import Parts, build, listen, listens_everywhere
from emulator.settings import Settings
from emulator.web import api
from emulator.web.pages import Access, Pages
from emulator.web.request_code import operation
from emulator.web.sources import Sources
from emulator.web.templating import UI

_FIRST_ANSWERS_SECONDS = 30
_PORT_SECONDS = 2.0
_FRONT_SECONDS = 60.0
"""For the process that accepts connections to start, on a machine that has much to do."""
_log = logging.getLogger(__name__)


class _Doors:
    """The endpoint on other sockets than its own: those inside the networks of jobs.

    They are served by the endpoint's own event loop, and S3 by the process in front.
    """

    def __init__(self) -> None:
        self._application: FastAPI | None = None
        self._front: Front | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attached = threading.Event()

    def attach(self, application: FastAPI, front: Front) -> None:
        """Called in the endpoint's event loop, before the first request."""
        self._application = application
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._attached.set()

    def open(self, listening: socket.socket) -> Callable[[], None]:
        """Answer on that socket, too; the function it returns ends that soon.

        Jobs that waited under an earlier emulator can be there before the endpoint answers.
        Raises OSError when it has ended, as it does before the jobs do.
        """
        self._attached.wait(_FIRST_ANSWERS_SECONDS)
        if self._application is None or self._front is None or self._loop is None:
            raise SetupError("The endpoint does not answer yet.")
        server = self._front.server(ForJobs(self._application), lifespan="off")
        serving = server.serve([listening])
        try:
            future = asyncio.run_coroutine_threadsafe(serving, self._loop)
        except RuntimeError as error:
            serving.close()
            raise OSError("the endpoint does not answer any more") from error
        future.add_done_callback(_tell_failure)
        return lambda: setattr(server, "should_exit", True)


class Emulator:
    """One emulator: a port, a state directory and everything that runs behind them."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._resources = ExitStack()
        self._doors = _Doors()
        self._front = Front()
        self._parts: Parts | None = None
        self._access: AdminAccess | None = None
        self.admin_token = settings.admin_token.get_secret_value() or secrets.token_urlsafe(24)
        """Gives access to the admin routes from everywhere but a job's own network."""

    @property
    def url(self) -> str:
        """Where AWS clients find it, with the port that was really taken."""
        if self._socket is None:
            raise SetupError("The emulator is not running.")
        port = self._socket.getsockname()[1]
        return f"http://{reached_at(self.settings.host)}:{port}"

    @property
    def page(self) -> str:
        """Where a browser finds the pages; with the token, where that is needed."""
        if self._access is None or not self._access.needs_token(self.settings.host):
            return f"{self.url}{UI}/"
        return f"{self.url}{UI}/enter?token={self.admin_token}"

    @classmethod
    @contextmanager
    def running(cls, settings: Settings) -> Iterator[Emulator]:
        """An emulator that answers while the context lasts.

        Raises SetupError where it cannot start and OSError where the port is taken.
        """
        emulator = cls(settings)
        try:
            emulator.start()
            yield emulator
        finally:
            emulator.close()

    def start(self) -> None:
        """Take the port, start all parts, settle what an earlier run left, then answer."""
        # The port first: somebody else's emulator must not cost us half a start.
        # An emulator that was killed leaves it a moment later.
        self._socket = listen(self.settings.host, self.settings.port, _PORT_SECONDS)
        self._resources.callback(self._front.end)
        self._front.start()
        parts = build(self.settings, self.url, self._doors.open, self._resources)
        self._parts = parts
        sockets = [self._socket, *self._for_containers(parts.addresses)]
        parts.endpoints.recover(parts.supervisor.recover(parts.endpoints.survivors()))
        parts.watch.start()
        self._server = self._front.server(self._application(parts, sockets))
        # It has no sockets of its own: it gets connections of the process in front.
        thread = threading.Thread(target=self._server.run, kwargs={"sockets": []}, name="endpoint")
        thread.start()
        # At the end both finish their answers at the same time.
        self._resources.callback(thread.join)
        self._resources.callback(self._front.end)
        self._resources.callback(setattr, self._server, "should_exit", True)
        self._resources.callback(self._front.stop)
        if not self._front.serves(_FRONT_SECONDS):
            raise SetupError("The process that accepts connections does not start.")
        parts.retention.start()  # nobody waits for it

    def leave_no_job(self) -> None:
        """When this ends, so do the jobs that could go on without it."""
        if self._parts:
            self._parts.supervisor.leave_no_job()
            self._parts.endpoints.leave_no_instance()

    def close(self) -> None:
        """End the endpoint, the running jobs and the object store, in this order."""
        self._resources.close()
        if self._socket:
            self._socket.close()

    def _for_containers(self, addresses: tuple[str, ...]) -> list[socket.socket]:
        """The same port on the addresses by which containers reach this machine."""
        host, port = self.settings.host, urlsplit(self.url).port or 0
        if listens_everywhere(host):
            return []
        opened = [listen(address, port) for address in addresses if address != host]
        for listening in opened:
            self._resources.callback(listening.close)
        return opened

    def _application(self, parts: Parts, listening: list[socket.socket]) -> FastAPI:
        disturb = disturb_operations(parts.faults)
        transforms = TransformJobs(
            parts.hosting,
            parts.endpoints,
            PatientObjects(parts.objects),
            logs=parts.logs,
            directory=self.settings.state_dir,
        )
        runtime = Runtime(
            self.settings,
            parts.routes,
            parts.hosting,
            parts.queue,
            parts.objects,
            parts.invocation_metrics,
            disturb,
            (transforms,),
        )

        @asynccontextmanager
        async def lifespan(itself: FastAPI) -> AsyncIterator[None]:
            self._doors.attach(itself, self._front)
            self._front.attach(listening, parts.s3, LocalControl(parts.faults, parts.availability))
            async with runtime.running():
                yield

        application = FastAPI(
            title="sagemaker-emulator", lifespan=lifespan, openapi_url=None, docs_url=None
        )

        @application.get(HEALTH)
        def health() -> dict[str, Any]:
            return self._health(parts)

        runtimes = parts.runtimes.all
        access = AdminAccess(
            self.admin_token,
            lambda: not any(runtime.traits.shares_ports for runtime in runtimes),
        )
        self._access = access
        admin = APIRouter(prefix=PREFIX, dependencies=[Depends(access)])

        @admin.get("/gpus")
        def gpus() -> dict[str, Any]:
            return parts.capacity.holdings()

        admin.include_router(routes(parts.faults, parts.supervisor, self.settings))

        services = operations_by_service(
            self.settings,
            parts.supervisor,
            parts.records,
            parts.logs,
            parts.metrics,
            parts.runtimes,
            Hosting(parts.hosting, parts.objects, parts.endpoints, transforms),
        )
        gateway = Gateway(
            services,
            self.settings,
            disturb,
            lambda name: parts.catalog.find(name) is not None,
        )
        self._add_pages(application, admin, access, parts, gateway, runtime)

        @admin.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        def unknown(path: str) -> None:
            raise HTTPException(404, f"There is no {PREFIX}/{path}.")

        application.include_router(admin)
        application.mount("/", gateway)
        # Signed requests are for AWS: they need not pass through everything else.
        application.add_middleware(Shortcut, gateway=gateway, invocations=runtime)
        return application

    def _add_pages(
        self,
        application: FastAPI,
        admin: APIRouter,
        access: AdminAccess,
        parts: Parts,
        gateway: Gateway,
        runtime: Runtime,
    ) -> None:
        """The pages for people, and the JSON behind them."""
        queries = api.Queries.of(
            Sources(
                settings=self.settings,
                started=time.time(),
                machine=parts.machine,
                health=lambda: self._health(parts),
                records=parts.records,
                logs=parts.logs,
                metrics=parts.metrics,
                capacity=parts.capacity,
                supervisor=parts.supervisor,
                objects=parts.objects,
                cache=parts.cache,
                watch=parts.watch,
                create=lambda kind, scope, request: gateway.carry_out(
                    "sagemaker", operation(kind), request, scope
                ),
                hosting=parts.hosting,
                endpoints=parts.endpoints,
                runtime=runtime,
            )
        )
        pages = Pages(
            queries,
            Access(
                access.csrf_token, access.cookie_name, access.cookie, access.admits, refuse_jobs
            ),
            lambda: self._server is None or self._server.should_exit,
        )
        pages.install(application, admin)
        api.install(application, queries, admin)

        @application.exception_handler(HTTPException)
        async def answer_error(request: Request, error: HTTPException) -> Response:
            if request.url.path.startswith(UI) and "text/html" in request.headers.get("accept", ""):
                return pages.refused(request, error)
            return await http_exception_handler(request, error)

    def _health(self, parts: Parts) -> dict[str, Any]:
        away = parts.runtimes.away()
        chosen = parts.runtimes.summary(away)
        problem = parts.availability.problem()
        if not problem and parts.s3.directory:
            problem = no_space(Path(parts.s3.directory), 0)
        return {
            "status": "degraded" if problem else "ok",
            "version": __version__,
            "runtime": {
                "name": chosen.runtime.traits.name,
                "reason": chosen.reason,
                # Whether its instances can go on without this emulator.
                "lasting": isinstance(chosen.runtime, Lasting),
            },
            "engine_away": away,
            "object_store": {
                "kind": "external" if self.settings.s3_endpoint else "embedded",
                "endpoint": parts.s3.endpoint,
                "problem": problem,
            },
            "state_dir": str(parts.state_dir),
            "account": self.settings.account,
            "region": self.settings.region,
            "jobs": {
                **_counted(parts.records.unfinished_by_phase()),
                "waiting_for_engine": parts.records.unfinished_on("docker") if away else 0,
            },
        }


def _counted(by_phase: Mapping[Phase, int]) -> dict[str, int]:
    """Jobs that have not ended: those that are yet to begin, wait for capacity, and the rest."""
    queued = by_phase.get(Phase.STARTING, 0)
    pending = by_phase.get(Phase.PENDING, 0)
    running = sum(by_phase.values()) - queued - pending
    return {"running": running, "queued": queued, "pending": pending}


def reached_at(host: str) -> str:
    """How a URL names this machine where the emulator listens on `host`."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _tell_failure(serving: Future[None]) -> None:
    if not serving.cancelled() and (error := serving.exception()):
        _log.error("A job does not reach the emulator any more", exc_info=error)
