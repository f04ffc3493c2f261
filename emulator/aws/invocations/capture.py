"""Data capture: requests and answers as lines of JSON in S3 (developer guide, Model Monitor)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol
from uuid import uuid4

from emulator.aws.invocations.proxy import Answer
from emulator.aws.invocations.request import Invocation
from emulator.data.objectstore.failures import StoreError
from emulator.model.hosting import Capture, Deployment
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri

FLUSH_BYTES = 1 << 20
FLUSH_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_MOST_BYTES = 64 << 20
"""Of one variant's lines that S3 does not take; later ones are lost."""

log = logging.getLogger(__name__)


class Objects(Protocol):
    """Where the lines go."""

    def upload(self, bucket: str, key: str, stream: io.BytesIO) -> None:
        """Raises StoreError."""
        ...


@dataclass
class _Lines:
    """Of one variant."""

    prefix: S3Uri
    since: float
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


class DataCapture:
    """Of all endpoints; belongs to one event loop."""

    def __init__(
        self,
        objects: Objects,
        serves: Callable[[Scope, str], bool],
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ):
        """`serves` says whether an endpoint is still there; `draw` gives 0 up to 1."""
        self._objects = objects
        self._serves = serves
        self._clock = clock
        self._draw = draw
        self._kept: dict[tuple[Scope, str, str], _Lines] = {}
        self._task: asyncio.Task[None] | None = None

    def answered(
        self, scope: Scope, deployment: Deployment, call: Invocation, body: bytes, answer: Answer
    ) -> None:
        """Keep a request and its answer, if the endpoint captures them."""
        capture = deployment.capture
        if capture is None or self._draw() * 100 >= capture.percentage:
            return
        now = self._clock()
        key = (scope, call.endpoint, answer.variant)
        kept = self._kept.get(key)
        if kept is None:
            prefix = capture.destination.join(call.endpoint, answer.variant)
            kept = self._kept[key] = _Lines(prefix, now)
        if kept.size > _MOST_BYTES:
            return
        line = line_of(capture, call, body, answer, now)
        kept.lines.append(line)
        kept.size += len(line)

    def start(self) -> None:
        """Write what was kept, again and again."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write all of it."""
        if self._task is not None:
            self._task.cancel()
        await self._flush(lambda *_: True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._flush(self._is_due)
            except Exception:  # the top of a task: the next data must be written all the same
                log.exception("captured data is not written")

    def _is_due(self, key: tuple[Scope, str, str], kept: _Lines) -> bool:
        scope, endpoint, _ = key
        return (
            kept.size >= FLUSH_BYTES
            or self._clock() >= kept.since + FLUSH_SECONDS
            or not self._serves(scope, endpoint)
        )

    async def _flush(self, is_due: Callable[[tuple[Scope, str, str], _Lines], bool]) -> None:
        loop = asyncio.get_running_loop()
        for key in [key for key, kept in self._kept.items() if is_due(key, kept)]:
            kept = self._kept.pop(key)
            try:
                await loop.run_in_executor(None, self._write, kept)
            except StoreError as error:
                log.warning("captured data of endpoint %s is not written yet: %s", key[1], error)
                later = self._kept.get(key)
                kept.since = self._clock()
                if later is not None:
                    kept.lines += later.lines
                    kept.size += later.size
                self._kept[key] = kept

    def _write(self, kept: _Lines) -> None:
        at = datetime.fromtimestamp(kept.since, timezone.utc)
        name = f"{at:%M-%S}-{at.microsecond // 1000:03d}-{uuid4()}.jsonl"
        target = kept.prefix.join(f"{at:%Y/%m/%d/%H}", name)
        self._objects.upload(target.bucket, target.key, io.BytesIO(b"".join(kept.lines)))


def line_of(capture: Capture, call: Invocation, body: bytes, answer: Answer, at: float) -> bytes:
    """One line of a file (pure); `at` in epoch seconds."""
    data = {}
    if capture.inputs:
        data["endpointInput"] = _side(capture, call.content_type, body, "INPUT")
    if capture.outputs:
        data["endpointOutput"] = _side(capture, answer.content_type, answer.body, "OUTPUT")
    event: dict[str, Any] = {"eventId": str(uuid4())}
    if call.inference_id is not None:
        event["inferenceId"] = call.inference_id
    event["inferenceTime"] = f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    line = {"captureData": data, "eventMetadata": event, "eventVersion": "0"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _side(capture: Capture, content_type: bytes | None, body: bytes, mode: str) -> dict[str, Any]:
    observed = (content_type or b"").decode("latin-1")
    kind = observed.partition(";")[0].strip().lower()
    encoding = "BASE64"
    if kind in {each.lower() for each in capture.csv_types}:
        encoding = "CSV"
    elif kind in {each.lower() for each in capture.json_types}:
        encoding = "JSON"
    try:
        text = body.decode("utf-8") if encoding != "BASE64" else ""
    except UnicodeDecodeError:
        encoding = "BASE64"
    if encoding == "BASE64":
        text = base64.b64encode(body).decode("ascii")
    return {"observedContentType": observed, "mode": mode, "data": text, "encoding": encoding}
