"""Threads that wait for GPUs, with a real database. Nothing here sleeps: a job that must
wait says so, and is woken by what it waits for."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event

import pytest
from jobs_for_capacity import inventory, spec

from emulator.database import Database
from emulator.model.errors import CapacityError, InternalServerError
from emulator.placement.gpu_capacity import GPU_LOOK_SECONDS, GpuCapacity
from emulator.placement.instance_types import load_catalog
from emulator.placement.leases import MIGRATION, Lease, LeaseBook
from emulator.placement.ledger import Rules
from emulator.placement.machine import Machine

PATIENCE = 60
SERVER = Machine(cores=64, memory_mib=512 * 1024)


@dataclass
class Place:
    """A machine with GPUs, the emulator's capacity on it, and people who call."""

    database: Database
    found: object
    now: float = 1000.0
    looks: int = 0
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    cancels: list = field(default_factory=list)

    def __post_init__(self):
        self.book = LeaseBook(self.database)
        self.capacity = self.make()

    def make(self, **rules):
        return GpuCapacity(
            self.book, self.look, SERVER, load_catalog(), Rules(**rules), clock=lambda: self.now
        )

    def look(self):
        self.looks += 1
        return self.found

    def queue(self, one):
        """Ask for a job that must wait; its future, and what cancels it."""
        waits, cancelled = Event(), Event()
        self.cancels.append(cancelled)
        future = self.threads.submit(self.capacity.acquire, one, cancelled, waits.set)
        assert waits.wait(PATIENCE)
        return future, cancelled

    def get(self, one):
        """Ask for a job that can start at once."""
        lease = self.capacity.acquire(one, Event(), lambda: pytest.fail("it had to wait"))
        assert lease is not None
        return lease


@pytest.fixture
def place(tmp_path):
    place = Place(Database(tmp_path / "state.db", [MIGRATION]), inventory(2))
    yield place
    for cancel in place.cancels:
        cancel.set()
    place.capacity.wake()
    place.threads.shutdown()


def test_a_job_gets_its_gpus_at_once_and_the_list_shows_them(place):
    lease = place.get(spec("train", count=2))
    assert lease.gpus == {"algo-1": ("GPU-0",), "algo-2": ("GPU-1",)}
    assert place.capacity.holdings() == {
        "gpus": [
            {
                "uuid": f"GPU-{n}",
                "name": "NVIDIA L40S",
                "memory_mib": 46068,
                "job": "train",
                "instance": f"algo-{n + 1}",
            }
            for n in (0, 1)
        ]
    }
    place.capacity.release(lease)
    assert [(gpu["job"], gpu["instance"]) for gpu in place.capacity.holdings()["gpus"]] == [
        (None, None),
        (None, None),
    ]


def test_a_waiting_job_starts_when_another_gives_back(place):
    first = place.get(spec("first", count=2))
    future, _ = place.queue(spec("second"))
    assert not future.done()
    place.capacity.release(first)
    assert future.result(PATIENCE).gpus == {"algo-1": ("GPU-0",)}


def test_a_second_release_takes_nothing_from_the_next_job(place):
    first = place.get(spec("first", count=2))
    place.capacity.release(first)
    place.get(spec("second", count=2))
    place.capacity.release(first)
    assert {holding.name for holding in place.book.holdings()} == {"second"}


def test_what_one_job_leaves_to_another_is_never_free(place):
    first = place.get(spec("first", count=2))
    waiting, _ = place.queue(spec("waiting"))
    second = place.capacity.pass_on(first, spec("second", count=2))
    assert (second.name, second.gpus) == ("second", first.gpus)
    assert {gpu["job"] for gpu in place.capacity.holdings()["gpus"]} == {"second"}
    place.capacity.release(first)
    assert not waiting.done(), "it is the second one's now"
    restarted = place.make()
    assert restarted.recover([spec("second", count=2)])[second.job].gpus == first.gpus
    place.capacity.release(second)
    assert waiting.result(PATIENCE).gpus == {"algo-1": ("GPU-0",)}


