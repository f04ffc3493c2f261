"""What the machine does: its GPUs, its load, its queue and its warm pools."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from emulator.model.record import Job
from emulator.model.warm_pool import PoolStatus
from emulator.placement.device import Gpu
from emulator.placement.leases import Holding
from emulator.resources import KINDS
from emulator.web import models
from emulator.web.sources import Sources
from emulator.workloads.machine_watch import Look

JOB_KINDS = tuple(kind.name for kind in KINDS)
QUEUE_SHOWN = 200
"""Jobs of the queue in one answer."""


def machine(sources: Sources) -> models.Machine:
    """The machine as it is now."""
    said = sources.health()
    settings, inventory = sources.settings, sources.capacity.inventory()
    looks = sources.watch.looks()
    disk = shutil.disk_usage(settings.state_dir)
    queue, length = waiting(sources)
    runtime, store = said["runtime"], said["object_store"]
    counts: dict[str, int] = {}
    for (_, status), number in sources.records.counts().items():
        counts[status] = counts.get(status, 0) + number
    return models.Machine(
        version=said["version"],
        started=sources.started,
        runtime=runtime["name"],
        runtime_reason=runtime["reason"],
        engine_away=said["engine_away"] or None,
        store=store["kind"],
        store_endpoint=store["endpoint"],
        store_problem=store["problem"] or "",
        state_dir=said["state_dir"],
        account=settings.account,
        region=settings.region,
        gpus=_gpus(sources, inventory.gpus, looks),
        gpu_findings=list(inventory.findings),
        cpu_percent=looks[-1].machine.cpu_percent if looks else None,
        cpu_history=[look.machine.cpu_percent for look in looks],
        cores=sources.machine.cores,
        memory=_memory(looks, sources.machine.memory_mib),
        disk=models.Usage(used=disk.total - disk.free, total=disk.total),
        cache_bytes=sources.cache.size,
        cache_limit=int(settings.cache_gigabytes * 1e9),
        queue=queue,
        queue_length=length,
        pools=_pools(sources),
        jobs=counts,
    )


def waiting(sources: Sources, limit: int = QUEUE_SHOWN) -> tuple[list[models.QueuedJob], int]:
    """The first jobs in line, and how many there are in all."""
    line, behind = sources.capacity.line(), sources.supervisor.backlog()
    found: list[models.QueuedJob] = []
    for one in line[:limit]:
        if job := sources.records.by_arn(one.job):
            found.append(_queued(job, len(found) + 1, one.priority, one.reason))
    for key in behind[: max(0, limit - len(line))]:
        if job := sources.records.get(key):
            reason = f"{len(found)} jobs are before it"
            found.append(_queued(job, len(found) + 1, 0, reason))
    return found, len(line) + len(behind)


def _queued(job: Job, place: int, rank: int, reason: str) -> models.QueuedJob:
    return models.QueuedJob(
        place=place,
        kind=job.spec.kind.name,
        name=job.spec.name,
        account=job.spec.scope.account,
        region=job.spec.scope.region,
        since=job.life.transitions[-1].started,
        priority=rank,
        instances=len(job.spec.hosts),
        instance_type=instance_types(job),
        reason=reason,
    )


def instance_types(job: Job) -> str:
    """The types of the job's instances, each once."""
    return ", ".join(dict.fromkeys(group.instance_type for group in job.spec.groups))


def _gpus(sources: Sources, gpus: Sequence[Gpu], looks: Sequence[Look]) -> list[models.Gpu]:
    held, idle = sources.capacity.held(), sources.watch.marked()
    return [_gpu(sources, gpu, held.get(gpu.uuid), idle, looks) for gpu in gpus]


def _gpu(
    sources: Sources,
    gpu: Gpu,
    holding: Holding | None,
    idle: Mapping[str, float],
    looks: Sequence[Look],
) -> models.Gpu:
    history = [load for look in looks if (load := look.gpus.get(gpu.uuid))]
    now = looks[-1].gpus.get(gpu.uuid) if looks else None
    return models.Gpu(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        memory_mib=gpu.memory_mib,
        used_mib=now.used_mib if now else None,
        busy_percent=now.busy if now else None,
        holder=_holder(sources, holding) if holding else None,
        idle_since=idle.get(holding.job) if holding else None,
        processes=[
            models.GpuProcess(pid=one.pid, name=one.name, memory_mib=one.memory_mib)
            for one in (now.processes if now else gpu.processes)
        ],
        busy_history=[load.busy for load in history if load.busy is not None],
        memory_history=[100 * load.used_mib / (gpu.memory_mib or 1) for load in history],
    )


def _holder(sources: Sources, holding: Holding) -> models.Holder:
    _, _, _, region, account, resource = holding.job.split(":", 5)
    kind = resource.partition("/")[0]
    job = sources.records.by_arn(holding.job)
    ended = job is None or job.life.status.terminal
    return models.Holder(
        kind=kind,
        name=holding.name,
        account=account,
        region=region,
        instances=list(holding.hosts),
        since=holding.opened,
        # An endpoint is no job, and leaves none.
        pool=ended and kind in JOB_KINDS,
    )


def _memory(looks: Sequence[Look], there_mib: int) -> models.Usage:
    if not looks or not looks[-1].machine.memory_total_mib:
        return models.Usage(used=0, total=there_mib << 20)
    last = looks[-1].machine
    return models.Usage(
        used=last.memory_used_mib << 20,
        total=last.memory_total_mib << 20,
        history=[
            100 * look.machine.memory_used_mib / (look.machine.memory_total_mib or 1)
            for look in looks
        ],
    )


def _pools(sources: Sources) -> list[models.Pool]:
    leases = {lease.job: len(lease.holders) for lease in sources.capacity.leases()}
    return [
        models.Pool(
            kind=job.spec.kind.name,
            name=job.spec.name,
            account=job.spec.scope.account,
            region=job.spec.scope.region,
            instances=len(job.spec.hosts),
            instance_type=instance_types(job),
            gpus=leases.get(job.spec.arn, 0),
            since=pool.since or 0,
            expires=pool.expires or 0,
        )
        for job in sources.records.with_open_pools()
        if (pool := job.warm_pool) and pool.status is PoolStatus.AVAILABLE
    ]
