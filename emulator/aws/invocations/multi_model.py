"""Models of multi-model containers: loaded when a request names them, unloaded for others.

The containers' own API (developer guide, "Custom containers contract for multi-model
capability"): POST /models, DELETE /models/{name}, POST /models/{name}/invoke.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from concurrent.futures import Executor
from weakref import WeakKeyDictionary

from emulator.aws.invocations.container_http import ConnectionBroken
from emulator.aws.invocations.instances import Instances
from emulator.aws.invocations.replies import ModelErrors, invalid
from emulator.model.errors import JobError
from emulator.workloads.serving.routes import Target

LABEL = "model"
"""What errors call such a container (seen)."""
_ANSWER_LIMIT = 1 << 20
"""Bytes of what a container says of its models."""
_LOADED, _KNOWN, _NO_ROOM, _UNKNOWN = 200, 409, 507, 404
_LOAD_SECONDS = 600.0


class _Loaded:
    """The models of one container of one instance, those used last at the end."""

    def __init__(self) -> None:
        self.models: OrderedDict[str, None] = OrderedDict()
        self.loading: dict[str, asyncio.Lock] = {}


class MultiModels:
    """What is loaded where; belongs to one event loop."""

    def __init__(self, instances: Instances, errors: ModelErrors, blocking: Executor):
        self._instances = instances
        self._errors = errors
        self._blocking = blocking
        self._loaded: WeakKeyDictionary[Target, dict[int, _Loaded]] = WeakKeyDictionary()

    async def path(self, target: Target, container: int, model: str) -> bytes:
        """The path of a model's invocations, once the model is loaded. Raises Refusal."""
        name = hashlib.sha256(model.encode()).hexdigest()[:32]
        loaded = self._loaded.setdefault(target, {}).setdefault(container, _Loaded())
        lock = loaded.loading.setdefault(name, asyncio.Lock())
        async with lock:
            if name not in loaded.models:
                await self._load(target, container, model, name, loaded)
            loaded.models[name] = None
            loaded.models.move_to_end(name)
        return f"/models/{name}/invoke".encode()

    def forget(self, target: Target, container: int, model: str) -> None:
        """The container says that it does not have the model."""
        name = hashlib.sha256(model.encode()).hexdigest()[:32]
        if found := self._loaded.get(target, {}).get(container):
            found.models.pop(name, None)

    async def _load(
        self, target: Target, container: int, model: str, name: str, loaded: _Loaded
    ) -> None:
        if target.unpack is None:
            raise invalid(f"The endpoint has no models below {model}.")
        loop = asyncio.get_running_loop()
        try:
            url = await loop.run_in_executor(self._blocking, target.unpack, container, model, name)
        except JobError as error:
            raise invalid(str(error)) from error
        body = json.dumps({"model_name": name, "url": url}).encode()
        while True:
            status, answer = await self._ask(target, container, b"POST /models", body)
            if status in (_LOADED, _KNOWN):
                return
            if status != _NO_ROOM or not loaded.models:
                raise self._errors.answered(LABEL, status, answer)
            oldest, _ = loaded.models.popitem(last=False)
            await self._ask(target, container, f"DELETE /models/{oldest}".encode(), b"")

    async def _ask(
        self, target: Target, container: int, line: bytes, body: bytes
    ) -> tuple[int, bytes]:
        head = (
            line
            + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + b"Content-Length: %d\r\n\r\n" % len(body)
        )
        connection = await self._instances.ask(target, container, head, body, _LOAD_SECONDS)
        try:
            content = bytearray()
            while piece := await connection.read():
                content += piece
                if len(content) > _ANSWER_LIMIT:
                    raise ConnectionBroken("the answer is too long")
            return connection.status, bytes(content)
        finally:
            self._instances.give_back(target, container, connection)
