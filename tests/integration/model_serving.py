"""The model server in a process, from a copy of its directory, as in an image."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from emulator.model_server import PROGRAM

START_SECONDS = 120


class ServedModel:
    """A server of the model in `base`; use it as a context manager."""

    def __init__(
        self,
        base: Path,
        env: Mapping[str, str] | None = None,
        interpreter: Sequence[str] = (sys.executable,),
    ):
        directory = base / "program"
        if not directory.exists():
            shutil.copytree(PROGRAM.parent, directory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._log = base / f"log-{self.port}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*interpreter, directory / PROGRAM.name],
                env={
                    **os.environ,
                    "SAGEMAKER_BASE_DIR": str(base),
                    "SAGEMAKER_BIND_TO_PORT": str(self.port),
                    "OMP_NUM_THREADS": "1",
                    **(env or {}),
                },
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until_ready(self) -> ServedModel:
        """Wait until connections are accepted; the model is loaded then."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                status = self.request("GET", "/ping")[0]
            except ConnectionRefusedError:
                time.sleep(0.05)
                continue
            assert status == 200, self.log
            return self
        raise AssertionError(f"not ready: {self.log}")

    def connect(self, timeout: float = 60) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read(), dict(answer.headers.items())
        finally:
            connection.close()

    def invoke(
        self, body: object, content_type: str | None = "application/json", accept: str | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """POST /invocations."""
        given = {"Content-Type": content_type, "Accept": accept}
        headers = {name: value for name, value in given.items() if value}
        return self.request("POST", "/invocations", body, headers)

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def write_model(base: Path, code: str, name: str = "model") -> Path:
    """A model directory with an inference.py."""
    folder = base / name / "code"
    folder.mkdir(parents=True)
    (folder / "inference.py").write_text(code)
    return folder.parent
