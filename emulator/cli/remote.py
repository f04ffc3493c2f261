"""The command line's view of an emulator: only through its endpoint, so it may be anywhere.

botocore takes about a second of CPU to load SageMaker's model; a command that lists jobs needs one
signed POST. What needs more of AWS's clients (the demo) brings its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from emulator.aws.accounts import is_account
from emulator.aws.signatures import ALGORITHM, SignedRequest
from emulator.cli.environment import find_endpoint
from emulator.cli.kinds import KINDS, TRAINING, JobKind
from emulator.cli.messages import ExitCode, fail
from emulator.cli.reach import ADMIN, connection
from emulator.model.errors import ApiError
from emulator.settings import Settings

TERMINAL = ("Completed", "Failed", "Stopped")
ATTEMPTS = 2
"""How often a call is made that is throttled, meets a fault of the service, or gets no answer."""
_RETRY_SECONDS = 0.5
_UNKNOWN = ("Requested resource not found", "Could not find requested job")
"""What Describe says of a job that does not exist."""
_THROTTLED = ("ThrottlingException", "Throttling")


class NoSuchJob(Exception):
    """No job of any kind has the name."""


class Service(Protocol):
    """One service of the emulator: its operations by their names."""

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer's members; raises ApiError, or ConnectionError where nobody answers."""
        ...


@dataclass(frozen=True)
class JsonService:
    """A service that speaks AWS's JSON protocol over HTTP."""

    url: str
    region: str
    access_key: str
    secret_key: str
    name: str
    """As a signature names it."""
    target: str
    """What X-Amz-Target says before the operation."""
    times: bool = True
    """Members whose name ends in Time or Timestamp are seconds since the epoch."""

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer's members; raises ApiError, or ConnectionError where nobody answers."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(_RETRY_SECONDS)
            last = attempt == ATTEMPTS - 1
            try:
                return self._call(operation, members)
            except ApiError as error:
                if last or (error.status < 500 and error.code not in _THROTTLED):
                    raise
            except (OSError, HTTPException) as error:
                if last:
                    raise ConnectionError(f"{type(error).__name__}: {error}") from error
        raise AssertionError("the last attempt returns or raises")

    def _call(self, operation: str, members: Mapping[str, Any]) -> dict[str, Any]:
        with closing(connection(self.url)) as opened:
            body = json.dumps(members).encode()
            who = (self.region, self.access_key, self.secret_key)
            asked = {
                "x-amz-target": f"{self.target}.{operation}",
                "content-type": "application/x-amz-json-1.1",
            }
            path, headers = signed(self.url, "/", who, self.name, asked)
            opened.request("POST", path, body, headers)
            answer = opened.getresponse()
            text = answer.read()
        try:
            said = json.loads(text or b"{}", object_hook=_with_times if self.times else None)
        except ValueError:
            said = {"message": text[:200].decode(errors="replace")}
        if answer.status >= 300:
            code = str(said.get("__type", answer.status)).rpartition("#")[2]
            message = str(said.get("message", said.get("Message", "")))
            raise ApiError(message, code=code, status=answer.status)
        return dict(said)


