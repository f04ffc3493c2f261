"""What containers get of the settings by which this machine reaches package indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.drivers.host_settings import HostSettings, host_settings, needs_relay, pip_settings

RUN = "/run/sagemaker-emulator"
INDEX = "https://user:secret@index.example/simple"


def test_a_machine_without_settings_gives_none() -> None:
    assert host_settings({"HOME": "/root"}, {}) == HostSettings()
    assert HostSettings().for_job(["algo-1"], isolated=False) == {}


def test_a_private_index_and_a_bundle_are_files(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("certificates")
    pip = {
        "index-url": INDEX,
        "extra-index-url": "file:///opt/x https://more.example",
        "retries": "2",
    }
    found = host_settings({"SSL_CERT_FILE": str(bundle)}, pip)
    assert found.files["ca.pem"] == b"certificates"
    assert found.files["pip.conf"].decode().splitlines() == [
        "[global]",
        f"index-url = {INDEX}",
        "extra-index-url = https://more.example",
        "retries = 2",
        f"cert = {RUN}/ca.pem",
    ]
    environment = found.for_job(["algo-1"], isolated=True)
    assert environment["PIP_CONFIG_FILE"] == f"{RUN}/pip.conf"
    assert environment["REQUESTS_CA_BUNDLE"] == environment["SSL_CERT_FILE"] == f"{RUN}/ca.pem"
    assert not any("secret" in value for value in environment.values())


def test_indexes_that_are_directories_are_mounted(tmp_path: Path) -> None:
    wheels, index = tmp_path / "my wheels", tmp_path / "mirror" / "simple"
    for directory in (wheels, index):
        directory.mkdir(parents=True)
    (tmp_path / "links.html").touch()
    pip = {
        "index-url": f"file://{index}",
        "extra-index-url": f"{INDEX} file://{tmp_path}/absent",
        "find-links": f"{wheels.as_uri()} {index} {tmp_path}/links.html",
    }
    found = host_settings({}, pip, local=True)
    assert found.files["pip.conf"].decode().splitlines()[1:] == [
        "index-url = file:///run/sagemaker-emulator-index/0/simple",
        f"extra-index-url = {INDEX}",
        "find-links = file:///run/sagemaker-emulator-index/1 "
        "file:///run/sagemaker-emulator-index/0/simple "
        "file:///run/sagemaker-emulator-index/2/links.html",
    ]
    assert [(mount.source, mount.read_only) for mount in found.mounts] == [
        (tmp_path / "mirror", True),
        (wheels, True),
        (tmp_path, True),
    ]
    elsewhere = host_settings({}, pip)
    assert elsewhere.mounts == ()
    assert b"file:" not in elsewhere.files["pip.conf"]


def test_a_proxy_is_not_used_for_the_emulator_and_peers() -> None:
    found = host_settings({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "corp.example"}, {})
    environment = found.for_job(["host.docker.internal", "algo-1"], isolated=False)
    assert environment["https_proxy"] == environment["HTTPS_PROXY"] == "http://proxy:3128"
    around = "corp.example,localhost,127.0.0.1,host.docker.internal,algo-1"
    assert environment["no_proxy"] == environment["NO_PROXY"] == around
    assert found.for_job(["algo-1"], isolated=True) == {}


@pytest.mark.parametrize("relay", [None, "http://host.docker.internal:4000"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "localhost:3128", "http://[::1]:1"])
def test_a_proxy_on_the_hosts_loopback_is_reached_through_a_relay(
    proxy: str, relay: str | None
) -> None:
    ambient = {"http_proxy": proxy}
    assert needs_relay(ambient)
    environment = host_settings(ambient, {"proxy": proxy}, relay)
    assert environment.for_job([], isolated=False).get("http_proxy") == relay
    assert (b"proxy = " in environment.files.get("pip.conf", b"")) is (relay is not None)
    assert not needs_relay({"http_proxy": "http://proxy:3128"})


def test_pips_files_and_variables_in_their_order(tmp_path: Path) -> None:
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex_url = https://a\ntimeout = 5\n[install]\ntimeout = 6\n")
    own = tmp_path / "own.conf"
    own.write_text("[global]\nindex-url = https://b\n")
    nowhere = {"XDG_CONFIG_DIRS": str(tmp_path / "none")}
    found = pip_settings(nowhere, tmp_path, tmp_path)
    assert (found["index-url"], found["timeout"]) == ("https://a", "6")
    more = {**nowhere, "PIP_CONFIG_FILE": str(own), "PIP_TRUSTED_HOST": "b"}
    found = pip_settings(more, tmp_path, tmp_path)
    assert (found["index-url"], found["trusted-host"]) == ("https://b", "b")
    assert pip_settings({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path, tmp_path) == {
        "config-file": "/dev/null"
    }
    user.write_text("no settings at all")
    assert "timeout" not in pip_settings(nowhere, tmp_path, tmp_path)
