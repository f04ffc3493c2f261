"""What a training job costs, in seconds."""

from __future__ import annotations

from emulator.model.record import Job

SPOT_PRICE = 0.3
"""What a second on a spot instance costs, as a share of the on-demand price: 70 % savings,
what the service's own examples show."""


def training_seconds(job: Job) -> int | None:
    """TrainingTimeInSeconds: from the first byte of data to the end; None before the end."""
    start, end = job.life.started, job.life.ended
    return None if start is None or end is None else round(end - start)


def billable_seconds(job: Job) -> int | None:
    """BillableTimeInSeconds, None before the end.

    On demand this is the training time (seen). On spot, the time without instances after an
    interruption is free and each second costs SPOT_PRICE: the service shows the savings as
    1 - billable / training (API reference).
    """
    trained = training_seconds(job)
    if trained is None or not job.spec.spot:
        return trained
    return min(trained, round(job.life.held_seconds * SPOT_PRICE))
