from __future__ import annotations

import pytest

from emulator.model.errors import AlgorithmError
from emulator.model.plan import Exit
from emulator.workloads.run.outcome import INTERNAL_ERROR, failure_of


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


def test_a_long_traceback_keeps_its_beginning_and_the_cause() -> None:
    frames = "".join(f'  File "train.py", line {n}, in step\n    step()\n' for n in range(100))
    text = f"Traceback (most recent call last):\n{frames}RuntimeError: CUDA out of memory"
    reason = str(failure_of(Exit("algo-1", 1, 0), text))
    assert len(reason) == 1024
    assert reason.startswith("AlgorithmError: Traceback (most recent call last):\n")
    assert reason.endswith("RuntimeError: CUDA out of memory, exit code: 1")


def test_a_long_command_of_the_toolkit_does_not_hide_the_cause() -> None:
    options = " ".join(f"--option-{number} {number}" for number in range(200))
    text = (
        'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: wrong shape"\n'
        f'Command "/usr/bin/python3 train.py {options}"'
    )
    reason = str(failure_of(Exit("algo-1", 1, 0), text))
    assert len(reason) <= 1024
    assert 'ErrorMessage "ValueError: wrong shape"\nCommand "/usr/bin/python3 train.py' in reason
    assert reason.endswith('...", exit code: 1')


def test_success_is_no_failure_whatever_the_file_says() -> None:
    assert failure_of(Exit("algo-1", 0, 0), "left over") is None


def test_a_script_that_fails_for_want_of_the_store_is_not_to_blame() -> None:
    failed = Exit("algo-1", 1, 0.0)
    assert str(failure_of(failed, "", "the store was away")) == (
        f"InternalServerError: {INTERNAL_ERROR} the store was away"
    )
    assert failure_of(Exit("algo-1", 0, 0.0), "", "the store was away") is None
    assert isinstance(failure_of(failed, ""), AlgorithmError)


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        (
            "Framework Error: \nTraceback\n  files.download_and_extract(uri=uri, path=path)\n"
            "botocore.exceptions.ClientError: An error occurred (404) when calling the HeadObject "
            "operation: Not Found\n\nAn error occurred (404) when calling the HeadObject "
            "operation: Not Found",
            "is not in S3",
        ),
        (
            "Framework Error: \nTraceback\n  files.download_and_extract(uri=uri, path=path)\n"
            "tarfile.ReadError: not a gzip file\n\nnot a gzip file",
            "is not a .tar.gz file",
        ),
        (
            'ExecuteUserScriptError:\nExitCode 2\nErrorMessage ""\nCommand "python -- train.py"',
            "has no such entry point, or the script refused its arguments: the log says which",
        ),
    ],
)
def test_a_script_that_is_not_there_is_named_as_the_cause(written: str, cause: str) -> None:
    reason = str(failure_of(Exit("algo-1", 1, 0), written))
    assert reason.startswith(f"AlgorithmError: {written.splitlines()[0].rstrip()}")
    assert reason.endswith(f"{cause}, exit code: 1")


def test_a_script_that_ran_is_told_in_its_own_words_alone() -> None:
    written = (
        'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ClientError: An error occurred (404) '
        'when calling the HeadObject operation: Not Found"\nCommand "python train.py"'
    )
    assert (
        str(failure_of(Exit("algo-1", 1, 0), written)) == f"AlgorithmError: {written}, exit code: 1"
    )
