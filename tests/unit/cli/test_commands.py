"""The commands and their help."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from emulator.cli import COMMANDS, EXAMPLES, app, load


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_itself(name: str) -> None:
    assert (load(name).help or "").splitlines()[0] == COMMANDS[name]


def test_help_ends_with_examples_and_the_variables_that_count() -> None:
    shown = CliRunner().invoke(app, ["logs", "--help"]).stdout
    assert "sagemaker-emulator logs my-job --host algo-2" in shown
    assert "AWS_ENDPOINT_URL" in shown
    assert set(EXAMPLES) == set(COMMANDS)
