"""What an instance's end means for its job. Pure."""

from __future__ import annotations

import re

from emulator.model.errors import (
    FAILURE_REASON_LIMIT,
    AlgorithmError,
    ClientError,
    InternalServerError,
    JobError,
)
from emulator.model.plan import Exit

INTERNAL_ERROR = "We encountered an internal error. Please try again."
"""FailureReason of an InternalServerError, after its prefix (seen)."""
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type."
)
"""FailureReason of a CapacityError, after its prefix (seen)."""
OUT_OF_MEMORY = (
    "Please use an instance type with more memory, or reduce the size of job data "
    "processed on an instance."
)
"""FailureReason when the kernel ended a training container for its memory (seen)."""

KILLED = 137
"""Exit code of an instance that was ended from outside: 128 + SIGKILL."""


_COMMAND = '\nCommand "'
"""Begins the last part of what AWS's training toolkit writes; it has every hyperparameter."""
_COMMAND_ROOM = FAILURE_REASON_LIMIT // 4


def _with_short_command(text: str) -> str:
    """The toolkit's account of a failure, with room for the cause, which stands before it."""
    before, command, arguments = text.rpartition(_COMMAND)
    if not command or len(text) <= FAILURE_REASON_LIMIT or len(arguments) <= _COMMAND_ROOM:
        return text
    return f'{before}{command}{arguments[:_COMMAND_ROOM]}..."'


_CAUSES = (
    (
        re.compile(r"download_and_extract.*HeadObject operation: Not Found", re.DOTALL),
        "The source archive that the hyperparameter sagemaker_submit_directory names is not in S3",
    ),
    (
        re.compile(r"download_and_extract.*not a gzip file", re.DOTALL),
        "The source archive that the hyperparameter sagemaker_submit_directory names is not a "
        ".tar.gz file",
    ),
    (
        re.compile(r'ExecuteUserScriptError:\s+ExitCode 2\s+ErrorMessage ""\s+Command'),
        "The source archive has no such entry point, or the script refused its arguments: the log "
        "says which",
    ),
)
"""What the training toolkit (sagemaker-training 5.1) writes, and what it does not say of it."""


def _cause(text: str) -> str:
    """The cause of a failure of which the toolkit tells only the effect; "" for any other."""
    return next((f"\n{cause}" for shown, cause in _CAUSES if shown.search(text)), "")


STORE_SECONDS = 60.0
"""A script that fails so soon after the object store was away may have failed for want of it."""


def failure_of(end: Exit, failure_file: str, store_away: str = "") -> JobError | None:
    """Why the job fails because of this end; None when it does not.

    `failure_file` is what the instance's /opt/ml/output/failure holds, "" without one.
    A file that starts with `ClientError:` names the reason itself (seen in recordings).
    `store_away` says why the object store did not answer shortly before this end ("" if it did).
    """
    if end.lost:
        return InternalServerError(f"{INTERNAL_ERROR} {end.lost}")
    if end.code == 0:
        return None
    if end.out_of_memory:
        return ClientError(OUT_OF_MEMORY)
    text = _with_short_command(failure_file.rstrip()) + _cause(failure_file)
    if text.startswith("ClientError:"):
        return ClientError(text.removeprefix("ClientError:").lstrip())
    if store_away:
        return InternalServerError(f"{INTERNAL_ERROR} {store_away}")
    return AlgorithmError(text, end.code)
