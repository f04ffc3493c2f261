"""What `env` prints, and the files behind it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from emulator.cli.environment import (
    Endpoint,
    announce,
    client_environment,
    configured_endpoint,
    find_endpoint,
    proxy_port,
    running_endpoint,
)
from emulator.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state of mine", port=4999, region="eu-west-1")


def test_a_shell_gets_endpoint_region_and_credentials(settings: Settings) -> None:
    lines = client_environment(settings, {}).shell()
    done = subprocess.run(
        ["/bin/sh", "-c", f"{lines}\nenv"], capture_output=True, text=True, check=True, env={}
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert seen["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4999"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert seen["AWS_ACCESS_KEY_ID"] == "emulator"
    assert Path(seen["SAGEMAKER_USER_CONFIG_OVERRIDE"]).is_file()
    assert Path(seen["AWS_CA_BUNDLE"]).is_file()


def test_what_would_win_over_it_is_unset(settings: Settings) -> None:
    ambient = {
        "AWS_PROFILE": "work",
        "AWS_SESSION_TOKEN": "secret",
        "AWS_ENDPOINT_URL_S3": "http://elsewhere",
        "AWS_ENDPOINT_URL": "http://old",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": "s3://bucket/config.yaml",
        "HOME": "/somewhere",
    }
    assert client_environment(settings, ambient).unset == (
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE",
    )


def test_an_administrators_file_on_this_machine_stays(settings: Settings) -> None:
    ambient = {"SAGEMAKER_ADMIN_CONFIG_OVERRIDE": "/etc/sagemaker.yaml"}
    assert client_environment(settings, ambient).unset == ()


def test_the_endpoint_is_never_reached_through_a_proxy(settings: Settings) -> None:
    exports = client_environment(settings, {"NO_PROXY": "intranet, localhost"}).exports
    assert exports["NO_PROXY"] == exports["no_proxy"] == "intranet,localhost,127.0.0.1"


def test_without_the_proxy_a_shells_https_stays_as_it_was(settings: Settings) -> None:
    exports = client_environment(settings, {}, proxy=False).exports
    assert not {"HTTPS_PROXY", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"} & set(exports)


def test_the_sdks_are_told_bucket_and_role_and_no_telemetry(settings: Settings) -> None:
    exports = client_environment(settings, {}).exports
    text = Path(exports["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text()
    assert "TelemetryOptOut: true" in text
    assert "DefaultS3Bucket: sagemaker-eu-west-1-123456789012" in text
    assert "RoleArn: arn:aws:iam::123456789012:role/SageMakerRole" in text


def test_a_bundle_keeps_what_was_trusted_before(settings: Settings, tmp_path: Path) -> None:
    before = tmp_path / "company.pem"
    before.write_text("# the company's own\n")
    first = Path(
        client_environment(settings, {"AWS_CA_BUNDLE": str(before)}).exports["AWS_CA_BUNDLE"]
    )
    assert first.read_text().startswith("# the company's own")
    assert "BEGIN CERTIFICATE" in first.read_text()


def test_what_requests_trusts_is_kept_apart(settings: Settings, tmp_path: Path) -> None:
    ours, aws = tmp_path / "requests.pem", tmp_path / "aws.pem"
    ours.write_text("# for requests\n")
    aws.write_text("# for AWS\n")
    ambient = {"AWS_CA_BUNDLE": str(aws), "REQUESTS_CA_BUNDLE": str(ours)}
    exports = client_environment(settings, ambient).exports
    assert Path(exports["REQUESTS_CA_BUNDLE"]).read_text().startswith("# for requests")
    assert Path(exports["AWS_CA_BUNDLE"]).read_text().startswith("# for AWS")
    assert "BEGIN CERTIFICATE" in Path(exports["REQUESTS_CA_BUNDLE"]).read_text()


def test_a_bundle_does_not_grow_from_itself(settings: Settings) -> None:
    bundle = Path(client_environment(settings, {}).exports["AWS_CA_BUNDLE"])
    size = bundle.stat().st_size
    client_environment(settings, {"AWS_CA_BUNDLE": str(bundle)})
    assert bundle.stat().st_size == size


def test_the_authoritys_key_is_its_owners_alone(settings: Settings) -> None:
    client_environment(settings, {})
    assert (settings.state_dir / "client" / "ca.key").stat().st_mode & 0o077 == 0


def test_a_running_emulator_is_found_at_its_real_port(settings: Settings) -> None:
    announce(settings, Endpoint("http://127.0.0.1:1234", "http://127.0.0.1:9999"))
    exports = client_environment(settings, {}).exports
    assert exports["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1234"
    assert exports["HTTPS_PROXY"] == "http://127.0.0.1:9999"


def test_word_of_an_emulator_that_is_gone_is_not_believed(settings: Settings) -> None:
    ended = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, check=True)
    file = announce(settings, Endpoint("http://127.0.0.1:1234", ""))
    file.write_text(file.read_text().replace(str(os.getpid()), ended.stdout.decode().strip()))
    assert running_endpoint(settings) is None


def from_another_pid_namespace(settings: Settings, url: str) -> None:
    """What the emulator of a container leaves in a directory that both see."""
    file = announce(settings, Endpoint(url, "http://127.0.0.1:9999", "token"))
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "pid": 1, "pid_namespace": 1}))


@contextmanager
def emulator_at_a_port(state_dir: Path) -> Iterator[str]:
    """Answers the health page as an emulator with this state directory does."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "ok", "state_dir": str(state_dir)}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_pid_of_another_namespace_says_nothing(settings: Settings, tmp_path: Path) -> None:
    with emulator_at_a_port(tmp_path) as url:
        from_another_pid_namespace(settings, url)
        found = running_endpoint(settings)
        assert found == Endpoint(url, "http://127.0.0.1:9999", "token")
    assert running_endpoint(settings) is None


