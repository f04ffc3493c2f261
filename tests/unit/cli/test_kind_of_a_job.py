"""Which job a name means where a training and a processing job have it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from emulator.cli.kinds import PROCESSING, TRAINING, JobKind
from emulator.cli.remote import NoSuchJob, Remote
from emulator.model.errors import ApiError


class Known(Remote):
    """An emulator with one job of each kind: its status, and the second it was created."""

    def __init__(self, **jobs: tuple[str, int]):
        self._jobs = jobs

    def describe(self, job: str, kind: JobKind = TRAINING) -> dict[str, Any]:
        if kind.word not in self._jobs:
            raise ApiError("Requested resource not found.")
        status, second = self._jobs[kind.word]
        created = datetime.fromtimestamp(second, timezone.utc)
        return {**kind.named(job), f"{kind.word}JobStatus": status, "CreationTime": created}


@pytest.mark.parametrize(
    ("training", "processing", "meant"),
    [
        (("Completed", 2), ("InProgress", 1), PROCESSING),
        (("InProgress", 1), ("InProgress", 2), PROCESSING),
        (("Stopping", 1), ("Failed", 2), TRAINING),
        (("Stopped", 2), ("Failed", 1), TRAINING),
    ],
)
def test_the_one_that_runs_is_meant_else_the_newest(
    training: tuple[str, int], processing: tuple[str, int], meant: JobKind
) -> None:
    assert Known(Training=training, Processing=processing).kind_of("x") is meant


def test_one_kind_or_none() -> None:
    assert Known(Processing=("Completed", 1)).kind_of("x") is PROCESSING
    with pytest.raises(NoSuchJob):
        Known().kind_of("x")
