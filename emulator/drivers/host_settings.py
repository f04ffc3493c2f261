"""What this machine has configured to reach package indexes, as containers can use it.

A requirements.txt is then installed behind a proxy, from a private index and with a company's
certificates, as it is on the machine itself. Files of it are mounted read-only, so that
credentials in the address of an index are in no image, log or artifact. So are directories that
stand for an index.
"""

from __future__ import annotations

import configparser
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from emulator.drivers.docker.requests import RUN_DIR
from emulator.model.plan import Mount

PIP_CONF, CA_BUNDLE = "pip.conf", "ca.pem"
"""Files in a container's RUN_DIR."""
INDEX_DIR = "/run/sagemaker-emulator-index"
"""Where containers have the directories of package indexes."""
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
"""Variables that name a bundle of certificates, for Python, requests, curl and pip."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_ADDRESSES = ("index-url", "extra-index-url", "find-links")
_VALUES = ("proxy", "trusted-host", "no-index", "pre", "retries", "timeout", "default-timeout")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostSettings:
    """What containers are given."""

    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """For RUN_DIR."""
    mounts: tuple[Mount, ...] = ()
    """Package indexes that are directories of this machine."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """Not for isolated jobs. By variable, in both cases."""

    def for_job(self, near: Iterable[str], *, isolated: bool) -> Mapping[str, str]:
        """The variables of a job's containers; names in `near` are reached without a proxy."""
        if isolated or not self.proxies:
            return self.environment
        known = self.proxies.get("no_proxy", "").split(",")
        names = [name.strip() for name in known if name.strip()]
        around = ",".join(dict.fromkeys([*names, "localhost", "127.0.0.1", *near]))
        return {**self.environment, **self.proxies, "no_proxy": around, "NO_PROXY": around}


def host_settings(
    environment: Mapping[str, str],
    pip: Mapping[str, str],
    relay: str | None = None,
    *,
    local: bool = False,
) -> HostSettings:
    """From this machine's variables and its pip's settings.

    `relay` is the address by which containers reach what proxies the machine has on its own
    loopback interface; without one such a proxy is left out. `local`: the engine can mount this
    machine's directories; indexes in some are left out otherwise.
    """
    bundle = _bundle(environment, pip)
    indexes = _Indexes(local)
    conf = _pip_conf(pip, relay, indexes, with_bundle=bundle is not None)
    files = {}
    variables = {}
    if bundle is not None:
        files[CA_BUNDLE] = bundle
        variables.update(dict.fromkeys(_BUNDLES, f"{RUN_DIR}/{CA_BUNDLE}"))
    if conf:
        files[PIP_CONF] = conf
        variables["PIP_CONFIG_FILE"] = f"{RUN_DIR}/{PIP_CONF}"
    return HostSettings(variables, files, tuple(indexes.mounts), _proxies(environment, relay))


def pip_settings(environment: Mapping[str, str], home: Path, prefix: Path) -> dict[str, str]:
    """pip's settings on this machine: its files, in pip's own order, then its variables."""
    found: dict[str, str] = {}
    for path in _pip_files(environment, home, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            _log.warning("pip's settings in %s are left out: %s", path, error)
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({key.replace("_", "-"): v for key, v in parser.items(section)})
    for name, value in environment.items():
        if name.startswith("PIP_"):
            found[name[4:].lower().replace("_", "-")] = value
    return found


def of_this_machine(relay: str | None = None, *, local: bool = False) -> HostSettings:
    """The settings of the user whom the emulator runs as."""
    pip = pip_settings(os.environ, Path.home(), Path(sys.prefix))
    return host_settings(os.environ, pip, relay, local=local)


def needs_relay(environment: Mapping[str, str]) -> bool:
    """Whether a proxy of this machine listens on its loopback interface alone."""
    return any(_on_loopback(_variable(environment, name)) for name in _PROXIES)


def _pip_files(environment: Mapping[str, str], home: Path, prefix: Path) -> list[Path]:
    own = environment.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    shared = environment.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(folder, "pip", "pip.conf") for folder in shared.split(":") if folder]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", user / "pip" / "pip.conf"]
    files += [prefix / "pip.conf", *([Path(own)] if own else [])]
    return files


class _Indexes:
    """Package indexes as containers reach them."""

    def __init__(self, local: bool):
        self._local = local
        self.mounts: list[Mount] = []

    def address(self, given: str) -> str:
        """The address in a container; "" for a directory that it does not get."""
        if "://" in given and not given.startswith("file:"):
            return given
        path = Path(unquote(urlsplit(given).path) if given.startswith("file:") else given)
        path = path.expanduser().absolute()
        if not (self._local and path.exists()):
            _log.warning("containers do not get the package index %s of this machine", given)
            return ""
        source = path.parent if path.is_file() else path
        # Pages of an index lead to packages beside it.
        if source.name == "simple" and source.parent != source.parent.parent:
            source = source.parent
        target = next((one.target for one in self.mounts if one.source == source), None)
        if target is None:
            target = f"{INDEX_DIR}/{len(self.mounts)}"
            self.mounts.append(Mount(source, target, read_only=True))
        return f"file://{quote(str(Path(target) / path.relative_to(source)))}"


def _pip_conf(
    pip: Mapping[str, str], relay: str | None, indexes: _Indexes, *, with_bundle: bool
) -> bytes:
    lines = []
    for name in _ADDRESSES:
        if found := [one for each in pip.get(name, "").split() if (one := indexes.address(each))]:
            lines.append(f"{name} = {' '.join(found)}")
    for name in _VALUES:
        value = pip.get(name, "")
        if name == "proxy" and _on_loopback(value):
            value = relay or ""
        if value:
            lines.append(f"{name} = {value}")
    if not lines:
        return b""
    if with_bundle:
        lines.append(f"cert = {RUN_DIR}/{CA_BUNDLE}")
    return "\n".join(["[global]", *lines, ""]).encode()


def _bundle(environment: Mapping[str, str], pip: Mapping[str, str]) -> bytes | None:
    """The certificates that this machine's Python programs trust, if it says so."""
    named = [pip.get("cert", ""), *(environment.get(name, "") for name in _BUNDLES)]
    for path in map(Path, filter(None, named)):
        try:
            if path.is_file():
                return path.read_bytes()
        except OSError as error:
            _log.warning("The certificates in %s cannot be read: %s", path, error)
    return None


def _proxies(environment: Mapping[str, str], relay: str | None) -> dict[str, str]:
    found = {}
    for name in _PROXIES:
        value = _variable(environment, name)
        if _on_loopback(value):
            value = relay or ""
        if value:
            found.update({name: value, name.upper(): value})
    if not found:
        return {}
    around = _variable(environment, "no_proxy")
    return {**found, "no_proxy": around, "NO_PROXY": around}


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _on_loopback(proxy: str) -> bool:
    if not proxy:
        return False
    host = urlsplit(proxy if "//" in proxy else f"http://{proxy}").hostname or ""
    return host in _LOOPBACK or host.startswith("127.")
