"""Flags, then variables, then the file, then defaults."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.model.faults import Fault, Kind
from emulator.settings import Settings, SettingsProblem, read_settings, unknown_variables


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in fields(Settings):
        monkeypatch.delenv(f"EMULATOR_{setting.name.upper()}", raising=False)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "emulator.toml"
    file.write_text('port = 5003\nregion = "eu-west-1"\nruntime = "process"\n')
    return file


def test_defaults_are_a_loopback_endpoint_and_this_interpreter() -> None:
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 4570)
    assert settings.python == Path(sys.executable)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("host", "python", "s3_endpoint", "roles", "max_jobs"):
        monkeypatch.setenv(f"EMULATOR_{name.upper()}", "")
    assert read_settings() == Settings()


def test_each_source_wins_over_the_ones_below_it(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMULATOR_REGION", "eu-central-1")
    monkeypatch.setenv("EMULATOR_PORT", "5002")
    settings = read_settings(config=toml, port=5001)
    assert (settings.port, settings.region, settings.runtime) == (5001, "eu-central-1", "process")


def test_the_file_may_be_named_by_a_variable(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATOR_CONFIG", str(toml))
    assert read_settings().port == 5003


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"port": 70000}, "65535"),
        ({"runtime": "kubernetes"}, "'auto', 'process' or 'docker'"),
        ({"account": "12"}, "match pattern"),
        ({"colour": "red"}, "no such setting"),
        ({"file_systems": {"fs-1": 3}}, "fs-1: .* path"),
        ({"faults": [{"kind": "SlowS3", "secnds": 3}]}, "secnds"),
        ({"config": Path("/nowhere.toml")}, "no such file"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsProblem, match=told) as raised:
        read_settings(**wrong)
    assert {raised.value.name: raised.value.given} == wrong or "config" in wrong


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "5004", 5004),
        ("overcommit", "1.5", 1.5),
        ("max_jobs", "3", 3),
        ("leave_jobs", "no", False),
        ("keep_directories", "1", True),
        ("keep_directories", "True", True),
        ("s3_endpoint", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("gpu_inventory", "/gpus.json", Path("/gpus.json")),
        ("roles", '["one", "two"]', ("one", "two")),
        ("file_systems", '{"fs-1": "/data"}', {"fs-1": Path("/data")}),
        ("instance_types", '{"ml.own": {"vcpu": 2}}', {"ml.own": {"vcpu": 2}}),
        ("faults", '[{"kind": "SlowS3", "seconds": 2}]', (Fault(Kind.SLOW_S3, seconds=2),)),
    ],
)
def test_a_variable_is_text_for_any_kind_of_setting(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"EMULATOR_{name.upper()}", text)
    assert getattr(read_settings(), name) == value


@pytest.mark.parametrize(
    ("name", "text"), [("port", "many"), ("roles", "one"), ("keep_directories", "perhaps")]
)
def test_a_variable_that_is_wrong(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EMULATOR_{name.upper()}", text)
    with pytest.raises(SettingsProblem, match=name):
        read_settings()


@given(st.integers())
def test_a_port_is_one_or_is_refused(port: int) -> None:
    try:
        assert read_settings(port=port).port == port
        assert 0 <= port <= 65535
    except SettingsProblem:
        assert not 0 <= port <= 65535


def test_variables_that_are_no_setting() -> None:
    environment = {"EMULATOR_ROLS": "x", "EMULATOR_QQQ": "", "EMULATOR_PORT": "1", "OTHER": "y"}
    assert unknown_variables(environment) == {
        "EMULATOR_QQQ": "",
        "EMULATOR_ROLS": "Did you mean EMULATOR_ROLES?",
    }


def test_the_secret_is_not_shown() -> None:
    assert "emulator-secret" not in repr(read_settings())


def test_every_default_is_what_its_setting_may_be() -> None:
    defaults = Settings()
    given = {setting.name: getattr(defaults, setting.name) for setting in fields(Settings)}
    assert read_settings(**{n: v for n, v in given.items() if n != "config"}) == defaults


def test_the_former_name_of_a_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATOR_LEAVE_CONTAINERS", "no")
    assert read_settings().leave_jobs is False
    assert unknown_variables({"EMULATOR_LEAVE_CONTAINERS": "no"}) == {}
    monkeypatch.setenv("EMULATOR_LEAVE_JOBS", "yes")
    assert read_settings().leave_jobs is True


def test_the_former_name_of_a_setting_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("leave_containers = false", encoding="utf-8")
    assert read_settings(config=file).leave_jobs is False
