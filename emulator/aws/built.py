"""Every operation that the endpoint carries out, by service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from emulator.aws.images import Engine, KnownImages
from emulator.aws.operation import Operations
from emulator.aws.roles import Roles
from emulator.aws.services import (
    cloudwatch,
    ecr,
    endpoint_configs,
    endpoints,
    iam,
    inference_components,
    job_updates,
    log_writes,
    logs,
    models,
    processing_jobs,
    sagemaker_metrics,
    search,
    sts,
    tags,
    training_jobs,
    transform_jobs,
)
from emulator.settings import Settings
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MetricStore
from emulator.workloads.run.supervisor import Supervisor
from emulator.workloads.serving.store import HostingStore
from emulator.workloads.store.runs import JobStore


class Objects(models.Objects, transform_jobs.Objects, Protocol):
    """What is asked of the object store."""


@dataclass(frozen=True)
class Hosting:
    """The parts behind the operations on models and endpoints."""

    store: HostingStore
    objects: Objects
    engine: endpoints.Endpoints
    transforms: transform_jobs.Jobs


def operations_by_service(
    settings: Settings,
    supervisor: Supervisor,
    records: JobStore,
    log_store: LogStore,
    metrics: MetricStore,
    engine: Engine,
    hosting: Hosting,
) -> Mapping[str, Operations]:
    """The operations of each service, by its botocore name."""
    roles, images = Roles(settings), KnownImages(settings, engine)
    return {
        "sagemaker": {
            **training_jobs.operations(supervisor, records, metrics, roles, images),
            **job_updates.operations(supervisor, records),
            **processing_jobs.operations(supervisor, records, roles, images),
            **models.operations(hosting.store, roles, images, hosting.objects),
            **endpoint_configs.operations(hosting.store, roles),
            **endpoints.operations(hosting.engine, hosting.store),
            **inference_components.operations(hosting.engine, hosting.store, images),
            **transform_jobs.operations(hosting.transforms, hosting.store, hosting.objects),
            **tags.operations(records, hosting.store),
            **search.operations(records, training_jobs.metrics_of(metrics)),
        },
        "sagemaker-metrics": sagemaker_metrics.operations(metrics),
        "logs": {**logs.operations(log_store), **log_writes.operations(log_store)},
        "cloudwatch": cloudwatch.operations(metrics),
        "sts": sts.operations(settings),
        "iam": iam.operations(settings, roles),
        "ecr": ecr.operations(images),
    }
