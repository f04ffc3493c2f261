"""The model server with real models over real sockets."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from pathlib import Path

import numpy as np
import pytest
import torch
from model_serving import ServedModel, write_model

LINEAR = """
import io
import os
import torch

def model_fn(model_dir, context):
    print("loading", model_dir, context.system_properties["gpu_id"])
    model = torch.nn.Linear(2, 1)
    model.load_state_dict(torch.load(os.path.join(model_dir, "weights.pth")))
    return model.eval()

def input_fn(body, content_type):
    if content_type == "application/x-pt":
        return torch.load(io.BytesIO(body))
    from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
        DefaultPytorchInferenceHandler,
    )
    return DefaultPytorchInferenceHandler().default_input_fn(body, content_type).float()
"""

# What the model does is in the request; files tell the test how far it is.
SCRIPTED = """
import json
import os
import sys
import time

def model_fn(model_dir):
    return model_dir

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def parts(order):
    try:
        for part in order["parts"] * order.get("times", 1):
            if part == "fail":
                raise ValueError("in the middle")
            if part.startswith("/"):
                wait_for(part)
            yield part
    finally:
        open(order["closed"], "w").close()

def transform_fn(model, body, content_type, accept, context):
    if content_type == "application/octet-stream":
        attributes = context.get_request_header(0, "x-amzn-sagemaker-custom-attributes")
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", attributes or "none")
        return body, accept
    order = json.loads(body)
    if "parts" in order:
        return parts(order), "text/plain"
    if "wait" in order:
        open(order["begun"], "w").close()
        wait_for(order["wait"])
    if "kill" in order:
        os.kill(os.getpid(), 9)
    if "exit" in order:
        sys.exit(3)
    if "fail" in order:
        raise ValueError("line one\\nline two \\u20ac")
    return json.dumps({
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "path": os.environ["PYTHONPATH"],
    })

def handler(request):
    return transform_fn(None, request.body, None, None, None)
