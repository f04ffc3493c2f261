"""One instance of an endpoint: what placement, its plan and its log need to know of it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.model.hosting import PORT, VariantSpec, log_group
from emulator.model.scope import Scope
from emulator.model.workload import Host


def new_id() -> str:
    """As the service names instances in log streams: i-<17 hex>."""
    return f"i-{secrets.token_hex(9)[:17]}"


@dataclass(frozen=True)
class InstanceSpec:
    """A Claim (see model/claim.py) that holds GPUs for as long as it serves."""

    scope: Scope
    endpoint: str
    variant: VariantSpec
    id: str
    port: int = PORT
    """Of its first container; each further one has the next."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the endpoint."""

    @property
    def name(self) -> str:
        return f"{self.endpoint}/{self.variant.name}/{self.id}"

    @property
    def arn(self) -> str:
        """No ARN of the service's: its instances have none."""
        return self.scope.arn("endpoint", self.name)

    @property
    def label(self) -> str:
        return f"instance {self.id} of endpoint {self.endpoint}"

    @property
    def host(self) -> Host:
        return Host(self.id, self.variant.instance_type, self.variant.name)

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (self.host,)

    @property
    def max_runtime(self) -> float:
        return math.inf

    @property
    def ports(self) -> tuple[str, ...]:
        """No launcher runs in it, and its own ports are chosen."""
        return ()

    @property
    def lasting(self) -> bool:
        return True

    @property
    def log_group(self) -> str:
        return log_group(self.endpoint)

    @property
    def streams(self) -> Mapping[str, str]:
        """By hostname of the container, the log stream (seen, and the guide on pipelines)."""
        stream = f"{self.variant.name}/{self.id}"
        containers = self.variant.containers
        if len(containers) == 1:
            return {containers[0].hostname: stream}
        return {each.hostname: f"{stream}/{each.hostname}" for each in containers}

    def port_of(self, container: int) -> int:
        return self.port + container
