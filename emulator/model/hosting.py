"""What endpoints are made of: frozen values without effects.

`emulator/resources/hosting/` reads them from requests; `emulator/workloads/serving/` keeps them
running; `emulator/aws/` describes them and sends requests to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from emulator.model.scope import Scope
from emulator.model.workload import S3Uri

PORT = 8080
"""Of the first container of an instance; each further one has the next port."""


class EndpointStatus(str, Enum):
    """EndpointStatus, as far as endpoints here reach it."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    DELETING = "Deleting"
    FAILED = "Failed"

    @property
    def in_progress(self) -> bool:
        """Whether an update or a deletion is refused: the last one has not come to its end."""
        return self not in (EndpointStatus.IN_SERVICE, EndpointStatus.FAILED)


@dataclass(frozen=True)
class ModelData:
    """Data that is on an instance before its container starts."""

    uri: S3Uri
    form: Literal["archive", "prefix", "object"]
    """A tar.gz that is unpacked; all objects below a prefix; one object under its last name."""
    path: str = "/opt/ml/model"


@dataclass(frozen=True)
class ContainerSpec:
    """One container of each instance of a variant."""

    hostname: str
    """ContainerHostname; `container-1` and so on where the model has no names."""
    image: str
    environment: Mapping[str, str]
    data: tuple[ModelData, ...] = ()
    models: S3Uri | None = None
    """Of a multi-model container: the prefix below which TargetModel names an archive."""


@dataclass(frozen=True)
class Serverless:
    """A variant that has an instance only while requests come."""

    memory_mb: int
    max_concurrency: int


@dataclass(frozen=True)
class VariantSpec:
    """Instances that all hold the same model, or the copies of an inference component."""

    name: str
    containers: tuple[ContainerSpec, ...]
    instance_type: str
    count: int
    """Instances that are wanted now."""
    weight: float = 1.0
    model: str | None = None
    """ModelName; None for a variant that inference components are put on."""
    direct: bool = False
    """Each request names the container that gets it; else it goes through all of them."""
    network_isolation: bool = False
    random: bool = False
    """RoutingStrategy RANDOM; else least outstanding requests."""
    startup_seconds: float = 240.0
    """In which a container has to answer its first ping (developer guide: 4 minutes)."""
    download_seconds: float = 3600.0
    """In which the model's data has to be there."""
    serverless: Serverless | None = None
    min_count: int | None = None
    """ManagedInstanceScaling.MinInstanceCount; 0 lets an idle variant give its instances back."""
    role_arn: str = ""
    component_of: str | None = None
    """Of the copies of an inference component: the variant that they are put on. Requests reach
    them by the component's name alone."""


@dataclass(frozen=True)
class Capture:
    """DataCaptureConfig of a config that enables it."""

    destination: S3Uri
    percentage: int
    inputs: bool
    outputs: bool
    csv_types: tuple[str, ...] = ()
    json_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class AsyncOutput:
    """AsyncInferenceConfig."""

    output: S3Uri
    failure: S3Uri | None
    max_concurrent: int
    """Invocations that an instance works on at once."""


@dataclass(frozen=True)
class Deployment:
    """An endpoint configuration with its models, as they were when the endpoint took them.

    Both may be deleted or made anew while the endpoint serves.
    """

    config_name: str
    sources: Mapping[str, Any] = field(repr=False)
    """What it was read from, as JSON: `config` (the request of CreateEndpointConfig), `models`
    (the requests of CreateModel by name), `desired` (by variant the `weight` and the `count` that
    UpdateEndpointWeightsAndCapacities has set)."""
    variants: tuple[VariantSpec, ...]
    shadows: tuple[VariantSpec, ...] = ()
    capture: Capture | None = None
    queue: AsyncOutput | None = None
    """Of an asynchronous endpoint."""

    @property
    def all_variants(self) -> tuple[VariantSpec, ...]:
        return (*self.variants, *self.shadows)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as the database has it."""

    scope: Scope
    name: str
    status: EndpointStatus
    created: float
    modified: float
    request: Mapping[str, Any] = field(repr=False)
    """CreateEndpoint as it was sent."""
    tags: Mapping[str, str] = field(default_factory=dict)
    failure_reason: str | None = None
    current: Deployment | None = None
    """What serves, or has served last."""
    pending: Deployment | None = None
    """What shall serve: while it is Creating or Updating to another configuration."""
    pending_since: float | None = None

    @property
    def arn(self) -> str:
        return self.scope.arn("endpoint", self.name)

    @property
    def log_group(self) -> str:
        return log_group(self.name)


_HIDDEN = "transform_"
"""No endpoint of a user's has an underscore in its name."""


def hidden_name(transform_job: str) -> str:
    """The endpoint that holds the model of a transform job; users do not see it."""
    return f"{_HIDDEN}{transform_job}"


def is_hidden(endpoint: str) -> bool:
    """Whether it is the endpoint of a transform job."""
    return endpoint.startswith(_HIDDEN)


def log_group(endpoint: str) -> str:
    """Of an endpoint's containers."""
    if is_hidden(endpoint):
        return "/aws/sagemaker/TransformJobs"
    return f"/aws/sagemaker/Endpoints/{endpoint}"


@dataclass(frozen=True)
class LiveVariant:
    """What DescribeEndpoint tells of a variant beside its configuration."""

    in_service: int
    """Instances that answer pings."""
    status: str | None = None
    """VariantStatus, while something happens: Creating, Updating, Deleting."""
    message: str = ""
    since: float = 0.0
    """Epoch seconds."""