"""


SLOW = """
import time
open({begun!r}, "w")
time.sleep(600)
"""
# Without AWS's toolkit and PyTorch, whose import takes seconds.
LIGHT = {"SAGEMAKER_INFERENCE_CODE": "inference.handler"}


def order(**members: object) -> bytes:
    return json.dumps(
        {key: str(v) if isinstance(v, Path) else v for key, v in members.items()}
    ).encode()


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    base = tmp_path_factory.mktemp("linear")
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 10.0]]))
        model.bias.zero_()
    torch.save(model.state_dict(), write_model(base, LINEAR) / "weights.pth")
    # It is there already: pip has nothing to fetch.
    (base / "model" / "code" / "requirements.txt").write_text("numpy\n")
    with ServedModel(base) as served:
        yield served.until_ready()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    base = tmp_path_factory.mktemp("scripted")
    write_model(base, SCRIPTED)
    with ServedModel(base, {"SAGEMAKER_PROGRAM": ""}) as served:
        yield served.until_ready()


def test_json_is_answered_in_json_without_accept(linear: ServedModel) -> None:
    status, body, headers = linear.invoke(b"[[1, 2], [3, 4]]")

    assert (status, json.loads(body)) == (200, [[21.0], [43.0]])
    assert headers["Content-Type"] == "application/json"
    assert linear.invoke(b"[[1, 2]]", accept="*/*")[1] == b"[[21.0]]"


def test_npy_both_ways(linear: ServedModel) -> None:
    given = io.BytesIO()
    np.save(given, np.array([[1, 2]], dtype="float32"))
    status, body, headers = linear.invoke(
        given.getvalue(), "application/x-npy", accept="application/x-npy"
    )

    assert (status, headers["Content-Type"]) == (200, "application/x-npy")
    assert np.load(io.BytesIO(body)).tolist() == [[21.0]]


def test_tensor_in_the_form_of_torch_save(linear: ServedModel) -> None:
    given = io.BytesIO()
    torch.save(torch.tensor([[5.0, 6.0]]), given)

    assert linear.invoke(given.getvalue(), "application/x-pt")[1] == b"[[65.0]]"


def test_what_the_model_cannot_take_is_500_with_its_traceback(linear: ServedModel) -> None:
    status, body, _ = linear.invoke(b"[[1, 2, 3]]")
    assert status == 500
    assert b"Traceback" in body
    assert "mat1 and mat2 shapes cannot be multiplied" in linear.log

    status, body, _ = linear.invoke(b"x", "text/unknown")
    assert status == 500
    assert b"Content type text/unknown is not supported by this framework." in body


def test_other_paths_are_not_found(linear: ServedModel) -> None:
    assert linear.request("GET", "/execution-parameters")[0] == 404
    assert linear.request("POST", "/models", b"{}")[0] == 404
    assert linear.request("GET", "/models/model")[0] == 404


def test_default_handlers_load_torchscript_and_tell_of_anything_else(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "model" / "net.pt"))
    with ServedModel(tmp_path, {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}) as served:
        assert served.until_ready().invoke(b"[[-1, 2]]")[1] == b"0.0,2.0\n"
    torch.save({}, tmp_path / "model" / "second.pth")
    with ServedModel(tmp_path) as served:
        assert served.process.wait(120) == 1
        assert "Exactly one .pth or .pt file is required" in served.log


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def model_fn(:", "SyntaxError"),
        ("def model_fn(model_dir):\n    raise OSError('no weights')", "OSError: no weights"),
    ],
)
def test_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path, code: str, words: str) -> None:
    write_model(tmp_path, code)
    with ServedModel(tmp_path) as served:
        assert served.process.wait(120) == 1
        assert "Traceback" in served.log
        assert words in served.log.splitlines()[-1]


def test_interpreter_without_the_toolkit_is_told_what_to_install(tmp_path: Path) -> None:
    write_model(tmp_path, SCRIPTED)
    with ServedModel(tmp_path, interpreter=[sys.executable, "-S"]) as served:
        assert served.process.wait(120) == 1
        (line,) = served.log.splitlines()
    assert "pip install sagemaker-inference sagemaker-pytorch-inference" in line
    assert "sagemaker-emulator[serving]" in line


def test_requirements_that_cannot_be_installed_end_the_server(tmp_path: Path) -> None:
    (write_model(tmp_path, SCRIPTED) / "code" / "requirements.txt").write_text("./nowhere.whl\n")
    with ServedModel(tmp_path) as served:
        assert served.process.wait(120) == 1
        assert "network isolation" in served.log.splitlines()[-1]


def test_bodies_of_25_mb_go_both_ways_and_larger_than_100_mb_none(scripted: ServedModel) -> None:
    body = os.urandom(25 << 20)
    kind = "application/octet-stream"
    status, answer, _ = scripted.invoke(body, kind, accept=kind)
    assert (status, answer == body) == (200, True)

    chunks = (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20))
    assert scripted.invoke(chunks, kind, accept=kind)[1] == body

    assert scripted.invoke(bytes((100 << 20) + 1), kind)[0] == 413


@pytest.mark.parametrize(
    "text",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_body_without_a_size_is_refused(scripted: ServedModel, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", scripted.port), timeout=60) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\n" + text)
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_handler_sees_and_sets_headers(scripted: ServedModel) -> None:
    name = "X-Amzn-SageMaker-Custom-Attributes"
    _, body, headers = scripted.request(
        "POST", "/invocations", b"1", {"Content-Type": "application/octet-stream", name: "mine"}
    )
    assert (body, headers[name]) == (b"1", "mine")


def test_one_connection_carries_many_requests(scripted: ServedModel) -> None:
    connection = scripted.connect()
    for _ in range(3):
        for method, path in (("GET", "/ping"), ("POST", "/invocations"), ("GET", "/nothing")):
            connection.request(method, path, b"{}" if method == "POST" else None)
            connection.getresponse().read()
            assert connection.sock is not None
    connection.close()


def test_error_of_the_handler_is_in_the_answer_and_in_the_log(scripted: ServedModel) -> None:
    status, body, headers = scripted.invoke(order(fail=1))

    assert (status, headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
    assert body.decode().startswith("line one\nline two €\nTraceback")
    assert "ValueError: line one" in scripted.log


def test_model_runs_in_its_directory_with_its_code_on_the_path(scripted: ServedModel) -> None:
    seen = json.loads(scripted.invoke(order())[1])

    assert Path(seen["cwd"]).name == "model"
    assert seen["path"].split(":")[0] == f"{seen['cwd']}/code"


def test_generator_is_streamed_part_by_part(scripted: ServedModel, tmp_path: Path) -> None:
    go, closed = tmp_path / "go", tmp_path / "closed"
    connection = scripted.connect()
    connection.request("POST", "/invocations", order(parts=["one", str(go)], closed=closed))
    answer = connection.getresponse()

    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.read1() == b"one"  # the model waits for the file before the second part
    go.touch()
    assert answer.read() == str(go).encode()
    assert closed.exists()
    connection.close()


def test_stream_that_fails_is_cut(scripted: ServedModel, tmp_path: Path) -> None:
    connection = scripted.connect()
    connection.request("POST", "/invocations", order(parts=["one", "fail"], closed=tmp_path / "x"))
    answer = connection.getresponse()

    assert answer.status == 200
    with pytest.raises(IncompleteRead):
        answer.read()
    connection.close()
    # Before the first part it is an answer as any other.
    status, body, _ = scripted.invoke(order(parts=["fail"], closed=tmp_path / "x"))
    assert status == 500
    assert body.startswith(b"in the middle\nTraceback")


def test_stream_that_nobody_reads_is_closed(scripted: ServedModel, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    connection = scripted.connect()
    endless = order(parts=["x" * 10_000], times=1_000_000, closed=closed)
    connection.request("POST", "/invocations", endless)
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read(10)
    answer.close()
    connection.close()

    wait_until(closed.exists)
    assert scripted.invoke(order())[0] == 200


def test_ping_is_answered_while_the_model_is_busy(scripted: ServedModel, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    running = scripted.connect()
    running.request("POST", "/invocations", order(wait=go, begun=begun))
    wait_until(begun.exists)

    assert scripted.request("GET", "/ping")[0] == 200
    go.touch()
    assert running.getresponse().status == 200
    running.close()


def test_client_that_reads_slowly_does_not_hold_the_model(scripted: ServedModel) -> None:
    slow = scripted.connect()
    kind = "application/octet-stream"
    # More than the sockets between them hold.
    slow.request("POST", "/invocations", bytes(50 << 20), {"Content-Type": kind})
    answer = slow.getresponse()

    assert scripted.invoke(order())[0] == 200
    assert len(answer.read()) == 50 << 20
    slow.close()


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_worker_that_ends_in_a_request_is_replaced(scripted: ServedModel, end: str) -> None:
    before = json.loads(scripted.invoke(order())[1])["pid"]
    status, body, _ = scripted.invoke(order(**{end: 1}))

    assert status == 500
    assert body.startswith(b"The process of the model ")
    # This one waits for the new worker.
    assert json.loads(scripted.invoke(order())[1])["pid"] != before
    assert scripted.request("GET", "/ping")[0] == 200


def test_idle_worker_that_is_killed_loses_no_request(tmp_path: Path) -> None:
    write_model(tmp_path, SCRIPTED)
    two = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    with ServedModel(tmp_path, {**LIGHT, **two}) as served:
        served.until_ready()

        def answered() -> dict[int, str]:
            """The workers that answer, each with its GPUs."""
            seen = (json.loads(served.invoke(order())[1]) for _ in range(4))
            return {each["pid"]: each["gpus"] for each in seen}

        workers = answered()
        assert sorted(workers.values()) == ["GPU-a", "GPU-b"]
        killed, other = workers
        os.kill(killed, signal.SIGKILL)
        assert other in answered()
        # A new one takes its place, and its GPU.
        wait_until(lambda: len(answered()) == 2 and killed not in answered())
        assert sorted(answered().values()) == ["GPU-a", "GPU-b"]


def test_sigterm_finishes_running_requests(tmp_path: Path) -> None:
    write_model(tmp_path, SCRIPTED)
    begun, go = tmp_path / "begun", tmp_path / "go"
    with ServedModel(tmp_path, LIGHT) as served:
        served.until_ready()
        idle, running, waiting = served.connect(), served.connect(), served.connect()
        idle.request("GET", "/ping")
        idle.getresponse().read()
        running.request("POST", "/invocations", order(wait=go, begun=begun))
        wait_until(begun.exists)
        waiting.request("POST", "/invocations", order())
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: idle.sock.recv(1) == b"")
        go.touch()
        for connection in (running, waiting):
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            connection.close()
        assert served.process.wait(120) == 0


def test_sigterm_while_the_model_is_loaded_ends_the_server(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    write_model(tmp_path, SLOW.format(begun=str(begun)))
    with ServedModel(tmp_path, LIGHT) as served:
        wait_until(begun.exists)
        with pytest.raises(ConnectionRefusedError):
            served.request("GET", "/ping")
        assert served.stop() == 0


def test_model_that_exceeds_its_timeout_is_started_again(tmp_path: Path) -> None:
    write_model(tmp_path, SCRIPTED)
    with ServedModel(tmp_path, {**LIGHT, "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}) as served:
        served.until_ready()
        status, body, _ = served.invoke(order(wait=tmp_path / "never", begun=tmp_path / "begun"))
        assert status == 500
        assert b"did not answer within 1 s" in body
        assert served.invoke(order())[0] == 200


def test_several_models(tmp_path: Path) -> None:
    first = write_model(tmp_path, "def handler(request): return 'a'", "one")
    second = write_model(tmp_path, "def handler(request): return 'b'", "two")
    large = write_model(tmp_path, "raise MemoryError", "large")
    bad = write_model(tmp_path, "import nothing_of_that_name", "bad")

    with ServedModel(tmp_path, {**LIGHT, "SAGEMAKER_MULTI_MODEL": "true"}) as served:
        served.until_ready()

        def named(name: str, url: Path) -> bytes:
            return json.dumps({"model_name": name, "url": str(url)}).encode()

        def load(name: str, url: Path) -> int:
            return served.request("POST", "/models", named(name, url))[0]

        def invoke(name: str) -> tuple[int, bytes]:
            return served.request("POST", f"/models/{name}/invoke", b"[]")[:2]

        assert served.request("GET", "/models")[1] == b'{"models": []}'
        loads = [threading.Thread(target=load, args=("a", first))]
        loads[0].start()
        assert load("b%2Fc", second) == 200
        loads[0].join()
        assert load("a", first) == 409
        assert load("large", large) == 507
        assert load("bad", bad) == 500
        assert served.request("POST", "/models", named("bad", bad))[1].startswith(
            b"ModuleNotFoundError: No module named 'nothing_of_that_name'\nTraceback"
        )
        assert load("gone", tmp_path / "gone") == 500
        assert served.request("POST", "/models", b"[]")[0] == 400
        assert invoke("a") == (200, b"a")
        assert served.request("GET", "/models/a")[:2] == (
            200,
            json.dumps({"modelName": "a", "modelUrl": str(first)}).encode(),
        )
        assert len(json.loads(served.request("GET", "/models")[1])["models"]) == 2
        assert served.request("DELETE", "/models/a")[0] == 200
        assert served.request("DELETE", "/models/a")[0] == 404
        assert invoke("a")[0] == served.request("GET", "/models/a")[0] == 404
        assert load("a", first) == 200

        # SIGTERM does not wait for a model that is being loaded.
        begun = tmp_path / "begun"
        slow = write_model(tmp_path, SLOW.format(begun=str(begun)), "slow")
        loads = [threading.Thread(target=load, args=("slow", slow))]
        loads[0].start()
        wait_until(begun.exists)
        assert served.stop() == 0
        loads[0].join()


DISTRIBUTION = """
import asyncio

async def handler(request):
    await asyncio.sleep(0)
    if request.body == b"stream":
        return parts()
    return {"given": request.body.decode(), "type": request.headers["content-type"]}

async def parts():
    yield "one "
    await asyncio.sleep(0)
    yield "two"
"""


def test_function_of_sagemaker_distribution_needs_no_toolkit(tmp_path: Path) -> None:
    write_model(tmp_path, DISTRIBUTION)
    env = {
        **LIGHT,
        "SAGEMAKER_INFERENCE_CODE_DIRECTORY": str(tmp_path / "model" / "code"),
        "SAGEMAKER_PROGRAM": "",
    }
    with ServedModel(tmp_path, env, interpreter=[sys.executable, "-S"]) as served:
        served.until_ready()
        status, body, headers = served.invoke(b"abc", "text/plain")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body) == {"given": "abc", "type": "text/plain"}
        assert served.invoke(b"stream", "text/plain")[1] == b"one two"
        assert served.invoke(b"\xff", "text/plain")[0] == 500
