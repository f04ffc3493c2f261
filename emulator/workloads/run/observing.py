"""Where the output of a job's instances goes: its log, and who looks at it beside that."""

from __future__ import annotations

from collections.abc import Iterable

from emulator.model.workload import WorkloadSpec
from emulator.telemetry.logs.collector import LineCollector, job_lines
from emulator.workloads.run.collectives import CollectiveWatch, Links
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.measuring import JobMetrics

TAKEN_OVER_NOTICE = "The emulator was restarted; this instance went on meanwhile."


def collect_lines(
    context: RunContext, spec: WorkloadSpec, notes: Iterable[str], go_on: bool
) -> LineCollector:
    """The log of a job, which begins with `notes` and with what is done otherwise than asked.

    `go_on`: the one that an earlier emulator has begun; that has told all this.
    """
    lines = job_lines(context.logs, spec, context.clock.now, go_on)
    for note in (TAKEN_OVER_NOTICE,) if go_on else (*notes, *spec.kind.notes(spec)):
        lines.say_all(note)
    return lines


def watch_collectives(
    context: RunContext, spec: WorkloadSpec, links: Links, lines: LineCollector
) -> CollectiveWatch:
    """Sees whether the instances of a job talk to each other, and how."""
    watch = CollectiveWatch(
        spec, links.preset, context.idle_seconds, context.clock.monotonic, lines.say_all
    )
    lines.observe(watch)
    return watch


def measure(context: RunContext, spec: WorkloadSpec, lines: LineCollector) -> JobMetrics | None:
    """The metrics of a job, where any are kept."""
    if context.metrics is None:
        return None
    metrics = JobMetrics(
        context.metrics, spec, context.clock, context.system_metrics_seconds, lines.say_all
    )
    lines.observe(metrics)
    return metrics
