"""`invoke` against the runtime over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from http_server import serving
from model_servers import ModelServer, running
from typer.testing import CliRunner, Result

from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations
from emulator.cli import app
from emulator.model.hosting import ContainerSpec, Deployment, VariantSpec
from emulator.model.scope import Scope
from emulator.settings import Settings
from emulator.workloads.serving.routes import RoutedVariant, Routes, Table, Target

SETTINGS = Settings()
VARIANT = VariantSpec(
    "AllTraffic", (ContainerSpec("container-1", "mine:1", {}),), "ml.m5.xlarge", 1, model="m"
)


class Samples:
    """Keeps nothing."""

    def put(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def url(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    routes = Routes()
    table = Table(
        Deployment("c", {}, (VARIANT,)), (RoutedVariant(VARIANT, (Target("i", server.dial),)),)
    )
    routes.open(Scope(SETTINGS.account, SETTINGS.region), "e").publish(table)
    with ExitStack() as resources:
        runtime = Invocations(routes, SETTINGS, InvocationMetrics(Samples()))
        yield resources.enter_context(serving(runtime))


def invoke(url: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["invoke", *words, "--endpoint-url", url])


def test_the_answer_is_printed_as_it_is(url: str, server: ModelServer, tmp_path: Path) -> None:
    assert invoke(url, "e", "--body", "[1]").stdout_bytes == b"[1]"
    body = tmp_path / "rows.csv"
    body.write_bytes(b"1,2\n")
    answer = invoke(
        url, "e", "--file", str(body), "--accept", "text/csv", "--variant", VARIANT.name
    )
    assert answer.stdout_bytes == b"1,2\n"
    (_, first, _), (_, second, _) = server.seen
    assert first["content-type"] == "application/json"
    assert (second["content-type"], second["accept"]) == ("text/csv", "text/csv")


def test_a_stream_is_printed_part_by_part(url: str) -> None:
    assert invoke(url, "e", "--body", "[1]", "--stream").stdout_bytes == b"[1]"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none", "--body", "x"), "Endpoint none of account"),
        (("e",), "give either --body or --file"),
        (("e", "--file", "/nowhere"), "cannot be read"),
    ],
)
def test_what_goes_wrong_is_one_line(url: str, words: tuple[str, ...], told: str) -> None:
    answer = invoke(url, *words)
    assert answer.exit_code != 0
    assert told in answer.stderr
