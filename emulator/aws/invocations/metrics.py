"""Metrics of endpoints: summed up in memory, written every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from emulator.model.errors import disk_full
from emulator.model.scope import Scope
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Series

NAMESPACE = "AWS/SageMaker"
_FLUSH_SECONDS = 5.0
_MICROSECONDS = 1e6

log = logging.getLogger(__name__)


class Samples(Protocol):
    """Where they are kept."""

    def put(self, scope: Scope, samples: list[tuple[Series, Sample]], /) -> None: ...


@dataclass
class _Sum:
    number: float = 0
    total: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, value: float) -> None:
        self.number += 1
        self.total += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)


class InvocationMetrics:
    """The namespace AWS/SageMaker, by EndpointName and VariantName. Any thread may use it."""

    def __init__(self, samples: Samples, clock: Callable[[], float] = time.time):
        self._samples = samples
        self._clock = clock
        self._lock = threading.Lock()
        self._sums: dict[tuple[Scope, str, str], dict[tuple[str, str], _Sum]] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def invoked(
        self,
        where: tuple[Scope, str, str],
        instances: int,
        status: int,
        model_seconds: float,
        all_seconds: float,
    ) -> None:
        """Count a request to a variant (scope, endpoint, variant).

        `status` is the model's; 0 where it gave no answer.
        """
        self.add(
            where,
            {
                ("Invocations", "None"): 1,
                ("InvocationsPerInstance", "None"): 1 / max(1, instances),
                ("Invocation4XXErrors", "None"): 400 <= status < 500,
                ("Invocation5XXErrors", "None"): status >= 500,
                ("InvocationModelErrors", "None"): not 200 <= status < 300,
                ("ModelLatency", "Microseconds"): model_seconds * _MICROSECONDS,
                ("OverheadLatency", "Microseconds"): max(0.0, all_seconds - model_seconds)
                * _MICROSECONDS,
            },
        )

    def add(self, where: tuple[Scope, str, str], values: dict[tuple[str, str], float]) -> None:
        """Count values, by name and unit; "" instead of a variant: of the endpoint alone."""
        with self._lock:
            sums = self._sums.setdefault(where, {})
            for series, value in values.items():
                sums.setdefault(series, _Sum()).add(value)

    def start(self) -> None:
        """Write what was counted, again and again, until `close`."""
        self._thread = threading.Thread(target=self._run, name="invocation-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the rest."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Write what was counted since the last time; what cannot be written is lost."""
        with self._lock:
            sums, self._sums = self._sums, {}
        now = self._clock()
        try:
            for (scope, endpoint, variant), by_series in sums.items():
                of_variant = (("VariantName", variant),) if variant else ()
                dimensions = (("EndpointName", endpoint), *of_variant)
                self._samples.put(
                    scope,
                    [
                        (
                            Series(NAMESPACE, name, dimensions, unit),
                            Sample(now, each.number, each.total, each.minimum, each.maximum),
                        )
                        for (name, unit), each in by_series.items()
                    ],
                )
        except Exception as error:
            if not (full := disk_full(error, "the metrics")):
                raise
            log.warning("metrics of endpoints are lost: %s", full)

    def _run(self) -> None:
        while not self._closing.wait(_FLUSH_SECONDS):
            try:
                self.flush()
            except Exception:  # the top of a thread: the next ones may be written
                log.exception("metrics of endpoints are lost")
