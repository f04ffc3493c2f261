"""The policy by example, then as laws that hold for any machine and any crowd of jobs."""

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.placement.scheduler import Running, Waiting, line, next_start, reserve

CAPACITY = {"gpu": 4, "millicore": 8000}


def job(name, gpu=0, *, arrival=0, runtime=100.0, priority=0, **more):
    return Waiting(name, {"gpu": gpu, **more}, runtime, arrival, priority)


def busy(name, gpu, ends_by, **more):
    return Running(name, {"gpu": gpu, **more}, ends_by)


def test_the_first_comes_first():
    waiting = [job("second", 1, arrival=2), job("first", 1, arrival=1)]
    chosen = next_start(CAPACITY, [], waiting, 0)
    assert chosen is not None
    assert chosen.job == "first"


def test_priority_goes_before_arrival():
    waiting = [job("early", 1, arrival=1), job("urgent", 1, arrival=2, priority=5)]
    assert [one.job for one in line(waiting)] == ["urgent", "early"]


def test_nothing_starts_where_nothing_fits():
    assert next_start(CAPACITY, [busy("a", 4, 50)], [job("b", 1)], 0) is None
    assert next_start(CAPACITY, [], [], 0) is None


def test_a_job_takes_all_it_needs_or_waits():
    waiting = [job("wide", 2, millicore=9000)]
    assert next_start(CAPACITY, [], waiting, 0) is None


def test_a_short_job_fills_the_gap_before_a_big_one():
    running = [busy("a", 2, 100)]
    big = job("big", 4, arrival=1)
    short = job("short", 2, arrival=2, runtime=100)
    assert next_start(CAPACITY, running, [big, short], 0) == short


def test_a_long_job_must_not_delay_the_big_one():
    running = [busy("a", 2, 100)]
    big = job("big", 4, arrival=1)
    long = job("long", 1, arrival=2, runtime=101)
    assert next_start(CAPACITY, running, [big, long], 0) is None


def test_a_long_job_may_take_what_the_big_one_leaves_over():
    running = [busy("a", 2, 100)]
    big = job("big", 3, arrival=1)
    long, other = job("long", 1, arrival=2, runtime=9999), job("other", 1, arrival=3, runtime=9999)
    assert next_start(CAPACITY, running, [big, long, other], 0) == long
    started = [*running, busy("long", 1, 9999)]
    assert next_start(CAPACITY, started, [big, other], 0) is None


def test_cpu_jobs_pass_a_big_gpu_job():
    running = [busy("a", 2, 100)]
    waiting = [job("big", 4, arrival=1), job("cpu", arrival=2, runtime=9999, millicore=4000)]
    chosen = next_start(CAPACITY, running, waiting, 0)
    assert chosen is not None
    assert chosen.job == "cpu"


def test_before_a_job_that_is_overdue_nothing_is_squeezed_in():
    running = [busy("overdue", 2, 10)]
    waiting = [job("big", 4, arrival=1), job("short", 1, arrival=2, runtime=1)]
    assert next_start(CAPACITY, running, waiting, 50) is None


def test_a_port_belongs_to_one_job():
    capacity = {**CAPACITY, "port-7777": 1}
    holder = Running("a", {"port-7777": 1}, 100)
    waiting = [job("b", arrival=1, **{"port-7777": 1}), job("c", arrival=2)]
    chosen = next_start(capacity, [holder], waiting, 0)
    assert chosen is not None
    assert chosen.job == "c"


def test_a_job_that_waits_for_other_peoples_gpus_holds_nobody_up():
    waiting = [job("big", 5, arrival=1), job("small", 1, arrival=2, runtime=9999)]
    assert reserve(CAPACITY, [], waiting[0], 0).at == math.inf
    assert next_start(CAPACITY, [], waiting, 0) == waiting[1]


@pytest.mark.parametrize(("gpus", "at"), [(1, 0), (2, 10), (3, 20), (4, 30)])
def test_a_reservation_is_when_enough_will_have_been_given_back(gpus, at):
    running = [busy("c", 1, 30), busy("a", 1, 10), busy("b", 1, 20)]
    assert reserve({"gpu": 4}, running, job("big", gpus), 0).at == at


# Laws


@dataclass(frozen=True)
class Plan:
    """A job of a simulation: its claim, and what it does in truth."""

    waiting: Waiting
    comes: float
    lasts: float


