from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from emulator.drivers.base import Fleet, OutputSink
from emulator.drivers.choice import Runtimes
from emulator.drivers.images.resolution import Presence
from emulator.model.plan import JobPlan, RuntimeTraits


@dataclass(frozen=True)
class Named:
    """A runtime that is only ever chosen."""

    name: str

    @property
    def traits(self) -> RuntimeTraits:
        return RuntimeTraits(self.name, "lo", "http://127.0.0.1")

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:
        raise NotImplementedError

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        raise NotImplementedError

    def launch(self, plan: JobPlan, sink: OutputSink) -> Fleet:
        raise NotImplementedError


class OneImage:
    """An engine that can have one image."""

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence:  # noqa: ARG002
        return Presence.THERE if image == "here:1" else Presence.UNKNOWN


PROCESS, DOCKER = Named("process"), Named("docker")


@pytest.mark.parametrize(
    ("image", "wanted"), [("here:1", DOCKER), ("nowhere:1", PROCESS), (None, PROCESS)]
)
def test_with_both_runtimes_the_image_decides(image: str | None, wanted: Named) -> None:
    chosen = Runtimes(PROCESS, DOCKER, OneImage()).of(image)
    assert chosen.runtime is wanted
    assert chosen.reason


def test_one_runtime_takes_every_image_and_has_nothing_to_explain() -> None:
    runtimes = Runtimes(PROCESS, None, reason="no Docker engine answers")
    assert runtimes.of("nowhere:1").runtime is PROCESS
    assert runtimes.of("nowhere:1").reason == ""
    assert runtimes.summary().reason == "no Docker engine answers"


def test_the_engine_is_what_most_jobs_get() -> None:
    both = Runtimes(PROCESS, DOCKER)
    assert both.summary().runtime is DOCKER
    assert both.all == (DOCKER, PROCESS)
