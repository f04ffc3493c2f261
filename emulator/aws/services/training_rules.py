"""What CreateTrainingJob refuses although every single member is well formed.

Words that were seen from the service are marked; the others say what is documented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.resources.training.words import DEFAULT_MAX_RUNTIME
from emulator.telemetry.logs.metric_definitions import compile_metric

LONGEST_RUNTIME = 28 * 86_400
"""Seconds that MaxRuntimeInSeconds may ask for (API reference)."""
INSTANCE_LIMIT = 100
"""Instances of one type in a job: the quota of this emulator, whose instances share a machine."""


def check(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for members that do not go together."""
    if "ServerlessJobConfig" in request:
        raise NotBuilt(
            "CreateTrainingJob with ServerlessJobConfig is not built into sagemaker-emulator yet."
        )
    _check_algorithm(request.get("AlgorithmSpecification"))
    _check_resources(request.get("ResourceConfig"))
    _check_channels(request)
    _check_groups(request)
    _check_time(request)
    _check_spot(request)


def _check_algorithm(algorithm: Mapping[str, Any] | None) -> None:
    # The model does not require it, because serverless jobs have none.
    if algorithm is None:
        raise _null("algorithmSpecification")
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        raise ValidationError(
            "You must specify either the algorithm name to the AlgorithmName parameter or the "
            "image URI of the algorithm container to the TrainingImage parameter."
        )
    for definition in algorithm.get("MetricDefinitions", ()):
        try:
            compile_metric(definition["Regex"])
        except ValueError as error:
            raise ValidationError(
                f"The regular expression '{definition['Regex']}' of metric "
                f"'{definition['Name']}' is invalid: {error}"
            ) from error


def _check_resources(resources: Mapping[str, Any] | None) -> None:
    if resources is None:
        raise _null("resourceConfig")
    _check_read_only(resources)
    groups = resources.get("InstanceGroups", [])
    if groups:
        if "InstanceType" in resources or "InstanceCount" in resources:
            raise ValidationError(
                "InstanceGroups cannot be used together with InstanceType or InstanceCount."
            )
        _check_unique("instance group", [group["InstanceGroupName"] for group in groups])
    elif "InstancePreferences" in resources:
        raise NotBuilt(
            "CreateTrainingJob with InstancePreferences is not built into sagemaker-emulator yet."
        )
    elif "InstanceType" not in resources:
        raise _null("resourceConfig.instanceType")
    counts = Counter[str]()
    for group in groups or [resources]:
        counts[group["InstanceType"]] += group.get("InstanceCount", 1)
    if sum(counts.values()) < 1:
        raise ValidationError("A training job needs at least one instance.")
    for instance_type, count in counts.items():
        _check_quota(instance_type, count)


def _check_read_only(resources: Mapping[str, Any]) -> None:
    for name in ("SelectedInstanceType", "SelectedInstanceCount"):
        if name in resources:
            raise ValidationError(f"{name} is read-only and cannot be part of the request.")


def _check_quota(instance_type: str, count: int) -> None:
    if count > INSTANCE_LIMIT:  # seen, for the service's own quotas
        raise ApiError(
            f"The account-level service limit '{instance_type} for training job usage' is "
            f"{INSTANCE_LIMIT} Instances, with current utilization of 0 Instances and a request "
            f"delta of {count} Instances. Please use AWS Service Quotas to request an increase "
            "for this quota. If AWS Service Quotas is not available, contact AWS support to "
            "request an increase for this quota.",
            code="ResourceLimitExceeded",
        )


def _check_channels(request: Mapping[str, Any]) -> None:
    channels = request.get("InputDataConfig", [])
    names = [channel["ChannelName"] for channel in channels]
    _check_unique("channel", names)
    if dots := {".", ".."}.intersection(names):
        # The pattern lets them through; as a directory they would be another one's.
        raise ValidationError(f"The channel name {min(dots)} cannot be used.")
    default = request["AlgorithmSpecification"]["TrainingInputMode"]
    modes = {channel.get("InputMode", default) for channel in channels}
    if {"Pipe", "FastFile"} <= modes:  # seen
        raise ValidationError(
            "Cannot use both 'Pipe' and 'FastFile' TrainingInputMode on the same Training Job."
        )


def _check_groups(request: Mapping[str, Any]) -> None:
    """Channels can be only for groups that the job has."""
    groups = {
        group["InstanceGroupName"] for group in request["ResourceConfig"].get("InstanceGroups", ())
    }
    for channel in request.get("InputDataConfig", ()):
        source = channel["DataSource"].get("S3DataSource", {})
        unknown = sorted(set(source.get("InstanceGroupNames", ())) - groups)
        if unknown:
            raise ValidationError(
                f"The channel {channel['ChannelName']} is for the instance group {unknown[0]}, "
                "which is not one of the training job's InstanceGroups."
            )


def _check_time(request: Mapping[str, Any]) -> None:
    limit = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 0)
    if limit > LONGEST_RUNTIME:
        raise ValidationError(
            f"MaxRuntimeInSeconds {limit} is more than 28 days ({LONGEST_RUNTIME} seconds)."
        )


def _check_spot(request: Mapping[str, Any]) -> None:
    stopping = request.get("StoppingCondition", {})
    if not request.get("EnableManagedSpotTraining"):
        if "MaxWaitTimeInSeconds" in stopping:  # seen
            raise ValidationError(
                "Invalid MaxWaitTimeInSeconds. It is only supported when "
                "EnableManagedSpotTraining is set to true"
            )
        return
    limit = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME)
    if stopping.get("MaxWaitTimeInSeconds", 0) < limit:
        raise ValidationError(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            "MaxRuntimeInSeconds"
        )


def _check_unique(kind: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValidationError(f"The {kind} name {twice[0]} is used more than once.")


def _null(path: str) -> ValidationError:
    return ValidationError(
        f"1 validation error detected: Value null at '{path}' failed to satisfy constraint: "
        "Member must not be null"
    )
