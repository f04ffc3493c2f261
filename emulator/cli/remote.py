"""The command line's view of an emulator: only through its endpoint, so it may be anywhere."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emulator.cli.environment import configured_endpoint, running_endpoint
from emulator.cli.messages import ExitCode, fail
from emulator.settings import Settings

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
HEALTH = "/_emulator/health"
TERMINAL = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Remote:
    """AWS clients of one emulator."""

    url: str
    sagemaker: Any
    logs: Any

    def describe(self, job: str) -> dict[str, Any]:
        """DescribeTrainingJob."""
        answer: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=job)
        return answer


def connect(settings: Settings, endpoint_url: str | None = None) -> Remote:
    """Clients for the emulator of a flag, of AWS_ENDPOINT_URL, or of the settings, in that order.

    Region and credentials of the environment count only together with its AWS_ENDPOINT_URL:
    otherwise they belong to the user's real account. Ends the command where the URL is none.
    """
    pointed = os.environ if "AWS_ENDPOINT_URL" in os.environ else {}
    running = running_endpoint(settings) or configured_endpoint(settings)
    url = endpoint_url or pointed.get("AWS_ENDPOINT_URL") or running.url
    session = botocore.session.Session()
    options = {
        "endpoint_url": url,
        "region_name": pointed.get("AWS_REGION", settings.region),
        "aws_access_key_id": pointed.get("AWS_ACCESS_KEY_ID", settings.access_key),
        "aws_secret_access_key": pointed.get(
            "AWS_SECRET_ACCESS_KEY", settings.secret_key.get_secret_value()
        ),
        # Loopback is never reached through a proxy that this shell may have.
        "config": Config(retries={"total_max_attempts": 2}, connect_timeout=5, proxies={}),
    }
    try:
        return Remote(
            url=url,
            sagemaker=session.create_client("sagemaker", **options),
            logs=session.create_client("logs", **options),
        )
    except ValueError:
        fail(f"{url} is no URL.", "An example: http://127.0.0.1:4570", ExitCode.USAGE)


@contextmanager
def plain_errors(remote: Remote, job: str = "") -> Iterator[None]:
    """Turn what AWS clients raise into one line and exit code 1; `job` is whom it is about."""
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        if job and "not found" in said["Message"]:
            fail(f"there is no training job {job}.", "To list them: sagemaker-emulator jobs")
        fail(f"{said['Code']}: {said['Message']}")
    except BotoCoreError as error:
        fail(
            f"no emulator answers at {remote.url} ({type(error).__name__}).",
            "Start one with: sagemaker-emulator up",
        )


def unreachable(url: str, timeout: float = 3) -> str:
    """Why nothing can be asked of the server at `url`; "" where something listens."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout).close()
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"
    return ""


def health(url: str, timeout: float = 2) -> dict[str, Any] | None:
    """What an emulator at `url` says about itself; None if none answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}{HEALTH}", timeout=timeout) as answer:
            said = json.load(answer)
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("status") == "ok" else None
