"""One process of a model: loads it by AWS's own toolkit and answers one request after the other.

`models.py` runs this file as a script: `python worker.py FD MODEL_DIRECTORY`. FD is one end of a
socket pair, on which both sides send tuples. The worker receives

    ("invoke", headers, body)               one request
    ("stop",)                               nobody reads the rest of the stream

and sends, first of all, one of

    ("ready",)                              the model is loaded
    ("failed", text, out_of_memory)         it cannot be loaded; the process ends with 1

and then for each request

    ("answer", status, phrase, headers, body)
    ("head", status, phrase, headers), ("part", bytes) ..., ("end", whole)

The second form is that of a handler that returns a generator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import traceback
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from inspect import isawaitable
from multiprocessing.connection import Connection
from typing import Any

Messages = Generator[tuple[Any, ...], None, None]

PHRASE_LIMIT = 200
"""Characters; the phrase is the text of an exception, and clients limit a header line."""


class Headers(dict[str, str]):
    """A request's headers by name, which is not case-sensitive."""

    def __init__(self, headers: dict[str, str]):
        super().__init__(headers)
        self._lower = {name.lower(): value for name, value in headers.items()}

    def get(self, name: str, default: Any = None) -> Any:
        return self._lower.get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return self._lower[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lower


class Request:
    """One request and the properties of its answer, under the names of TorchServe and MMS."""

    def __init__(self, headers: dict[str, str]):
        self.headers = Headers(headers)
        self.body = b""
        self.id = str(uuid.uuid4())
        self.status, self.phrase = 200, ""
        self.answer_headers: dict[str, str] = {}

    def get_request_properties(self) -> Headers:
        return self.headers

    def get_request_property(self, key: str) -> Any:
        return self.headers.get(key)

    def add_response_property(self, key: str, value: str) -> None:
        self.answer_headers[key] = value

    def get_response_header(self) -> dict[str, str]:
        return self.answer_headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self.status, self.phrase = code, reason_phrase or ""


class Metrics:
    """`context.metrics` of TorchServe: each value becomes a line of the log."""

    def add_metric(self, name: str, value: Any, *_: Any, unit: str = "", **__: Any) -> None:
        print(f"[METRICS]{name}{'.' if unit else ''}{unit}:{value}", flush=True)

    add_counter = add_time = add_size = add_percent = add_error = add_metric


class Context:
    """What handlers are given as `context`; the members of TorchServe's that make sense here.

    The index that some methods take is that of a request in a batch. A batch has one request.
    """

    def __init__(self, model_directory: str, gpu_id: int | None):
        self.model_name = "model"
        self.manifest = {"model": {"modelName": self.model_name}}
        self.system_properties = {
            "model_dir": model_directory,
            "gpu_id": gpu_id,
            "batch_size": 1,
            "server_name": "sagemaker-emulator",
            "server_version": "1",
        }
        self.metrics = Metrics()
        self.request = Request({})

    @property
    def request_processor(self) -> list[Request]:
        return [self.request]

    @property
    def request_ids(self) -> dict[int, str]:
        return {0: self.request.id}

    def get_request_id(self, idx: int = 0) -> str:
        return self.request.id

    def get_request_header(self, idx: int, key: str) -> Any:
        return self.request.headers.get(key)

    def get_all_request_header(self, idx: int) -> Headers:
        return self.request.headers

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.request.answer_headers["Content-Type"] = value

    def get_response_content_type(self, idx: int) -> str | None:
        return self.request.answer_headers.get("Content-Type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request.answer_headers[key] = value

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self.request.answer_headers

    def set_response_status(self, code: int = 200, phrase: str | None = "", idx: int = 0) -> None:
        self.request.report_status(code, phrase)

    def get_response_status(self, idx: int = 0) -> tuple[int, str]:
        return self.request.status, self.request.phrase

    def set_all_response_status(self, code: int = 200, phrase: str | None = "") -> None:
        self.request.report_status(code, phrase)


class Service:
    """A loaded model; subclasses say how a request is passed to the user's code."""

    def call(self, request: Request, body: bytes) -> Any:
        """The body of the answer, or a generator of its parts; may raise anything."""
        raise NotImplementedError

    def answer(self, headers: dict[str, str], body: bytes) -> Messages:
        """The messages that answer one request."""
        request = Request(headers)
        try:
            result = self.call(request, body)
            streamed = hasattr(result, "__next__")
            message = ("stream",) if streamed else _answer(request, _bytes(result))
        except Exception as error:  # of the user's code
            yield _failure(request, error)
            return
        if streamed:
            yield from self._stream(request, result)
        else:
            yield message

    def _stream(self, request: Request, parts: Any) -> Messages:
        """One message a part. An error before the first part is an ordinary answer with 500."""
        begun = False
        try:
            for part in parts:
                if data := _bytes(part):
                    if not begun:
                        yield ("head", *_head(request))
                        begun = True
                    yield ("part", data)
            if not begun:
                yield ("head", *_head(request))
        except GeneratorExit:
            _close(parts)
            raise
        except Exception as error:  # of the user's code
            failure = _failure(request, error)
            yield ("end", False) if begun else failure
        else:
            yield ("end", True)


class ToolkitService(Service):
    """`model_fn` and its kin, through AWS's own Transformer."""

    def __init__(self, model_directory: str):
        """Load the model; raises what the user's code raises."""
        with_torch = find_spec("torch") is not None
        self._context = Context(model_directory, _gpu() if with_torch else None)
        self._transformer = _transformer(with_torch)
        self._transformer.validate_and_initialize(model_dir=model_directory, context=self._context)

    def call(self, request: Request, body: bytes) -> Any:
        self._context.request = request
        result = self._transformer.transform([{"body": body}], self._context)[0]
        if request.status >= 400 and isinstance(result, str):
            print(result, file=sys.stderr, flush=True)
        return result


class CodeService(Service):
    """One function for everything, as in SageMaker Distribution images (ModelServer.SMD of SDK v3).

    It gets a request with `body` and `headers`, and may be a coroutine or an async generator.
    """

    def __init__(self, code: str, model_directory: str):
        """`code` is MODULE.FUNCTION; raises what the user's code raises."""
        directory = os.environ.get("SAGEMAKER_INFERENCE_CODE_DIRECTORY")
        sys.path.insert(0, directory or model_directory)
        module, _, function = code.rpartition(".")
        self._handler = getattr(import_module(module), function)
        self._loop = asyncio.new_event_loop()

    def call(self, request: Request, body: bytes) -> Any:
        request.body = body
        result = self._handler(request)
        if isawaitable(result):
            result = self._loop.run_until_complete(result)
        if isinstance(result, dict):
            request.answer_headers["Content-Type"] = "application/json"
        return self._parts(result) if isinstance(result, AsyncIterator) else result

    def _parts(self, parts: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.run_until_complete(parts.__anext__())
            except StopAsyncIteration:
                return


def _close(parts: Any) -> None:
    """Let a generator of the user's code run its `finally`."""
    try:
        parts.close()
    except Exception:
        traceback.print_exc()


def _transformer(with_torch: bool) -> Any:
    from sagemaker_inference.transformer import Transformer  # noqa: PLC0415

    if not with_torch:
        return Transformer()
    from sagemaker_pytorch_serving_container import (  # noqa: PLC0415
        default_pytorch_inference_handler as pytorch,
    )

    return Transformer(default_inference_handler=pytorch.DefaultPytorchInferenceHandler())


def _gpu() -> int | None:
    """The first of the GPUs that this process sees: it sees its own ones only."""
    import torch  # noqa: PLC0415

    return 0 if torch.cuda.is_available() else None


def _bytes(result: Any) -> bytes:
    """What a handler returned as the body of an answer, as TorchServe turns it into one."""
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    return result.encode() if isinstance(result, str) else json.dumps(result).encode()


_FRAMING = ("connection", "content-length", "transfer-encoding")
"""Headers that the server writes itself."""


def _head(request: Request) -> tuple[int, str, dict[str, str]]:
    headers = {
        str(name): str(value)
        for name, value in request.answer_headers.items()
        if str(name).lower() not in _FRAMING
    }
    if request.status >= 400:
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    return int(request.status), str(request.phrase or "")[:PHRASE_LIMIT], headers


def _answer(request: Request, body: bytes) -> tuple[Any, ...]:
    return ("answer", *_head(request), body)


def _failure(request: Request, error: Exception) -> tuple[Any, ...]:
    """The answer of an error outside the toolkit, in the form of those inside."""
    text = f"{error}\n{traceback.format_exc()}"
    print(text, file=sys.stderr, flush=True)
    request.answer_headers.clear()
    request.report_status(500, str(error))
    return _answer(request, text.encode())


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _serve(connection: Connection, model_directory: str) -> None:
    try:
        code = os.environ.get("SAGEMAKER_INFERENCE_CODE")
        service = CodeService(code, model_directory) if code else ToolkitService(model_directory)
    except BaseException as error:
        trace = traceback.format_exc()
        print(trace, file=sys.stderr, flush=True)
        # In the form of an answer with 500: what is cut off at the end matters least.
        text = f"{type(error).__name__}: {error}\n{trace}"
        connection.send(("failed", text, _out_of_memory(error)))
        sys.exit(1)
    connection.send(("ready",))
    while True:
        message = connection.recv()
        if message[0] != "invoke":
            continue  # "stop" came after the end of its stream
        answer = service.answer(*message[1:])
        for part in answer:
            connection.send(part)
            if part[0] == "part" and connection.poll():
                connection.recv()
                answer.close()
                connection.send(("end", False))
                break


def main() -> None:
    """Serve until the other side hangs up."""
    connection = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    model_directory = sys.argv[2]
    del sys.path[0]  # this file's directory, whose modules must not hide the user's
    os.chdir(model_directory)
    level = os.environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "")
    logging.basicConfig(
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s - %(message)s",
        level=int(level) if level.isdecimal() else logging.INFO,
    )
    # The server hangs up when it ends or unloads the model.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection, model_directory)


if __name__ == "__main__":
    main()
