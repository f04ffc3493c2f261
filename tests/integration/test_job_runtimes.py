# ruff: noqa: ARG002 - the parts here do not need all they are told
"""The runtime of a job: chosen once, when it is accepted."""

from __future__ import annotations

from pathlib import Path

from job_bench import Bench, LocalRuntime

from emulator.drivers.choice import Runtimes
from emulator.drivers.images.resolution import Presence
from emulator.model.lifecycle import Phase
from emulator.model.plan import RuntimeTraits

ONE_AT_A_TIME = {"HyperParameters": {"port": "the only one"}}


class Containers(LocalRuntime):
    traits = RuntimeTraits("docker", "lo", "http://127.0.0.1:4570")


class Registry:
    """It has every image, until it does not answer any more."""

    answers = True

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence:
        return Presence.PULLABLE if self.answers else Presence.UNKNOWN


def runtimes(registry: Registry) -> Runtimes:
    return Runtimes(LocalRuntime(), Containers(), registry)


def test_a_registry_that_falls_silent_moves_no_job_onto_the_host(tmp_path: Path) -> None:
    registry = Registry()
    bench = Bench(tmp_path, runtimes=runtimes(registry))
    try:
        gate = tmp_path / "gate"
        wait = f"until [ -e {gate} ]; do sleep 0.05; done"
        bench.submit(wait, "first", **ONE_AT_A_TIME)
        bench.until(Phase.RUNNING, "first")
        bench.submit("true", "second", **ONE_AT_A_TIME)
        bench.until(Phase.PENDING, "second")
        registry.answers = False
        bench.submit("true", "third", **ONE_AT_A_TIME)
        gate.touch()
        ended = [bench.ended(name) for name in ("first", "second", "third")]
    finally:
        bench.supervisor.shutdown()
    assert [job.runtime for job in ended] == ["docker", "docker", "local"]
    told = [bench.lines(name=name)[0] for name in ("first", "second", "third")]
    assert [line.split(":")[0] for line in told] == [
        "Runtime docker",
        "Runtime docker",
        "Runtime local",
    ]


def test_a_restart_does_not_choose_again(tmp_path: Path) -> None:
    registry = Registry()
    first = Bench(tmp_path, runtimes=runtimes(registry))
    first.submit("sleep 1000", "first", **ONE_AT_A_TIME)
    first.until(Phase.RUNNING, "first")
    first.submit("true", "second", **ONE_AT_A_TIME)
    first.until(Phase.PENDING, "second")
    first.supervisor.shutdown()
    registry.answers = False
    second = Bench(tmp_path, runtimes=runtimes(registry))
    try:
        second.supervisor.recover()
        assert second.ended("second").runtime == "docker"
        assert second.lines(name="second")[0].startswith("Runtime docker: ")
    finally:
        second.supervisor.shutdown()