def test_a_lease_that_cannot_be_passed_on_stays_as_it_is(place):
    first = place.get(spec("first"))
    place.book.open(Lease("arn:elsewhere", "elsewhere", {"algo-1": ("GPU-1",)}), now=1)
    larger = replace(first, held={"algo-1": ("GPU-0", "GPU-1")})
    with pytest.raises(InternalServerError, match="cannot be leased"):
        place.capacity.pass_on(larger, spec("second"))
    assert {holding.name for holding in place.book.holdings()} == {"first", "elsewhere"}


def test_a_cancelled_job_leaves_the_queue_and_lets_the_next_one_in(place):
    holder = place.get(spec("holder"))
    big, stop = place.queue(spec("big", count=2))
    after, _ = place.queue(spec("after", runtime=7200))
    stop.set()
    place.capacity.wake()
    assert big.result(PATIENCE) is None
    assert after.result(PATIENCE).gpus == {"algo-1": ("GPU-1",)}
    place.capacity.release(holder)
    assert {holding.name for holding in place.book.holdings()} == {"after"}


def test_a_job_that_can_never_run_fails_before_it_waits(place):
    capacity = place.make(gpu_policy="exact")
    with pytest.raises(CapacityError, match="Unable to provision requested ML compute capacity"):
        capacity.acquire(spec("a", "ml.p4d.24xlarge"), Event())
    assert capacity.acquire(spec("b"), Event()) is not None


def test_a_waiting_job_fails_when_the_machine_loses_the_gpus_for_it(place):
    place.get(spec("holder"))
    future, _ = place.queue(spec("pair", count=2))
    place.found = inventory(1)
    with pytest.raises(CapacityError):
        # The look that a new job brings tells of the loss.
        place.capacity.acquire(spec("another", count=2), Event())
    with pytest.raises(CapacityError):
        future.result(PATIENCE)


def test_the_end_of_somebody_elses_process_is_noticed(place):
    place.found = inventory(2, busy=[0, 1])
    future, _ = place.queue(spec("a"))
    place.found = inventory(2, busy=[1])
    place.now += GPU_LOOK_SECONDS
    place.capacity.wake()
    assert future.result(PATIENCE).gpus == {"algo-1": ("GPU-0",)}


def test_a_lease_that_the_database_refuses_is_the_failure_of_that_job_alone(place):
    place.book.open(Lease("arn:elsewhere", "elsewhere", {"algo-1": ("GPU-0",)}), now=1)
    with pytest.raises(InternalServerError, match="cannot be leased"):
        place.capacity.acquire(spec("a"), Event())
    place.book.close("arn:elsewhere", now=2)
    assert place.get(spec("b")).gpus == {"algo-1": ("GPU-0",)}


def test_after_a_crash_running_jobs_keep_their_gpus_and_lost_ones_give_theirs_back(place):
    kept, lost, waiting = spec("kept"), spec("lost"), spec("waiting", count=2)
    held = place.get(kept)
    place.get(lost)
    # Another program opens the same database; this one is gone.
    place.capacity = place.make()
    leases = place.capacity.recover([kept])
    assert {arn: lease.gpus for arn, lease in leases.items()} == {kept.arn: held.gpus}
    assert place.get(lost).gpus == {"algo-1": ("GPU-1",)}
    future, _ = place.queue(waiting)
    place.capacity.release(leases[kept.arn])
    place.capacity.release(Lease(lost.arn, "lost"))
    assert set(future.result(PATIENCE).holders) == {"GPU-0", "GPU-1"}


def test_a_recovered_job_without_gpus_still_takes_its_place(place):
    running = spec("running", "ml.m5.large")
    place.capacity = place.make(max_jobs=1)
    leases = place.capacity.recover([running])
    future, _ = place.queue(spec("next"))
    place.capacity.release(leases[running.arn])
    assert future.result(PATIENCE).gpus == {"algo-1": ("GPU-0",)}


def test_jobs_without_gpus_do_not_look_at_the_gpus(place):
    before = place.looks
    place.get(spec("a", "ml.m5.large"))
    assert place.looks == before


