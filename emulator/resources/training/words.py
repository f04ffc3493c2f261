"""What the service says of training jobs."""

from __future__ import annotations

from emulator.model.lifecycle import Phase, Words

DEFAULT_MAX_RUNTIME = 86_400
"""Seconds, where StoppingCondition says nothing (API reference)."""

WORDS = Words(
    starting="Starting the training job",
    preparing="Preparing the instances for training",
    pending="Training job waiting for capacity",
    downloading="Downloading input data",
    downloading_image="Downloading the training image",
    running="Training image download completed. Training in progress.",
    uploading="Uploading generated training model",
    stopping="Stopping the training job",
    interrupted="Training job interrupted",
    completed="Training job completed",
    failed="Training job failed",
    stopped="Training job stopped",
    max_runtime_exceeded="Training job runtime exceeded MaxRuntimeInSeconds provided",
    max_wait_time_exceeded="Training job wait time exceeded MaxWaitTimeInSeconds provided",
)
"""Seen from the service, but for `interrupted` and `max_wait_time_exceeded`."""

NOT_FOUND = "Requested resource not found."
"""What Describe and Stop say of an unknown job, with code ValidationException (seen)."""


def secondary_status(phase: Phase) -> str:
    """SecondaryStatus of a training job in that phase."""
    return "Training" if phase is Phase.RUNNING else phase.value
