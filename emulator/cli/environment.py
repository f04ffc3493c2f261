"""What a shell needs so that boto3 and both SageMaker SDKs take the emulator for AWS.

Order of precedence in botocore decides what must be unset: a service's own endpoint variable
wins over AWS_ENDPOINT_URL, a session token changes who signs, and FIPS or dual-stack endpoints
cannot be combined with an endpoint of one's own.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from emulator.cli.reach import health, unreachable
from emulator.cli.trust import write_bundle
from emulator.settings import Settings

UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
)
SERVICE_ENDPOINT = "AWS_ENDPOINT_URL_"
LOCAL = ("127.0.0.1", "localhost")
_CLIENT = "client"
_RUNNING = "running.json"


@dataclass(frozen=True)
class Endpoint:
    """Where an emulator answers."""

    url: str
    proxy: str
    """For HTTPS_PROXY; see sts_proxy.py."""
    admin_token: str = ""
    """For the routes below /_emulator; known of an emulator that runs."""
    folder: Path | None = None
    """Where it has its files for clients, if that is not the folder of the settings."""
    page: str = ""
    """The address for a browser, with the token where that is needed; known to `up` alone."""


@dataclass(frozen=True)
class ClientEnvironment:
    """Variables to set and to remove."""

    exports: Mapping[str, str]
    unset: tuple[str, ...]

    def shell(self) -> str:
        """Lines for `eval` in any POSIX shell."""
        removed = [f"unset {name}" for name in self.unset]
        return "\n".join(
            [*removed, *(f"export {name}={shlex.quote(v)}" for name, v in self.exports.items())]
        )


def default_bucket(settings: Settings) -> str:
    """The bucket both SDKs would name by themselves."""
    return f"sagemaker-{settings.region}-{settings.account}"


def client_environment(
    settings: Settings,
    ambient: Mapping[str, str],
    endpoint: Endpoint | None = None,
    *,
    proxy: bool = True,
) -> ClientEnvironment:
    """Write the files that clients need below the state directory and name them all.

    Raises OSError where they cannot be written.
    """
    endpoint = endpoint or find_endpoint(settings)
    folder = endpoint.folder or client_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "sagemaker.yaml"
    config.write_text(sdk_config(settings))
    exports = {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key.get_secret_value(),
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
    }
    if endpoint.admin_token:
        exports["EMULATOR_ADMIN_TOKEN"] = endpoint.admin_token
    exports |= _proxy_variables("NO_PROXY", _no_proxy(endpoint, ambient))
    if proxy:
        exports |= _proxy_variables("HTTPS_PROXY", endpoint.proxy)
        exports |= _bundles(folder, ambient)
    return ClientEnvironment(exports, _to_unset(ambient))


def _bundles(folder: Path, ambient: Mapping[str, str]) -> dict[str, str]:
    """Whom AWS clients trust, and whom `requests` trusts: the SDKs send telemetry with it."""
    requests = ambient.get("REQUESTS_CA_BUNDLE") or ambient.get("CURL_CA_BUNDLE")
    aws = ambient.get("AWS_CA_BUNDLE") or ambient.get("REQUESTS_CA_BUNDLE")
    return {
        "AWS_CA_BUNDLE": str(write_bundle(folder, aws)),
        "REQUESTS_CA_BUNDLE": str(write_bundle(folder, requests, "requests-ca-bundle.pem")),
    }


def sdk_config(settings: Settings) -> str:
    """The defaults file of both SDKs: no telemetry, a bucket and a role without asking STS."""
    return f"""\
# Written by `sagemaker-emulator env`.
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {default_bucket(settings)}
  TrainingJob:
    RoleArn: {settings.role_arn}
