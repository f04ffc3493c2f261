import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from jobs_for_capacity import gpus, inventory, spec

from emulator.model.errors import CapacityError
from emulator.placement.device import Gpu
from emulator.placement.gpus import Inventory
from emulator.placement.instance_types import load_catalog
from emulator.placement.ledger import PRIORITY_TAG, Ledger, Rules, priority
from emulator.placement.machine import Machine

CATALOG = load_catalog()
LAPTOP = Machine(cores=2, memory_mib=8 * 1024)
SERVER = Machine(cores=64, memory_mib=512 * 1024)


def ledger(found=None, machine=SERVER, exclusive=lambda _: (), **rules):
    return Ledger(machine, CATALOG, Rules(**rules), exclusive, found or inventory(4))


def start(book, *specs, now=0.0):
    """Order jobs and start what may; the names of those that run."""
    for one in specs:
        book.order(one)
    names = []
    while lease := book.next_lease(now):
        book.hold(book.queue[lease.job].spec, lease, now)
        names.append(lease.name)
    return names


def test_jobs_get_gpus_of_their_own():
    book = ledger()
    assert start(book, spec("a"), spec("b", count=2)) == ["a", "b"]
    held = [lease.held for lease in book.leases.values()]
    assert held == [{"algo-1": ("GPU-0",)}, {"algo-1": ("GPU-1",), "algo-2": ("GPU-2",)}]


def test_a_job_that_does_not_fit_waits_for_what_another_gives_back():
    book = ledger(inventory(2))
    big, small = spec("big", "ml.p4d.24xlarge"), spec("small")
    assert start(book, small, big) == ["small"]
    assert book.drop(small.arn)
    assert start(book) == ["big"]
    assert book.leases[big.arn].held == {"algo-1": ("GPU-0", "GPU-1")}
    assert not book.drop(small.arn)


def test_a_small_machine_runs_a_job_of_two_instances():
    book = ledger(inventory(0), LAPTOP)
    assert start(book, spec("a", "ml.m5.xlarge", 2)) == ["a"]
    assert start(book, spec("b", "ml.m5.large")) == []


def test_a_small_machine_runs_sixty_four_instances_and_any_type():
    assert start(ledger(inventory(0), LAPTOP), spec("a", "ml.m5.xlarge", 64)) == ["a"]
    assert start(ledger(inventory(0), LAPTOP), spec("a", "ml.r8i.96xlarge")) == ["a"]


def test_small_cpu_jobs_run_beside_each_other():
    book = ledger(inventory(0), LAPTOP)
    jobs = [spec(name, "ml.m5.large") for name in ("a", "b", "c", "d", "e")]
    assert start(book, *jobs) == ["a", "b", "c", "d"]


def test_gpu_jobs_are_limited_by_gpus_alone():
    book = ledger(inventory(3), LAPTOP)
    jobs = [spec(name, "ml.p5.4xlarge") for name in ("a", "b", "c", "d")]
    assert start(book, spec("cpu", "ml.m5.24xlarge"), *jobs) == ["cpu", "a", "b", "c"]


def test_without_gpus_a_gpu_job_runs_on_the_cpu_and_its_log_says_so():
    book = ledger(inventory(0), LAPTOP)
    job = spec("a", "ml.g5.12xlarge")
    assert start(book, job, spec("b", "ml.g5.xlarge")) == ["a"]
    lease = book.leases[job.arn]
    assert lease.gpus == {"algo-1": ()}
    assert "no GPUs here" in lease.notes[0]


def test_with_a_broken_driver_a_gpu_job_fails_with_the_reason():
    book = ledger(Inventory(findings=("nvml: version mismatch. Reboot.",)))
    with pytest.raises(CapacityError, match=r"Unable to provision .*\(nvml: version mismatch"):
        book.order(spec("a"))
    assert start(book, spec("b", "ml.m5.xlarge")) == ["b"]


