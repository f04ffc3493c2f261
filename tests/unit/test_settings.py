"""Flags, then variables, then the file, then defaults."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from emulator.settings import Settings


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EMULATOR_{name.upper()}", raising=False)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "emulator.toml"
    file.write_text('port = 5003\nregion = "eu-west-1"\nruntime = "process"\n')
    return file


def test_defaults_are_a_loopback_endpoint_and_this_interpreter() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 4570)
    assert settings.python == Path(sys.executable)


def test_each_source_wins_over_the_ones_below_it(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMULATOR_REGION", "eu-central-1")
    monkeypatch.setenv("EMULATOR_PORT", "5002")
    settings = Settings(config=toml, port=5001)
    assert (settings.port, settings.region, settings.runtime) == (5001, "eu-central-1", "process")


def test_the_file_may_be_named_by_a_variable(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATOR_CONFIG", str(toml))
    assert Settings().port == 5003


@pytest.mark.parametrize(
    "wrong",
    [{"port": 70000}, {"runtime": "kubernetes"}, {"account": "12"}, {"colour": "red"}],
    ids=str,
)
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_the_secret_is_not_shown() -> None:
    assert "emulator-secret" not in repr(Settings())