@dataclass
class World:
    capacity: dict
    plans: list
    now: float = 0.0
    running: list = field(default_factory=list)
    waiting: list = field(default_factory=list)
    started: dict = field(default_factory=dict)
    promised: dict = field(default_factory=dict)

    def play(self):
        """Run everything to its end; each law is checked at every moment something happens."""
        ends = {}
        coming = sorted(self.plans, key=lambda plan: plan.comes)
        for _ in range(4 * len(coming) + 4):
            moments = [*ends.values(), *(plan.comes for plan in coming)]
            if not moments:
                return
            self.now = min(moments)
            self.running = [one for one in self.running if ends[one.job] > self.now]
            ends = {name: end for name, end in ends.items() if end > self.now}
            self.waiting += [plan.waiting for plan in coming if plan.comes <= self.now]
            coming = [plan for plan in coming if plan.comes > self.now]
            for name in self.start_all():
                plan = next(plan for plan in self.plans if plan.waiting.job == name)
                ends[name] = self.now + plan.lasts
        raise AssertionError(f"these never ran: {[one.job for one in self.waiting]}")

    def start_all(self):
        names = []
        while chosen := next_start(self.capacity, self.running, self.waiting, self.now):
            self.waiting.remove(chosen)
            self.running.append(Running(chosen.job, chosen.needs, self.now + chosen.runtime))
            self.started[chosen.job] = self.now
            names.append(chosen.job)
            self.nothing_is_given_twice()
        self.the_first_in_line_is_never_put_off()
        self.nothing_is_idle_that_could_run()
        return names

    def nothing_is_given_twice(self):
        for name, amount in self.capacity.items():
            assert sum(one.holds.get(name, 0) for one in self.running) <= amount

    def the_first_in_line_is_never_put_off(self):
        for first in line(self.waiting)[:1]:
            at = reserve(self.capacity, self.running, first, self.now).at
            assert at <= self.promised.get(first.job, math.inf)
            self.promised[first.job] = at

    def nothing_is_idle_that_could_run(self):
        """Whoever waits does not fit, or would put off the first in line."""
        order = line(self.waiting)
        for one in order:
            used = [*(running.holds for running in self.running), one.needs]
            fits = all(
                sum(holds.get(name, 0) for holds in used) <= amount
                for name, amount in self.capacity.items()
            )
            if not fits:
                continue
            assert one is not order[0]
            also = [*self.running, Running(one.job, one.needs, self.now + one.runtime)]
            assert (
                reserve(self.capacity, also, order[0], self.now).at
                > reserve(self.capacity, self.running, order[0], self.now).at
            )


ONE_PRIORITY = st.just(0)


@st.composite
def worlds(draw, priorities=ONE_PRIORITY):
    capacity = {"gpu": draw(st.integers(1, 8)), "millicore": 4000, "port-7777": 1}
    plans = []
    for number in range(draw(st.integers(1, 12))):
        runtime = draw(st.integers(1, 50))
        waiting = Waiting(
            job=f"job-{number}",
            needs={
                "gpu": draw(st.integers(0, capacity["gpu"])),
                "millicore": draw(st.integers(0, 4)) * 1000,
                "port-7777": draw(st.integers(0, 1)),
            },
            runtime=runtime,
            arrival=number,
            priority=draw(priorities),
        )
        plans.append(Plan(waiting, 0, draw(st.integers(1, runtime))))
    comes = sorted(draw(st.lists(st.integers(0, 60), min_size=len(plans), max_size=len(plans))))
    return World(capacity, [replace(p, comes=c) for p, c in zip(plans, comes, strict=True)])


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_every_job_runs_and_every_law_holds(world):
    world.play()
    assert set(world.started) == {plan.waiting.job for plan in world.plans}


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_the_first_in_line_starts_by_the_time_it_was_first_promised(world):
    world.play()
    for name, promised in world.promised.items():
        assert world.started[name] <= promised


@given(worlds(priorities=st.integers(-2, 2)))
def test_priorities_starve_nobody_in_a_crowd_that_ends(world):
    # A more urgent job may put off the first in line: that promise is to equals only.
    world.the_first_in_line_is_never_put_off = lambda: None
    world.play()
    assert set(world.started) == {plan.waiting.job for plan in world.plans}


@given(st.integers(2, 8), st.integers(1, 30), st.integers(20, 60))
def test_a_stream_of_small_jobs_does_not_starve_a_big_one(gpus, runtime, count):
    """Two small jobs arrive at every moment, for ever as it were; the big one needs everything."""
    small = [
        Plan(Waiting(f"small-{n}", {"gpu": 1}, runtime, n), n // 2, runtime) for n in range(count)
    ]
    big = Plan(Waiting("big", {"gpu": gpus}, 5, 1), 0, 5)
    later = [
        replace(plan, waiting=replace(plan.waiting, arrival=n + 2))
        for n, plan in enumerate(small[1:])
    ]
    world = World({"gpu": gpus}, [small[0], big, *later])
    world.play()
    assert world.started["big"] <= runtime