def test_a_driver_that_fails_for_a_moment_takes_no_gpu_away():
    book = ledger(inventory(1))
    start(book, spec("a"), spec("b"))
    book.update_inventory(Inventory(findings=("nvidia-smi did not answer",)))
    assert book.reject_infeasible() == {}
    assert len(book.inventory.gpus) == 1


def test_a_gpu_that_falls_off_the_bus_is_not_counted_as_free():
    book = ledger(inventory(2))
    start(book, spec("a"))
    book.update_inventory(Inventory(gpus(2)[1:], ("GPU 0: GPU is lost",)))
    assert start(book, spec("b"), spec("c")) == ["b"]
    assert book.leases[spec("b").arn].held == {"algo-1": ("GPU-1",)}


def test_a_job_that_the_machine_lost_the_gpus_for_leaves_the_queue():
    book = ledger(inventory(2), gpu_policy="exact")
    waiting = spec("b", "ml.g5.xlarge", 2)
    start(book, spec("a"), waiting)
    book.update_inventory(inventory(1))
    (reason,) = book.reject_infeasible().values()
    assert "this machine has 1 GPU" in str(reason)
    assert book.queue == {}


def test_gpus_that_others_compute_on_are_not_given_out():
    book = ledger(inventory(4, busy=[0, 2]))
    assert book.others_compute
    job = spec("a", "ml.p4d.24xlarge")
    start(book, job)
    assert book.leases[job.arn].held == {"algo-1": ("GPU-1", "GPU-3")}


def test_gpus_that_others_compute_on_are_given_out_if_the_user_says_so():
    book = ledger(inventory(2, busy=[0]), use_busy_gpus=True)
    job = spec("a", "ml.p4d.24xlarge")
    start(book, job)
    assert book.leases[job.arn].held == {"algo-1": ("GPU-0", "GPU-1")}


def test_where_others_use_every_gpu_a_job_waits_for_them():
    book = ledger(inventory(1, busy=[0]))
    assert start(book, spec("a")) == []
    book.update_inventory(inventory(1))
    assert start(book) == ["a"]


def test_the_processes_of_a_job_are_not_those_of_others():
    book = ledger(inventory(1))
    job = spec("a")
    start(book, job)
    book.update_inventory(inventory(1, busy=[0]))
    assert not book.others_compute
    book.drop(job.arn)
    assert start(book, spec("b")) == ["b"]


def test_who_waited_before_keeps_his_place():
    book = ledger(inventory(1))
    first, second, new = spec("first"), spec("second"), spec("new")
    book.expect([first, second])
    assert start(book, new) == ["new"]
    assert start(book, second, first) == []
    book.drop(new.arn)
    assert start(book) == ["first"]
    book.drop(first.arn)
    assert start(book) == ["second"]


def test_limits_of_the_user():
    book = ledger(max_jobs=2)
    assert start(book, spec("a"), spec("b", "ml.m5.large"), spec("c")) == ["a", "b"]
    assert start(ledger(max_gpus=1), spec("a"), spec("b")) == ["a"]


def test_a_limit_of_gpus_is_of_their_number_and_not_of_the_first_ones():
    job = spec("a", "ml.p4d.24xlarge")
    for policy in ("scale", "shared"):
        # Somebody else computes on the first two of four.
        book = ledger(inventory(4, busy=[0, 1]), max_gpus=2, gpu_policy=policy)
        assert start(book, job, spec("b")) == ["a"]
        assert book.leases[job.arn].held == {"algo-1": ("GPU-2", "GPU-3")}
        assert len(book.inventory.gpus) == 4
        none = ledger(max_gpus=0, gpu_policy=policy)
        assert start(none, job) == ["a"]
        assert none.leases[job.arn].held == {"algo-1": ()}
    with pytest.raises(CapacityError):
        ledger(max_gpus=3, gpu_policy="exact").order(spec("c", "ml.g5.12xlarge"))


