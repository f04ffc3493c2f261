"""A real uvicorn on a free port, for tests that drive the endpoint with real clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from emulator.aws.endpoint import endpoint_protocol
from emulator.aws.s3.proxy import S3Proxy


@contextmanager
def serving(app: Any, s3: S3Proxy | None = None) -> Iterator[str]:
    """Serve an ASGI application, and S3 if it is given, from a thread; gives the URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    http = endpoint_protocol(s3) if s3 else "auto"
    config = uvicorn.Config(app, http=http, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
