"""How a job's data gets in and out: the channels and artifacts of one S3 server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from emulator.jobs.workshop import Instances
from emulator.model.job import JobSpec
from emulator.storage.artifacts import upload_artifacts
from emulator.storage.channels import check_input, refuse_unsupported, stage
from emulator.storage.objects import ObjectStore

_log = logging.getLogger(__name__)


def _unseen(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class S3Inputs:
    """Inputs (see workshop.py) from S3."""

    store: ObjectStore

    def check(self, spec: JobSpec) -> None:
        for channel in spec.channels:
            refuse_unsupported(channel)
        check_input(self.store, spec.channels, spec.role_arn, spec.scope.region)

    def stage(self, spec: JobSpec, instances: Instances, cancelled: Callable[[], bool]) -> None:
        directories = {host: dirs.data for host, dirs in instances.items()}
        for channel in spec.channels:
            staged = stage(channel, spec.hosts, directories, self.store, _unseen, cancelled)
            _log.debug("%s: %s", spec.name, staged)


@dataclass(frozen=True)
class S3Outputs:
    """Outputs (see workshop.py) to S3."""

    store: ObjectStore

    def upload(self, spec: JobSpec, instances: Instances) -> None:
        roots = [(dirs.model, dirs.output_data) for dirs in instances.values()]
        upload_artifacts(spec, roots, self.store, _unseen)