def signed(
    url: str, path: str, who: tuple[str, str, str], service: str, headers: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The path of a POST below `url`, and its headers with an AWS signature.

    `who` is region, access key and secret key; the targets among the headers are signed.
    """
    parts, (region, access_key, secret_key) = urlsplit(url), who
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    covered = {
        "host": parts.netloc.rpartition("@")[2],
        "x-amz-date": now,
        **{name: value for name, value in headers.items() if name.startswith("x-amz-")},
    }
    scope = f"{access_key}/{now[:8]}/{region}/{service}/aws4_request"
    blank = f"{ALGORITHM} Credential={scope}, SignedHeaders={';'.join(covered)}, Signature="
    plain = {**covered, **headers, "authorization": blank}
    lines = [(name.encode(), value.encode()) for name, value in plain.items()]
    where = f"{parts.path.rstrip('/')}{path}"
    request = SignedRequest("POST", where, "", lines).without((), secret_key)
    return request.path, {name.decode(): value.decode() for name, value in request.headers}


@dataclass(frozen=True)
class Remote:
    """The services of one emulator."""

    url: str
    sagemaker: Service
    logs: Service
    credentials: tuple[str, str, str] = ("", "", "")
    """Region, access key and secret key."""
    admin_token: str = ""

    def describe(self, job: str, kind: JobKind = TRAINING) -> dict[str, Any]:
        """DescribeTrainingJob, or that of another kind; raises ApiError."""
        return self.call("Describe", kind, job)

    def call(self, verb: str, kind: JobKind, job: str) -> dict[str, Any]:
        """`<verb>TrainingJob`, or that of another kind; raises ApiError."""
        return self.sagemaker.call(f"{verb}{kind.word}Job", **kind.named(job))

    def kind_of(self, job: str) -> JobKind:
        """What kind of job has that name; raises NoSuchJob.

        Of several, the one that has not ended is meant, else the newest.
        """
        found: list[tuple[bool, datetime, JobKind]] = []
        for kind in KINDS:
            try:
                described = self.describe(job, kind)
            except ApiError as error:
                if not any(words in error.message for words in _UNKNOWN):
                    raise
            else:
                runs = kind.status(described) not in TERMINAL
                found.append((runs, described["CreationTime"], kind))
        if not found:
            raise NoSuchJob(job)
        return max(found, key=lambda each: each[:2])[2]

    def administer(self, path: str) -> None:
        """Post to a route of the emulator's own; raises ApiError, and ConnectionError."""
        self._own("POST", path, {})

    def ask(self, path: str, **query: object) -> dict[str, Any]:
        """What a route of the emulator's own answers; raises ApiError, and ConnectionError."""
        return self._own("GET", path, query)

    def _own(self, method: str, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        region, access_key, _ = self.credentials
        account = {"account": access_key} if is_account(access_key) else {}
        words = urlencode({"region": region, **account, **query})
        headers = {"authorization": f"Bearer {self.admin_token}"} if self.admin_token else {}
        try:
            with closing(connection(self.url)) as opened:
                url = f"{ADMIN}{path}{'&' if '?' in path else '?'}{words}"
                opened.request(method, url, headers=headers)
                answer = opened.getresponse()
                said = json.loads(answer.read() or b"{}")
        except (OSError, ValueError, HTTPException) as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if answer.status >= 300:
            raise ApiError(str(said.get("detail", "")), code=str(answer.status))
        return dict(said)


def pages(
    service: Service, operation: str, items: str, next_name: str = "NextToken", **members: Any
) -> Iterator[Any]:
    """The members of the list `items` of every page; `next_name`: the token's member."""
    while True:
        page = service.call(operation, **members)
        yield from page.get(items, ())
        if not page.get(next_name):
            return
        members[next_name] = page[next_name]


def connect(settings: Settings, endpoint_url: str | None = None, port: int | None = None) -> Remote:
    """The emulator of a flag, of AWS_ENDPOINT_URL, or of the settings, in that order.

    Region and credentials of the environment count only together with its AWS_ENDPOINT_URL:
    otherwise they belong to the user's real account. Ends the command where the URL is none.
    """
    pointed = os.environ if "AWS_ENDPOINT_URL" in os.environ else {}
    found = find_endpoint(settings, url_of(endpoint_url, port, pointed.get("AWS_ENDPOINT_URL")))
    url = found.url
    who = (
        pointed.get("AWS_REGION", settings.region),
        pointed.get("AWS_ACCESS_KEY_ID", settings.access_key),
        pointed.get("AWS_SECRET_ACCESS_KEY", settings.secret_key.get_secret_value()),
    )
    return Remote(
        url=url,
        credentials=who,
        admin_token=found.admin_token,
        sagemaker=JsonService(url, *who, "sagemaker", "SageMaker"),
        logs=JsonService(url, *who, "logs", "Logs_20140328", times=False),
    )


def url_of(endpoint_url: str | None, port: int | None, other: str | None = None) -> str | None:
    """What --endpoint-url and --port say, else `other`; ends the command where it is no URL."""
    if endpoint_url is None and port is not None:
        return f"http://127.0.0.1:{port}"
    url = endpoint_url or other
    if url is None:
        return None
    try:
        connection(url)
    except ValueError:
        fail(f"{url} is no URL.", "An example: http://127.0.0.1:4570", ExitCode.USAGE)
    return url.rstrip("/")


@contextmanager
def plain_errors(remote: Remote, job: str = "") -> Iterator[None]:
    """Turn what calls raise into one line and exit code 1; `job` is whom it is about."""
    try:
        yield
    except NoSuchJob as unknown:
        fail(
            f"there is no training job {unknown}, and no processing job of that name.",
            "To list them: sagemaker-emulator jobs",
        )
    except ApiError as error:
        if job and any(words in error.message for words in _UNKNOWN):
            fail(f"there is no training job {job}.", "To list them: sagemaker-emulator jobs")
        fail(f"{error.code}: {error.message}")
    except ConnectionError as error:
        fail(
            f"no emulator answers at {remote.url} ({error}).",
            "Start one with: sagemaker-emulator up",
        )


def _with_times(members: dict[str, Any]) -> dict[str, Any]:
    for name, value in members.items():
        if name.endswith(("Time", "Timestamp")) and isinstance(value, int | float):
            members[name] = datetime.fromtimestamp(value, timezone.utc).astimezone()
    return members
