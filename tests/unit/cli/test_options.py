"""What is said of settings that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from emulator.cli.options import load_settings


def said(capsys: pytest.CaptureFixture[str], **flags: object) -> str:
    with pytest.raises(typer.Exit):
        load_settings(**flags)
    return " ".join(capsys.readouterr().err.split())


def test_a_setting_that_is_misspelt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('gpu_polcy = "scale"\n')
    assert "there is no setting gpu_polcy. Did you mean gpu_policy?" in said(capsys, config=file)


def test_a_value_that_is_wrong_is_told_with_where_it_can_be_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Set it by --port, EMULATOR_PORT or in the TOML file." in said(capsys, port=-1)
    monkeypatch.setenv("EMULATOR_GPU_POLICY", "half")
    told = said(capsys)
    assert "setting gpu_policy: Input should be 'scale', 'exact' or 'shared'" in told
    assert "Set it by EMULATOR_GPU_POLICY or in the TOML file." in told
