"""What is measured of a running job: values in its output, and what its instances use."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from threading import Event, Thread

from emulator.drivers.base import Fleet, Measured, Usage
from emulator.model.plan import JobPlan
from emulator.model.workload import WorkloadSpec
from emulator.placement.gpu_usage import read_usage
from emulator.telemetry.logs.metric_scan import Found, MetricScan
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Dimensions, MetricStore, Series
from emulator.workloads.run.clock import Clock

_log = logging.getLogger(__name__)


def dimensions(spec: WorkloadSpec) -> Dimensions:
    """What the metrics of a workload's own output are kept under (documented for training)."""
    return ((spec.kind.dimension, spec.name),)


class JobMetrics:
    """Measures one job from its launch to its end; an observer of its LineCollector."""

    def __init__(
        self,
        store: MetricStore,
        spec: WorkloadSpec,
        clock: Clock,
        every: float,
        say: Callable[[str], None],
    ):
        """`every` is the time between two looks at the instances, in seconds.

        `say` takes a line for the job's log.
        """
        self._store = store
        self._spec = spec
        self._clock = clock
        self._every = every
        self._say = say
        self._namespace = spec.kind.log_group
        self._series = [
            Series(self._namespace, name, dimensions(spec)) for name, _ in spec.metric_definitions
        ]
        self._scan = self._start_scan([regex for _, regex in spec.metric_definitions])
        self._ended = Event()
        self._sampler: Thread | None = None

    def feed(self, host: str, data: bytes) -> None:
        """The next bytes of an instance's output."""
        if scan := self._scan:
            scan.feed(host, data)

    def finish(self, host: str) -> None:
        """The instance has ended."""
        if scan := self._scan:
            scan.finish(host)

    def follow(self, fleet: Fleet, plan: JobPlan) -> None:
        """Look at the instances from time to time, if their runtime can tell what they use."""
        if isinstance(fleet, Measured):
            self._sampler = Thread(
                target=self._sample, args=(fleet, plan), name="usage", daemon=True
            )
            self._sampler.start()

    def close(self) -> None:
        """All values are in the store when this returns."""
        self._ended.set()
        scan, self._scan = self._scan, None
        if scan:
            scan.close()
            if scan.lost_bytes:
                self._say(
                    f"{scan.lost_bytes} bytes of output came too fast to be searched for metrics."
                )
        if self._sampler:
            self._sampler.join()

    def _start_scan(self, patterns: list[str]) -> MetricScan | None:
        if not patterns:
            return None
        try:
            return MetricScan(patterns, self._keep, self._dropped, self._clock.now)
        except OSError:
            _log.exception("%s: no metrics", self._spec.label)
            return None

    def _keep(self, found: list[Found]) -> None:
        for host, items in groupby(found, key=lambda item: item.host):
            self._store.put(
                self._spec.scope,
                [(self._series[item.definition], Sample.of(item.value, item.at)) for item in items],
                source=host,
            )

    def _dropped(self, definition: int) -> None:
        name = self._series[definition].name
        self._say(
            f"The regular expression of metric {name} takes too long; it is not applied any more."
        )

    def _sample(self, fleet: Measured, plan: JobPlan) -> None:
        try:
            earlier, then = fleet.usage(), self._clock.monotonic()
            while not self._ended.wait(self._every):
                usage, now = fleet.usage(), self._clock.monotonic()
                figures = {
                    host: _figures(usage[host], earlier.get(host), now - then) for host in usage
                }
                for instance in plan.instances:
                    if instance.host in figures:
                        figures[instance.host] |= {
                            "DiskUtilization": _disk(instance.scratch),
                            **_gpus(instance.gpus),
                        }
                self._put(figures)
                earlier, then = usage, now
        except Exception:  # noqa: BLE001 - the top of this thread
            _log.exception("%s: no more system metrics", self._spec.label)

    def _put(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        at = self._clock.now()
        self._store.put(
            self._spec.scope,
            [
                (
                    Series(
                        self._namespace, name, (("Host", f"{self._spec.name}/{host}"),), "Percent"
                    ),
                    Sample.of(value, at),
                )
                for host, values in figures.items()
                for name, value in values.items()
            ],
        )


def _figures(usage: Usage, earlier: Usage | None, seconds: float) -> dict[str, float]:
    """Percent: of one processor (100 for each that is busy), and of the memory."""
    figures = {"MemoryUtilization": 100 * usage.memory_bytes / usage.memory_limit}
    if earlier and seconds > 0:
        # Children that nobody waited for take their times along.
        work = max(usage.cpu_seconds - earlier.cpu_seconds, 0)
        figures["CPUUtilization"] = 100 * work / seconds
    return figures


def _disk(directory: Path) -> float:
    """Percent of the disk on which an instance's files lie."""
    disk = shutil.disk_usage(directory)
    return 100 * disk.used / (disk.used + disk.free)


def _gpus(uuids: tuple[str, ...]) -> dict[str, float]:
    """The sums over an instance's GPUs: up to 100 for each."""
    usage = read_usage(uuids).values()
    if not usage:
        return {}
    return {
        "GPUUtilization": sum(gpu.busy for gpu in usage),
        "GPUMemoryUtilization": sum(gpu.memory for gpu in usage),
    }
