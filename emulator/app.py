"""The composition root: the only place that wires the parts together."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from emulator import __version__
from emulator.aws.gateway import Gateway
from emulator.aws.s3_proxy import S3Proxy
from emulator.aws.services import iam, logs, search, sts, tags, training_jobs
from emulator.cluster.capacity import Capacity, fixed_ports
from emulator.container.plan import Credentials
from emulator.database import Database
from emulator.jobs.exchange import S3Inputs, S3Outputs
from emulator.jobs.store import MIGRATIONS, JobStore
from emulator.jobs.supervisor import Supervisor
from emulator.jobs.workshop import Workshop
from emulator.logs.streams import LogStore
from emulator.model.errors import SetupError
from emulator.runtimes.process import ProcessRuntime
from emulator.settings import Settings
from emulator.storage.embedded import EmbeddedStore
from emulator.storage.objects import ObjectStore

_BACKLOG = 2048
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What answers requests, once everything is started."""

    supervisor: Supervisor
    records: JobStore
    logs: LogStore
    runtime: ProcessRuntime
    s3: S3Proxy
    s3_endpoint: str


class Emulator:
    """One emulator: a port, a state directory and everything that runs behind them.

    The thread that enters `running` must live as long as the emulator: the embedded
    object store ends with it.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._resources = ExitStack()

    @property
    def url(self) -> str:
        """Where AWS clients find it, with the port that was really taken."""
        if self._socket is None:
            raise SetupError("The emulator is not running.")
        port = self._socket.getsockname()[1]
        host = self.settings.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"  # noqa: S104

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
        self._socket = self._listen()
        parts = self._build(self.url)
        parts.supervisor.recover()
        config = uvicorn.Config(
            self._application(parts), log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="endpoint"
        )
        thread.start()
        self._resources.callback(thread.join)
        self._resources.callback(setattr, self._server, "should_exit", True)

    def close(self) -> None:
        """End the endpoint, the running jobs and the object store, in this order."""
        self._resources.close()
        if self._socket:
            self._socket.close()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.settings.host, self.settings.port))
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        return listening

    def _build(self, url: str) -> _Parts:
        settings = self.settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        keys = (settings.access_key, settings.secret_key.get_secret_value())
        if settings.s3_endpoint is None:
            embedded = self._resources.enter_context(EmbeddedStore(settings.state_dir, *keys))
            objects = ObjectStore(embedded.endpoint, *keys, settings.region, embedded.trouble)
        else:
            objects = ObjectStore(settings.s3_endpoint, *keys, settings.region)
        database = Database(settings.state_dir / "emulator.sqlite3", MIGRATIONS)
        self._resources.callback(database.close)
        runtime = ProcessRuntime(settings.python, url, settings.state_dir)
        if runtime.verdict.features is None:
            _log.warning("%s. %s", runtime.verdict.reason, runtime.verdict.remedy)
        records = JobStore(database)
        streams = LogStore(settings.state_dir / "logs")
        supervisor = Supervisor(
            Workshop(
                store=records,
                logs=streams,
                runtime=runtime,
                capacity=Capacity(fixed_ports) if runtime.traits.shares_ports else Capacity(),
                inputs=S3Inputs(objects),
                outputs=S3Outputs(objects),
                credentials=Credentials(*keys),
                directory=settings.state_dir / "jobs",
                stop_grace=settings.stop_grace_seconds,
            )
        )
        self._resources.callback(supervisor.shutdown)
        return _Parts(
            supervisor,
            records,
            streams,
            runtime,
            S3Proxy(objects.endpoint, *keys),
            objects.endpoint,
        )

    def _application(self, parts: _Parts) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield
            await parts.s3.aclose()

        application = FastAPI(
            title="sagemaker-emulator", lifespan=lifespan, openapi_url=None, docs_url=None
        )

        @application.get("/_emulator/health")
        def health() -> dict[str, Any]:
            return self._health(parts)

        services = {
            "sagemaker": {
                **training_jobs.operations(parts.supervisor, parts.records),
                **tags.operations(parts.records),
                **search.operations(parts.records),
            },
            "logs": logs.operations(parts.logs),
            "sts": sts.operations(self.settings),
            "iam": iam.operations(self.settings),
        }
        application.mount("/", Gateway(services, parts.s3, self.settings))
        return application

    def _health(self, parts: _Parts) -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "runtime": {"name": parts.runtime.traits.name, "reason": parts.runtime.verdict.reason},
            "object_store": {
                "kind": "external" if self.settings.s3_endpoint else "embedded",
                "endpoint": parts.s3_endpoint,
            },
            "state_dir": str(self.settings.state_dir),
            "account": self.settings.account,
            "region": self.settings.region,
            "jobs": {"running": parts.supervisor.running()},
        }
