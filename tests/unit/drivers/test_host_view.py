"""What sandboxes are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.drivers.process.host_view import host_view


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in (".aws/credentials", ".ssh/id_ed25519", ".config/gcloud/x", ".config/pip/pip.conf"):
        (tmp_path / "home" / name).parent.mkdir(parents=True)
        (tmp_path / "home" / name).write_text("secret")
    (tmp_path / "home" / ".netrc").write_text("secret")
    return tmp_path / "home"


def test_the_users_credentials_and_the_state_are_hidden(home: Path, tmp_path: Path) -> None:
    state, config = tmp_path / "state", tmp_path / "emulator.toml"
    state.mkdir()
    config.write_text("")
    view = host_view([state, config], [], {"HOME": str(home)})
    found = {path for path in view.hidden_directories if path.startswith(str(tmp_path))}
    assert found == {str(home / name) for name in (".aws", ".ssh", ".config/gcloud")} | {str(state)}
    assert {str(home / ".netrc"), str(config)} <= set(view.hidden_files)
    assert view.shown == ()


def test_what_does_not_exist_needs_no_cover(tmp_path: Path) -> None:
    view = host_view([tmp_path / "none"], [], {"HOME": str(tmp_path)})
    assert not any(path.startswith(str(tmp_path)) for path in view.hidden_directories)


def test_links_are_followed_to_what_they_lead_to(home: Path, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (home / ".kube").symlink_to(tmp_path / "vault")
    (home / ".gnupg").symlink_to(home / ".gnupg")  # leads nowhere
    view = host_view([], [], {"HOME": str(home)})
    assert str(tmp_path / "vault") in view.hidden_directories
    assert str(home / ".gnupg") not in (*view.hidden_directories, *view.hidden_files)


def test_what_lies_below_something_hidden_is_covered_with_it(home: Path) -> None:
    view = host_view([home], [], {"HOME": str(home)})
    assert [p for p in view.hidden_directories if p.startswith(str(home))] == [str(home)]
    assert str(home / ".netrc") not in view.hidden_files


def test_what_is_asked_for_is_shown(home: Path) -> None:
    aws = home / ".aws"
    assert host_view([], [aws], {"HOME": str(home)}).shown == (str(aws),)


def test_what_a_variable_of_jobs_names_is_shown(tmp_path: Path) -> None:
    bundle = tmp_path / "state" / "ca.pem"
    bundle.parent.mkdir()
    bundle.write_text("certificate")
    user = {
        "AWS_CA_BUNDLE": str(bundle),
        "SSL_CERT_FILE": "/etc/ssl/certs/ca.pem",
        "OTHER": str(tmp_path / "state" / "database"),
    }
    assert host_view([bundle.parent], [], user).shown == (str(bundle),)


def test_an_engines_socket_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    user = {"DOCKER_HOST": f"unix://{tmp_path / 'docker.sock'}"}
    assert str(tmp_path / "docker.sock") in host_view([], [], user).hidden_files
