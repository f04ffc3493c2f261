"""Invocations through an endpoint beside the same `serve` called directly.

    python tests/benchmarks/invocations.py [--seconds 3] [--rounds 4] [--clients 1 8 64]

A small PyTorch model is served by one process, and the runtime of the emulator is another one.
Clients send the same JSON over kept connections in turns, directly and through the endpoint, so
that what else the machine does befalls both. Printed are p50 and p95 in milliseconds and requests a
second of both, and their ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvicorn

from emulator.aws.endpoint import endpoint_protocol
from emulator.aws.gateway import Shortcut
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations
from emulator.aws.s3.proxy import S3Proxy
from emulator.model.hosting import ContainerSpec, Deployment, VariantSpec
from emulator.model.scope import Scope
from emulator.settings import Settings
from emulator.workloads.serving.routes import RoutedVariant, Routes, Table, Target

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from model_serving import ServedModel, write_model

INFERENCE = """
import json
import torch

def model_fn(model_dir):
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2).eval()

def input_fn(body, content_type):
    return torch.tensor(json.loads(body))

def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
"""
BODY = b"[[1.0, 2.0, 3.0, 4.0]]"
CREDENTIAL = b"AWS4-HMAC-SHA256 Credential=emulator/20260101/us-east-1/sagemaker/aws4_request"
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n"


class Samples:
    """Keeps nothing."""

    def put(self, *_: object) -> None:
        return


def serve(listening: socket.socket, port: int) -> None:
    """The runtime, with an endpoint of one instance at that port."""
    routes, settings = Routes(), Settings()
    variant = VariantSpec(
        "AllTraffic", (ContainerSpec("container-1", "i", {}),), "ml.m5.xlarge", 1, model="m"
    )
    target = Target("i-1", lambda _: socket.create_connection(("127.0.0.1", port), 0.25))
    routed = RoutedVariant(variant, (target,))
    scope = Scope(settings.account, "us-east-1")
    routes.open(scope, "e").publish(Table(Deployment("c", {}, (variant,)), (routed,)))

    async def nothing(*_: object) -> None:
        return

    metrics = InvocationMetrics(Samples())
    metrics.start()
    app = Shortcut(nothing, nothing, Invocations(routes, settings, metrics))
    http = endpoint_protocol(S3Proxy("http://127.0.0.1:9", "key", "secret"))
    config = uvicorn.Config(app, http=http, log_level="warning", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


async def client(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError((head, await reader.read(2000)))
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - began)
    writer.close()


async def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, request, until, times) for _ in range(clients)))
    return times


def request(path: bytes, more: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % len(BODY)
    return b"POST " + path + b" HTTP/1.1\r\n" + HEAD + more + length + BODY


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_model(Path(directory), INFERENCE)
        workers = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(options.workers)}
        with ServedModel(Path(directory), workers) as served:
            served.until_ready()
            listening = socket.socket()
            listening.bind(("127.0.0.1", 0))
            listening.listen(256)
            runtime = multiprocessing.Process(target=serve, args=(listening, served.port))
            runtime.start()
            try:
                compare(options, served.port, listening.getsockname()[1])
            finally:
                runtime.terminate()
                runtime.join()


def compare(options: argparse.Namespace, direct: int, through: int) -> None:
    ways = {
        "direct": (direct, request(b"/invocations")),
        "through": (
            through,
            request(b"/endpoints/e/invocations", b"Authorization: " + CREDENTIAL + b"\r\n"),
        ),
    }
    for port, sent in ways.values():
        asyncio.run(load(port, sent, 4, 1.0))
    print("clients  way        p50 ms  p95 ms   req/s")
    for clients in options.clients:
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, (port, sent) in ways.items():
                times[name] += asyncio.run(load(port, sent, clients, options.seconds))
        figures = {}
        for name, each in times.items():
            cuts = statistics.quantiles(each, n=100)
            rate = len(each) / (options.rounds * options.seconds)
            figures[name] = (cuts[49] * 1e3, cuts[94] * 1e3, rate)
            print(f"{clients:7}  {name:9}{cuts[49] * 1e3:8.2f}{cuts[94] * 1e3:8.2f}{rate:8.0f}")
        ratios = [b / a for a, b in zip(figures["direct"], figures["through"], strict=True)]
        print(f"{clients:7}  {'ratio':9}{ratios[0]:8.2f}{ratios[1]:8.2f}{ratios[2]:8.2f}")


if __name__ == "__main__":
    main()