"""


def client_folder(settings: Settings) -> Path:
    """Files for clients: SDK configuration, certificates, where the emulator answers."""
    return settings.state_dir.absolute() / _CLIENT


def configured_endpoint(settings: Settings) -> Endpoint:
    """Where the emulator will answer when it is started with these settings."""
    host = LOCAL[0] if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104
    return Endpoint(
        f"http://{host}:{settings.port}",
        f"http://{LOCAL[0]}:{proxy_port(settings)}",
        settings.admin_token.get_secret_value(),
    )


def proxy_port(settings: Settings) -> int:
    """The port that the STS proxy tries first; 0 takes a free one."""
    if settings.proxy_port is not None:
        return settings.proxy_port
    return settings.port + 1 if 0 < settings.port < 65535 else 0


def find_endpoint(settings: Settings, url: str | None = None) -> Endpoint:
    """The emulator at `url`; without one that of the settings, whether it runs or not.

    An emulator that answers with another state directory than that of the settings (`up
    --state-dir`, a compose stack) tells where it is: its proxy and admin token are read there.
    """
    here = running_endpoint(settings)
    if here and url in (None, here.url):
        return here
    there = configured_endpoint(settings)
    if url is not None and url != there.url:
        there = replace(_next_to(url), admin_token=there.admin_token)
    return _announced_by(there.url) or there


def _next_to(url: str) -> Endpoint:
    """An emulator of which the URL alone is known: its proxy has the next port by default."""
    parts = urlsplit(url)
    with suppress(ValueError):
        port = (parts.port or 80) + 1
        return Endpoint(url, f"http://{parts.hostname}:{port}")
    return Endpoint(url, "")


def _announced_by(url: str) -> Endpoint | None:
    """What the emulator that answers at `url` has announced on this machine."""
    said = health(url) if urlsplit(url).port != 0 else None
    if said is None:
        return None
    folder = Path(str(said.get("state_dir", ""))) / _CLIENT
    with suppress(OSError):
        # Whoever is trusted there reads all HTTPS of the shell: nobody but this user and root.
        if (folder / _RUNNING).stat().st_uid in (os.getuid(), 0):
            found = _announced_in(folder)
            return replace(found, folder=folder) if found and found.url == url else None
    return None


def announce(settings: Settings, endpoint: Endpoint) -> Path:
    """Leave word where this process answers, for `running_endpoint`."""
    file = client_folder(settings) / _RUNNING
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)  # it holds the admin token
    said = {
        "pid": os.getpid(),
        "pid_namespace": _pid_namespace(),
        "url": endpoint.url,
        "proxy": endpoint.proxy,
        "admin_token": endpoint.admin_token,
    }
    file.write_text(json.dumps(said))
    return file


def running_endpoint(settings: Settings) -> Endpoint | None:
    """Where the emulator of this state directory answers now, if one runs."""
    return _announced_in(client_folder(settings))


def _announced_in(folder: Path) -> Endpoint | None:
    with suppress(OSError, ValueError, KeyError):
        said = json.loads((folder / _RUNNING).read_text())
        if said.get("pid_namespace", _pid_namespace()) == _pid_namespace():
            os.kill(said["pid"], 0)
        elif unreachable(said["url"]):
            # It ran in a container, where its pid means another process.
            return None
        return Endpoint(said["url"], said["proxy"], said.get("admin_token", ""))
    return None


def _pid_namespace() -> int:
    """What this process's pid counts in; 0 where the kernel has no such thing."""
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return 0


def _no_proxy(endpoint: Endpoint, ambient: Mapping[str, str]) -> str:
    before = ambient.get("no_proxy") or ambient.get("NO_PROXY", "")
    hosts = [*before.split(","), *LOCAL, urlsplit(endpoint.url).hostname or ""]
    return ",".join(dict.fromkeys(host.strip() for host in hosts if host.strip()))


def _proxy_variables(name: str, value: str) -> dict[str, str]:
    # Both spellings: libraries differ in which one wins.
    return {name: value, name.lower(): value}


def _to_unset(ambient: Mapping[str, str]) -> tuple[str, ...]:
    per_service = [name for name in ambient if name.startswith(SERVICE_ENDPOINT)]
    # A defaults file in a bucket of the real account cannot be read from here.
    admin = "SAGEMAKER_ADMIN_CONFIG_OVERRIDE"
    remote = [admin] if ambient.get(admin, "").startswith("s3://") else []
    return tuple(sorted({*(name for name in UNSET if name in ambient), *per_service, *remote}))
