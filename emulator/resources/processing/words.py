"""What is said of processing jobs."""

from __future__ import annotations

from emulator.model.lifecycle import Phase, Words

DEFAULT_MAX_RUNTIME = 86_400
"""Seconds, where StoppingCondition says nothing (SageMaker Python SDK, Processor: 24 hours)."""

WORDS = Words(
    starting="Starting the processing job",
    preparing="Preparing the instances for processing",
    pending="Processing job waiting for capacity",
    downloading="Downloading input data",
    downloading_image="Downloading the processing image",
    running="Processing in progress",
    uploading="Uploading processing outputs",
    stopping="Stopping the processing job",
    interrupted="Processing job interrupted",
    completed="Processing job completed",
    failed="Processing job failed",
    stopped="Processing job stopped",
    max_runtime_exceeded="Processing job runtime exceeded MaxRuntimeInSeconds provided",
    max_wait_time_exceeded="Processing job wait time exceeded",
)
"""For people alone: DescribeProcessingJob has a status and no message."""


def not_found(name: str) -> str:
    """What Describe and Stop say of an unknown job, with code ValidationException (seen)."""
    return f"Could not find requested job with name: {name}"


def phase_name(phase: Phase) -> str:
    """What log lines call that phase."""
    return "Processing" if phase is Phase.RUNNING else phase.value