def test_a_crowd_of_jobs_never_holds_a_gpu_twice(place):
    """The database would refuse it; here every job also ends well."""
    place.found = inventory(4)

    def run(number):
        lease = place.capacity.acquire(spec(f"job-{number}", count=1 + number % 3), Event())
        assert lease is not None
        held = {holding.gpu for holding in place.book.holdings() if holding.job == lease.job}
        assert held == set(lease.holders)
        place.capacity.release(lease)
        return len(held)

    counts = list(place.threads.map(run, range(40), timeout=PATIENCE * 2))
    assert counts == [1 + number % 3 for number in range(40)]
    assert place.book.holdings() == ()


def test_a_job_that_fails_while_it_begins_to_wait_is_given_nothing_later(place):
    first = place.get(spec("first", count=2))

    def full_disk():
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        place.capacity.acquire(spec("second", count=2), Event(), full_disk)
    place.capacity.release(first)
    assert place.book.holdings() == ()
    place.get(spec("third", count=2))


def test_what_such_a_job_was_given_meanwhile_is_given_back(place):
    first = place.get(spec("first", count=2))

    def freed_then_failed():
        place.capacity.release(first)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        place.capacity.acquire(spec("second", count=2), Event(), freed_then_failed)
    assert place.book.holdings() == ()


class FullDisk(LeaseBook):
    """A book whose n-th change, or every change from the n-th on, finds the disk full."""

    def __init__(self, database, fails):
        super().__init__(database)
        self.changes = 0
        self.fails = fails

    def _change(self):
        self.changes += 1
        if self.fails(self.changes):
            raise sqlite3.OperationalError("database or disk is full")

    def open(self, *arguments, **more):
        self._change()
        super().open(*arguments, **more)

    def close(self, *arguments):
        self._change()
        super().close(*arguments)


def lead_a_life(place):
    """Three jobs on all GPUs; the second leaves its own to the third."""

    def get(one):
        try:
            return place.capacity.acquire(one, Event(), lambda: pytest.fail("it had to wait"))
        except InternalServerError:
            return None

    if lease := get(spec("first", count=2)):
        place.capacity.release(lease)
    if lease := get(spec("second", count=2)):
        with suppress(InternalServerError):
            lease = place.capacity.pass_on(lease, spec("third", count=2))
        place.capacity.release(lease)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_full_disk_at_any_step_leases_no_gpu_to_nobody(place, number, for_good):
    place.book = FullDisk(place.database, lambda n: n >= number if for_good else n == number)
    place.capacity = place.make()
    lead_a_life(place)
    place.book.fails = lambda _: False
    lease = place.get(spec("last", count=2))
    assert {gpu["job"] for gpu in place.capacity.holdings()["gpus"]} == {"last"}
    place.capacity.release(lease)
    assert {gpu["job"] for gpu in place.capacity.holdings()["gpus"]} == {None}
    assert place.book.holdings() == ()


def test_the_list_shows_gpus_as_free_whose_release_is_not_recorded_yet(place):
    place.book = FullDisk(place.database, lambda number: number == 2)
    place.capacity = place.make()
    place.capacity.release(place.get(spec("one", count=2)))
    assert {gpu["job"] for gpu in place.capacity.holdings()["gpus"]} == {None}


def test_a_job_whose_type_has_left_the_settings_is_found_again(place):
    own = {"ml.mine.large": {"vcpu": 2, "memory_gib": 8, "gpu_count": 1}}
    with_type = GpuCapacity(
        place.book, place.look, SERVER, load_catalog(own), Rules(), clock=lambda: place.now
    )
    one = spec("one", type_="ml.mine.large")
    lease = with_type.acquire(one, Event())
    found = place.make().recover([one])
    assert found[one.arn].held == lease.held


def test_a_waiting_job_whose_type_has_left_the_settings_keeps_nobody_from_starting(place):
    again = place.make()
    one = spec("one", type_="ml.mine.large")
    assert again.recover([], [one, spec("two")]) == {}
    with pytest.raises(CapacityError, match=r"ml\.mine\.large"):
        again.acquire(one, Event())
    assert again.acquire(spec("two"), Event())
