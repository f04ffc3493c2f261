"""What `/_emulator/v1` answers. Times are in epoch seconds, sizes in bytes if not said."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class GpuProcess(BaseModel):
    """A process that computes on a GPU, as the driver shows it."""

    pid: int
    name: str
    memory_mib: int


class Holder(BaseModel):
    """The job, or the warm pool that it left, which holds a GPU."""

    kind: str
    name: str
    account: str
    region: str
    instances: list[str]
    since: float
    pool: bool
    """The job has ended; its warm pool holds the GPU."""


class Gpu(BaseModel):
    """One GPU or MIG slice."""

    uuid: str
    index: int
    name: str
    memory_mib: int
    used_mib: int | None
    """None where the driver does not answer, as in a rehearsal."""
    busy_percent: float | None
    holder: Holder | None
    idle_since: float | None
    """Of its job, once that is marked as one that does not use its GPUs."""
    processes: list[GpuProcess]
    """On a GPU that nobody holds these are of others."""
    busy_history: list[float]
    """The last ten minutes, oldest first; a look every two seconds."""
    memory_history: list[float]
    """Percent."""


class Usage(BaseModel):
    """Something of which the machine has so much."""

    used: float
    total: float
    history: list[float] = []
    """Percent, as for GPUs."""


class QueuedJob(BaseModel):
    """A job that waits for capacity."""

    place: int
    kind: str
    name: str
    account: str
    region: str
    since: float
    priority: int
    instances: int
    instance_type: str
    reason: str


class Pool(BaseModel):
    """The instances that a job left, kept for the next one."""

    kind: str
    name: str
    account: str
    region: str
    instances: int
    instance_type: str
    gpus: int
    since: float
    expires: float


class Machine(BaseModel):
    """This machine, and the emulator on it."""

    version: str
    started: float
    runtime: str
    runtime_reason: str
    engine_away: str | None
    """Why the Docker engine does not answer, where one is expected."""
    store: str
    """embedded or external."""
    store_endpoint: str
    store_problem: str
    state_dir: str
    account: str
    region: str
    gpus: list[Gpu]
    gpu_findings: list[str]
    cpu_percent: float | None
    cpu_history: list[float]
    cores: int
    memory: Usage
    disk: Usage
    """Where the state directory lies."""
    cache_bytes: int
    cache_limit: int
    queue: list[QueuedJob]
    """The first of them, in order."""
    queue_length: int
    pools: list[Pool]
    jobs: dict[str, int]
    """By status, of all kinds."""


class Phase(BaseModel):
    """A time in the life of a job."""

    name: str
    message: str
    started: float
    ended: float | None


class JobSummary(BaseModel):
    """A job in a list."""

    kind: str
    name: str
    account: str
    region: str
    status: str
    phase: str
    """Its secondary status."""
    message: str
    created: float
    started: float | None
    ended: float | None
    modified: float
    instance_type: str
    """Several types with a comma between them."""
    instances: int
    gpus: int
    """That it holds now."""
    runtime: str | None
    metrics: dict[str, float]
    """The last value of each."""
    reason: str
    """Why it waits, or why it failed; "" otherwise."""
    gpus_idle_since: float | None


class JobList(BaseModel):
    """A page of jobs, newest first."""

    total: int
    offset: int
    jobs: list[JobSummary]


class LogStream(BaseModel):
    """The output of one instance."""

    instance: str
    stream: str
    size: int


class JobDetail(JobSummary):
    """All that is known of a job but its data."""

    arn: str
    role: str
    image: str | None
    runtime_reason: str
    spot: bool
    attempts: int
    phases: list[Phase]
    failure_reason: str | None
    exit_message: str | None
    gpu_uuids: dict[str, list[str]]
    """By instance."""
    transports: list[str]
    """How NCCL talks between the ranks, from the job's log."""
    tags: dict[str, str]
    hyperparameters: dict[str, str]
    request: dict[str, Any]
    streams: list[LogStream]
    points: int
    """Grows with every metric value: a cursor for `metrics`."""


class MetricSeries(BaseModel):
    """The points of one metric of one instance, as they were printed."""

    name: str
    instance: str | None
    at: list[float]
    values: list[float]


class MetricPoints(BaseModel):
    """Values that came after a cursor, of the job itself or of its instances."""

    cursor: int
    """Where the next question begins."""
    more: bool
    series: list[MetricSeries]


class LogLine(BaseModel):
    """A line of a log stream; it spans the bytes from `start` to `end`."""

    start: int
    end: int
    at: float
    text: str


class LogLines(BaseModel):
    """Lines in their order."""

    start: int
    end: int
    size: int
    """Of the whole stream now."""
    lines: list[LogLine]


class Sized(BaseModel):
    """A place in S3 and what is there."""

    name: str
    uri: str
    objects: int
    bytes: int
    complete: bool
    """False where there is more than was counted."""
    detail: str = ""


class File(BaseModel):
    """A file, by its path with slashes."""

    path: str
    size: int
    bucket: str | None = None
    key: str | None = None
    """Where it can be downloaded by itself."""


class Output(BaseModel):
    """What a job left in S3."""

    name: str
    uri: str
    files: list[File]
    """Of an archive, those in it."""
    size: int
    """As it lies in S3."""
    archive: bool
    complete: bool


class JobData(BaseModel):
    """What a job read and wrote."""

    channels: list[Sized]
    outputs: list[Output]
    saved: list[Output]
    """Checkpoints and other directories that are copied while the job runs."""


class Variant(BaseModel):
    """A production variant, or the copies of an inference component."""

    name: str
    model: str | None
    instance_type: str
    wanted: int
    in_service: int
    weight: float
    kind: str
    """"", shadow, serverless or component."""
    status: str
    """VariantStatus while something happens."""
    message: str


class EndpointSummary(BaseModel):
    """An endpoint in a list."""

    name: str
    account: str
    region: str
    status: str
    config: str
    created: float
    modified: float
    variants: list[Variant]
    failure_reason: str | None


class ModelInstance(BaseModel):
    """An instance of an endpoint."""

    id: str
    variant: str
    runtime: str
    since: float
    serves: bool
    """It has answered a ping."""
    requests: int
    """That it works on now."""


class EndpointDetail(EndpointSummary):
    """All that is known of an endpoint."""

    arn: str
    asynchronous: bool
    tags: dict[str, str]
    instances: list[ModelInstance]
    streams: list[LogStream]
    request: dict[str, Any]


class Bucket(BaseModel):
    """A bucket of the store."""

    name: str
    created: float


class StoredEntry(BaseModel):
    """An object or a prefix."""

    name: str
    """Without the prefix it was asked for with."""
    key: str
    prefix: bool
    size: int
    modified: float | None


class Folder(BaseModel):
    """What lies below a prefix."""

    bucket: str
    prefix: str
    entries: list[StoredEntry]
    next: str | None
    """The key to go on behind, if there is more."""


class Resubmission(BaseModel):
    """How a job is to be run again."""

    name: str
    hyperparameters: dict[str, str] | None = None
    """Instead of those it had; None: the same."""


class Done(BaseModel):
    """The job as it stands after an action."""

    name: str
    status: str
