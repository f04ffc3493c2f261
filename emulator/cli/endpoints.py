"""endpoints, invoke: what serves on an emulator, and what it answers."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from emulator.cli.follow import POLL_SECONDS, LogReader
from emulator.cli.jobs import JsonFlag, print_json, show_line
from emulator.cli.messages import ExitCode, fail, note, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.reach import connection
from emulator.cli.remote import Remote, connect, pages, plain_errors, signed
from emulator.model.errors import ApiError

EndpointName = Annotated[str, typer.Argument(help="Name of the endpoint.", show_default=False)]

_STYLES = {"InService": "green", "Failed": "bold red"}
_LOG_GROUP = "/aws/sagemaker/Endpoints"
_PRELUDE = 12
"""Bytes of a message before its headers."""
_UNKNOWN = "Could not find endpoint"
_TYPES = {".json": "application/json", ".csv": "text/csv", ".npy": "application/x-npy"}
_TIMEOUT = 600.0
"""Seconds: a stream may take 8 minutes."""


def endpoints(
    as_json: JsonFlag = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List endpoints with their variants and instances, newest first."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote):
        listed = pages(remote.sagemaker, "ListEndpoints", "Endpoints", MaxResults=100)
        found = [each for name in listed if (each := _described(remote, name["EndpointName"]))]
    if as_json:
        print_json(found)
    else:
        out.print(_table(found) if found else "No endpoints.")


def invoke(
    name: EndpointName,
    body: Annotated[str | None, typer.Option("--body", help="The request's body.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with the body.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="Default: by the file's name, else JSON.")
    ] = None,
    accept: Annotated[str | None, typer.Option("--accept", help="The answer's type.")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="TargetVariant.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="TargetModel.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print the answer part by part as it comes.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Send a request to an endpoint and print its answer."""
    if (body is None) == (file is None):
        fail("give either --body or --file.", code=ExitCode.USAGE)
    try:
        content = body.encode() if body is not None else file.read_bytes() if file else b""
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.", code=ExitCode.USAGE)
    kind = content_type or _TYPES.get(file.suffix if file else ".json", "application/octet-stream")
    accept_header = "x-amzn-sagemaker-accept" if stream else "accept"
    headers = {
        "content-type": kind,
        accept_header: accept,
        "x-amzn-sagemaker-target-variant": variant,
        "x-amzn-sagemaker-target-model": model,
    }
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    path = f"/endpoints/{name}/invocations{'-response-stream' if stream else ''}"
    given = {key: value for key, value in headers.items() if value is not None}
    with plain_errors(remote):
        for piece in _answer(remote, path, given, content):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    if sys.stdout.isatty():
        out.print()


def show_log(remote: Remote, name: str, follow: bool, instance: str | None) -> None:
    """Print an endpoint's log; with `follow` until it fails or is deleted, or Ctrl-C."""
    reader = LogReader(
        remote, f"{_LOG_GROUP}/{name}", "", lambda stream: stream.partition("/")[2], instance
    )
    shown = False
    while True:
        described = _described(remote, name)
        for line in reader.lines():
            show_line(line)
            shown = True
        if described is None and not shown:
            fail(f"there is no endpoint {name}.", "To list them: sagemaker-emulator endpoints")
        if described is None and follow:
            note(f"{name} is deleted")
        if described is None or not follow:
            return
        if described["EndpointStatus"] == "Failed":
            note(f"{name} Failed: {described.get('FailureReason', '')}")
            raise typer.Exit(ExitCode.FAILED)
        time.sleep(POLL_SECONDS)


def exists(remote: Remote, name: str) -> bool:
    """Whether there is an endpoint of that name."""
    return _described(remote, name) is not None


def _described(remote: Remote, name: str) -> dict[str, Any] | None:
    try:
        return remote.sagemaker.call("DescribeEndpoint", EndpointName=name)
    except ApiError as error:
        if _UNKNOWN not in error.message:
            raise
        return None


def _answer(remote: Remote, path: str, headers: dict[str, str], body: bytes) -> Iterator[bytes]:
    """The pieces of an answer; raises ApiError and ConnectionError."""
    try:
        with closing(connection(remote.url, _TIMEOUT)) as opened:
            wanted, all_headers = signed(remote.url, path, remote.credentials, "sagemaker", headers)
            opened.request("POST", wanted, body, all_headers)
            answer = opened.getresponse()
            if answer.status >= 300:
                code = answer.getheader("x-amzn-errortype", str(answer.status)).partition(":")[0]
                said = _json(answer.read())
                raise ApiError(said.get("Message", ""), code=code, status=answer.status)
            if "eventstream" not in answer.getheader("content-type", ""):
                yield answer.read()
                return
            yield from _parts(answer)
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def _parts(stream: HTTPResponse) -> Iterator[bytes]:
    """The payloads of an event stream as they come; raises ApiError.

    The form of a message is told in emulator/aws/invocations/event_stream.py.
    """
    while prelude := stream.read(_PRELUDE):
        total, length = struct.unpack(">II", prelude[:8])
        rest = stream.read(total - _PRELUDE)
        headers, payload = rest[:length], rest[length:-4]
        if b"exception" in headers:
            raise ApiError(_json(payload).get("Message", ""), code="ModelStreamError")
        yield payload


def _json(text: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {"Message": text[:200].decode(errors="replace")}


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("ENDPOINT", "STATUS", "CONFIGURATION", "VARIANTS", "CREATED", "WHY"):
        table.add_column(heading, overflow="fold")
    for each in found:
        status = each["EndpointStatus"]
        table.add_row(
            Text(each["EndpointName"]),
            Text(status, _STYLES.get(status, "cyan")),
            Text(each["EndpointConfigName"]),
            ", ".join(map(_variant, each.get("ProductionVariants", ()))),
            each["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            Text(_why(each)),
        )
    return table


def _variant(described: dict[str, Any]) -> str:
    if "CurrentServerlessConfig" in described:
        return f"{described['VariantName']} (serverless)"
    current, wanted = described["CurrentInstanceCount"], described["DesiredInstanceCount"]
    count = str(current) if current == wanted else f"{current} of {wanted}"
    return f"{described['VariantName']} × {count}"


def _why(described: dict[str, Any]) -> str:
    """What it waits for, or why it failed."""
    waiting = described.get("PendingDeploymentSummary", {}).get("ProductionVariants", ())
    states = [
        state
        for variant in (*described.get("ProductionVariants", ()), *waiting)
        for state in variant.get("VariantStatus", ())
    ]
    told = [state["StatusMessage"] for state in states if state.get("StatusMessage")]
    reason = described.get("FailureReason", "").partition("\n")[0]
    return "; ".join(dict.fromkeys(filter(None, (reason, *told))))