def test_what_only_one_job_may_have():
    book = ledger(exclusive=lambda one: ["port-7777"] if len(one.hosts) > 1 else [])
    jobs = [spec("a", count=2), spec("b", count=2), spec("c")]
    assert start(book, *jobs) == ["a", "c"]
    book.drop(jobs[0].arn)
    assert start(book) == ["b"]


def test_priority_is_a_tag():
    assert priority(spec("a", tags=[("team", "x"), (PRIORITY_TAG, "7")])) == 7
    assert priority(spec("a", tags=[(PRIORITY_TAG, "soon")])) == 0
    book = ledger(inventory(1))
    first = spec("first")
    urgent = spec("urgent", tags=[(PRIORITY_TAG, "1")])
    assert start(book, first) == ["first"]
    start(book, spec("second"), urgent)
    book.drop(first.arn)
    assert start(book) == ["urgent"]


def test_a_short_job_passes_a_big_one_that_it_does_not_delay():
    book = ledger(inventory(2))
    start(book, spec("a", runtime=1000), spec("big", "ml.p4d.24xlarge"), now=0)
    assert start(book, spec("long", runtime=1001), now=0) == []
    assert start(book, spec("short", runtime=900), now=0) == ["short"]


def test_a_heterogeneous_job_gets_gpus_where_its_types_have_them():
    book = ledger(inventory(4))
    job = spec("a", groups=[("ml.p4d.24xlarge", 1), ("ml.m5.xlarge", 2)])
    start(book, job)
    lease = book.leases[job.arn]
    assert [len(gpus_) for gpus_ in lease.held.values()] == [4, 0, 0]
    assert lease.notes == (
        "ml.p4d.24xlarge has 8 GPUs; algo-1 gets 4 GPUs here (GPU policy scale).",
        "algo-1: " + ", ".join(f"GPU-{n} (NVIDIA L40S, 46068 MiB)" for n in range(4)) + ".",
    )


def test_instances_that_share_a_gpu_are_told_apart_from_one_that_does_not():
    shared, alone = spec("shared", count=2), spec("alone")
    book = ledger(inventory(2), gpu_policy="shared")
    start(book, shared, alone)
    assert book.leases[shared.arn].shared
    assert not book.leases[alone.arn].shared
    assert len(book.leases[shared.arn].holders) == 1


def test_slices_of_one_gpu_count_as_one_for_nccl():
    def slices(*parents):
        found = (Gpu(f"MIG-{n}", "MIG", 1, n, parent) for n, parent in enumerate(parents))
        return Inventory(tuple(found), source="nvml")

    for parents, together in ((("GPU-a", "GPU-a"), True), (("GPU-a", "GPU-b"), False)):
        book, job = ledger(slices(*parents)), spec("job", count=2)
        start(book, job)
        assert len(book.leases[job.arn].holders) == 2
        assert book.leases[job.arn].shared is together
    # CDI does not say which GPU a slice is of.
    assert slices("", "").meet_on_one({"algo-1": ("MIG-0",), "algo-2": ("MIG-1",)})


def test_a_rehearsal_says_so():
    job = spec("a")
    book = ledger(inventory(1, rehearsal=True))
    start(book, job)
    lease = book.leases[job.arn]
    assert lease.rehearsal
    assert lease.gpus == {"algo-1": ()}
    assert "EMULATOR_GPU_INVENTORY" in lease.notes[-1]


def test_an_unknown_type_can_never_run():
    with pytest.raises(CapacityError, match="not a known type"):
        ledger().order(spec("a", "ml.none.large"))