def test_an_emulator_at_the_port_tells_where_its_files_are(tmp_path: Path) -> None:
    other = Settings(state_dir=tmp_path / "other")
    with emulator_at_a_port(other.state_dir) as url:
        from_another_pid_namespace(other, url)
        mine = Settings(state_dir=tmp_path / "mine", port=int(url.rpartition(":")[2]))
        folder = other.state_dir / "client"
        assert find_endpoint(mine) == Endpoint(url, "http://127.0.0.1:9999", "token", folder)
        assert find_endpoint(Settings(state_dir=tmp_path / "mine"), url) == find_endpoint(mine)
        exports = client_environment(mine, {}).exports
        assert exports["AWS_CA_BUNDLE"] == str(folder / "ca-bundle.pem")
        assert exports["EMULATOR_ADMIN_TOKEN"] == "token"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_files_of_another_user_are_not_trusted(tmp_path: Path) -> None:
    other = Settings(state_dir=tmp_path / "other")
    with emulator_at_a_port(other.state_dir) as url:
        from_another_pid_namespace(other, url)
        os.chown(other.state_dir / "client" / "running.json", 65534, -1)
        mine = Settings(state_dir=tmp_path / "mine", port=int(url.rpartition(":")[2]))
        assert find_endpoint(mine) == configured_endpoint(mine)


def test_only_the_url_of_a_distant_emulator_is_known(settings: Settings) -> None:
    found = find_endpoint(settings, "http://127.0.0.1:1")
    assert found == Endpoint("http://127.0.0.1:1", "http://127.0.0.1:2")


def test_the_proxy_has_the_next_port_or_one_of_its_own() -> None:
    assert proxy_port(Settings(port=4570)) == 4571
    assert proxy_port(Settings(port=4570, proxy_port=9000)) == 9000
    assert proxy_port(Settings(port=0)) == 0
    assert configured_endpoint(Settings(proxy_port=9000)).proxy == "http://127.0.0.1:9000"


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_listening_everywhere_is_reached_over_loopback(tmp_path: Path, host: str) -> None:
    settings = Settings(host=host, port=4999, state_dir=tmp_path)
    assert configured_endpoint(settings).url == "http://127.0.0.1:4999"
