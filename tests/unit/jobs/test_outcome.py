from __future__ import annotations

import pytest

from emulator.jobs.outcome import failure_of
from emulator.model.plan import Exit


@pytest.mark.parametrize(
    ("end", "file", "reason"),
    [
        (Exit("algo-1", 1, 0), "", "AlgorithmError: , exit code: 1"),
        (Exit("algo-1", 137, 0), "", "AlgorithmError: , exit code: 137"),
        (
            Exit("algo-1", 1, 0),
            "ExecuteUserScriptError:\nExitCode 3\n",
            "AlgorithmError: ExecuteUserScriptError:\nExitCode 3, exit code: 1",
        ),
        (Exit("algo-1", 1, 0), "ClientError: no data\n", "ClientError: no data"),
        (
            Exit("algo-1", 137, 0, out_of_memory=True),
            "whatever",
            "ClientError: Please use an instance type with more memory, or reduce the size of "
            "job data processed on an instance.",
        ),
        (
            Exit("algo-1", 0, 0, lost="The container was removed."),
            "",
            "InternalServerError: We encountered an internal error. Please try again. "
            "The container was removed.",
        ),
    ],
)
def test_reasons(end: Exit, file: str, reason: str) -> None:
    assert str(failure_of(end, file)) == reason


def test_a_long_failure_file_keeps_the_exit_code() -> None:
    reason = str(failure_of(Exit("algo-1", 2, 0), "x" * 5000))
    assert len(reason) == 1024
    assert reason.endswith("x, exit code: 2")


def test_success_is_no_failure_whatever_the_file_says() -> None:
    assert failure_of(Exit("algo-1", 0, 0), "left over") is None