class Workstation(RuleBasedStateMachine):
    """Jobs of every kind come and go in any order, others use GPUs: the laws of leases hold."""

    def __init__(self):
        super().__init__()
        self.book = ledger(inventory(4), LAPTOP)
        self.specs = {}
        self.now = 0.0

    @rule(
        type_=st.sampled_from(["ml.g5.xlarge", "ml.p4d.24xlarge", "ml.m5.xlarge", "ml.local.3gpu"]),
        count=st.integers(1, 4),
        runtime=st.integers(1, 5000),
    )
    def arrives(self, type_, count, runtime):
        one = spec(f"job-{len(self.specs)}", type_, count, runtime=runtime)
        self.specs[one.arn] = one
        self.book.order(one)
        start(self.book, now=self.now)

    @rule(data=st.data())
    def ends(self, data):
        if self.book.leases:
            self.book.drop(data.draw(st.sampled_from(sorted(self.book.leases))))
            start(self.book, now=self.now)

    @rule(busy=st.sets(st.integers(0, 3)))
    def others_come_and_go(self, busy):
        self.book.update_inventory(inventory(4, busy))
        start(self.book, now=self.now)

    @rule(seconds=st.integers(1, 2000))
    def time_passes(self, seconds):
        self.now += seconds
        start(self.book, now=self.now)

    @invariant()
    def no_gpu_is_held_twice(self):
        held = [
            uuid
            for lease in self.book.leases.values()
            for uuids in lease.held.values()
            for uuid in uuids
        ]
        assert len(held) == len(set(held))

    @invariant()
    def every_instance_has_its_gpus_or_the_job_waits(self):
        for arn, lease in self.book.leases.items():
            one = self.specs[arn]
            assert list(lease.held) == [host.name for host in one.hosts]
            most = CATALOG.find(one.hosts[0].instance_type).gpu_count
            counts = {len(uuids) for uuids in lease.held.values()}
            assert len(counts) == 1
            assert (counts == {0}) == (most == 0)
            assert max(counts) <= most

    @invariant()
    def an_idle_machine_has_no_queue(self):
        if not self.book.leases and not self.book.others_compute:
            assert not self.book.queue


Workstation.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestWorkstation = Workstation.TestCase


def reasons(book):
    return {one.job.rpartition("/")[2]: one.reason for one in book.line()}


def test_the_line_says_what_each_job_lacks_and_whom_it_is_behind():
    book = ledger(inventory(2))
    start(book, spec("a"), spec("b", count=2), spec("c", "ml.p4d.24xlarge"))
    assert reasons(book) == {
        "b": "needs 2 GPUs, 1 free",
        "c": "needs 2 GPUs, 1 free; behind b",
    }
    assert [one.place for one in book.line()] == [1, 2]


def test_the_line_names_cores_places_and_ports():
    book = ledger(inventory(0), LAPTOP)
    start(book, spec("a", "ml.m5.xlarge"), spec("b", "ml.m5.4xlarge"))
    assert reasons(book) == {"b": "needs 2 cores, 1 free, needs 8.0 GiB of memory, 4.0 free"}
    book = ledger(max_jobs=1)
    start(book, spec("a"), spec("b"))
    assert reasons(book) == {"b": "as many jobs run as may (EMULATOR_MAX_JOBS)"}
    book = ledger(exclusive=lambda _: ["port 22"])
    start(book, spec("a"), spec("b"))
    assert reasons(book) == {"b": "needs port 22, which another job uses"}


def test_a_job_that_would_delay_the_first_says_so():
    book = ledger(inventory(2))
    start(book, spec("a", runtime=100), spec("big", count=2), spec("long", runtime=10_000))
    assert reasons(book)["long"] == "fits now, but would delay big"


def test_a_job_that_is_moved_up_starts_before_all_others():
    book = ledger(inventory(1))
    first, urgent = spec("first", tags=[(PRIORITY_TAG, "5")]), spec("urgent")
    start(book, spec("runs"))
    start(book, first, spec("second"), urgent)
    assert book.move_first(urgent.arn)
    assert not book.move_first("arn:of:nobody")
    assert [one.job.rpartition("/")[2] for one in book.line()] == ["urgent", "first", "second"]
    book.drop(spec("runs").arn)
    assert start(book) == ["urgent"]
