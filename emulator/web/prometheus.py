"""Figures of the emulator in Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from emulator import __version__
from emulator.model.hosting import is_hidden
from emulator.web.endpoints import REQUEST_SECONDS, requests
from emulator.web.machine import waiting
from emulator.web.sources import Sources

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Labels = Mapping[str, str]


def exposition(sources: Sources) -> str:
    """All figures as they are now."""
    return "".join(_lines(sources))


def _lines(sources: Sources) -> Iterator[str]:
    yield from family("build_info", "The version that runs.", [({"version": __version__}, 1)])
    counts = sources.records.counts()
    yield from family(
        "jobs",
        "Jobs that are known, by kind and status.",
        [({"kind": kind, "status": status}, n) for (kind, status), n in sorted(counts.items())],
    )
    line, length = waiting(sources, limit=1)
    yield from family("queue_length", "Jobs that wait for capacity.", [({}, length)])
    age = time.time() - line[0].since if line else 0
    yield from family("queue_age_seconds", "How long the next of them waits.", [({}, age)])
    yield from _gpus(sources)
    yield from _endpoints(sources)
    yield from _machine(sources)


def _gpus(sources: Sources) -> Iterator[str]:
    gpus, held = sources.capacity.inventory().gpus, sources.capacity.held()
    looks = sources.watch.looks()
    loads = looks[-1].gpus if looks else {}
    yield from family("gpus", "GPUs and MIG slices that jobs can get.", [({}, len(gpus))])
    names = [({"gpu": gpu.uuid, "name": gpu.name}, gpu) for gpu in gpus]
    yield from family(
        "gpu_leased",
        "Whether a job or a warm pool holds the GPU.",
        [
            ({**labels, "job": held[gpu.uuid].name if gpu.uuid in held else ""}, gpu.uuid in held)
            for labels, gpu in names
        ],
    )
    yield from family(
        "gpu_busy_ratio",
        "The share of the last sampling period in which anything ran on the GPU.",
        [
            (labels, (load.busy or 0) / 100)
            for labels, gpu in names
            if (load := loads.get(gpu.uuid)) and load.busy is not None
        ],
    )
    yield from family(
        "gpu_memory_used_bytes",
        "Memory of the GPU that is taken.",
        [
            (labels, load.used_mib << 20)
            for labels, gpu in names
            if (load := loads.get(gpu.uuid)) is not None
        ],
    )
    yield from family(
        "gpu_memory_bytes",
        "Memory of the GPU.",
        [(lab, gpu.memory_mib << 20) for lab, gpu in names],
    )
    yield from family(
        "jobs_with_idle_gpus",
        "Jobs that do not use their GPUs.",
        [({}, len(sources.watch.marked()))],
    )


def _endpoints(sources: Sources) -> Iterator[str]:
    """Requests of the last minute, by variant."""
    now = time.time()
    rates: list[tuple[Labels, float]] = []
    latencies: list[tuple[Labels, float]] = []
    errors: list[tuple[Labels, float]] = []
    for endpoint in sources.hosting.endpoints():
        if is_hidden(endpoint.name):
            continue
        for variant in endpoint.current.all_variants if endpoint.current else ():
            labels = {"endpoint": endpoint.name, "variant": variant.name}
            latency = requests(sources, endpoint, variant.name, "ModelLatency", now)
            failed = requests(sources, endpoint, variant.name, "InvocationModelErrors", now)
            rates.append((labels, latency.number / REQUEST_SECONDS))
            errors.append((labels, failed.total / REQUEST_SECONDS))
            if latency.number:
                latencies.append((labels, latency.total / latency.number / 1e6))
    yield from family("endpoint_requests_per_second", "In the last minute.", rates)
    yield from family("endpoint_errors_per_second", "Requests that the model failed.", errors)
    yield from family("endpoint_latency_seconds", "Mean of the model's answers.", latencies)


def _machine(sources: Sources) -> Iterator[str]:
    looks = sources.watch.looks()
    if looks:
        load = looks[-1].machine
        cpu, memory = load.cpu_percent / 100, load.memory_used_mib << 20
        yield from family("cpu_busy_ratio", "Of all processors.", [({}, cpu)])
        yield from family("memory_used_bytes", "Memory that programs use.", [({}, memory)])
    yield from family(
        "cache_bytes", "Input data that is kept for the next job.", [({}, sources.cache.size)]
    )
    problem = bool(sources.health()["object_store"]["problem"])
    yield from family("object_store_up", "Whether the object store answers.", [({}, not problem)])


def family(name: str, text: str, values: list[tuple[Labels, float]]) -> Iterator[str]:
    """One gauge with all its values; the name is without what all of them begin with."""
    if not values:
        return
    full = f"sagemaker_emulator_{name}"
    yield f"# HELP {full} {text}\n# TYPE {full} gauge\n"
    for labels, value in values:
        inner = ",".join(f'{key}="{text.translate(_ESCAPED)}"' for key, text in labels.items())
        yield (
            f"{full}{{{inner}}} {float(value):.15g}\n" if inner else f"{full} {float(value):.15g}\n"
        )
