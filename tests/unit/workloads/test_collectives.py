"""The watch over a job's ranks, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.drivers.base import Usage
from emulator.model.plan import Sharing
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.placement.nccl import Preset
from emulator.resources.training import training_job
from emulator.workloads.run.collectives import (
    LEAVE_SECONDS,
    SETTLED_SECONDS,
    CollectiveWatch,
    arrange_links,
)

RANKS = b"".join(
    b"algo-%d:9:9 [0] NCCL INFO ncclCommInitRank comm 0x1 rank %d nranks 2 cudaDev 0 "
    b"busId 1000 commId 0xab - Init COMPLETE\n" % (rank + 1, rank)
    for rank in (0, 1)
)
CHANNEL = b"algo-1:9:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via %s\n"
GAVE_UP = (
    b"[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, "
    b"NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600324 milliseconds before timing out.\n"
)


def spec(instances: int = 2) -> WorkloadSpec:
    request = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": instances},
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


class Workers:
    """A fleet whose instances have used so much processor time."""

    def __init__(self) -> None:
        self.seconds = {"algo-1": 0.0, "algo-2": 0.0}

    def usage(self) -> Mapping[str, Usage]:
        return {host: Usage(seconds, 1, 2) for host, seconds in self.seconds.items()}


class Watched:
    def __init__(self, preset: Preset = "network", idle: float = 100, instances: int = 2):
        self.now = 0.0
        self.said: list[str] = []
        self.workers = Workers()
        self.watch = CollectiveWatch(
            spec(instances), preset, idle, lambda: self.now, self.said.append
        )

    def look(self, seconds: float) -> str | None:
        """The verdict after so many seconds, looked for every second as a job does."""
        for _ in range(int(seconds)):
            self.now += 1
            if why := self.watch.trouble(self.workers):
                return why
        return None


def test_the_transport_is_reported_once_when_nccl_has_settled() -> None:
    job = Watched()
    job.watch.feed("algo-1", RANKS + CHANNEL % b"NET/Socket/0")
    assert job.said == []
    assert job.look(SETTLED_SECONDS + 1) is None
    job.watch.close()
    assert job.said == ["NCCL: algo-1 and algo-2 talk through sockets (NET)."]


def test_another_transport_than_the_presets_is_warned_of() -> None:
    job = Watched("fast")
    for byte in RANKS + CHANNEL % b"SHM/direct/direct":  # cut wherever the pipe cuts it
        job.watch.feed("algo-1", bytes([byte]))
    job.watch.close()
    assert job.said[0] == "NCCL: algo-1 and algo-2 talk through shared memory (SHM)."
    assert job.said[1].startswith("WARNING: the NCCL preset fast asks for GPU peer to peer")


def test_a_rank_that_gave_up_and_does_not_end_is_ended() -> None:
    job = Watched()
    job.watch.feed("algo-1", RANKS + CHANNEL % b"NET/Socket/0" + GAVE_UP)
    told = (
        "A collective of NCCL hangs: rank 0 on algo-1 waits for its peers through sockets (NET); "
        "ALLREDUCE number 7 did not end within 600 s."
    )
    assert job.said == [told]
    assert job.look(LEAVE_SECONDS - 1) is None
    assert job.look(1) == told


def test_instances_that_all_sleep_have_hung() -> None:
    job = Watched(idle=100)
    job.workers.seconds["algo-1"] = 5
    assert job.look(100) is None  # the first look is what later ones are compared with
    why = job.look(20)
    assert why
    assert "algo-1, algo-2 have been waiting for 100 s" in why


def test_one_instance_that_works_or_writes_keeps_its_peers_waiting() -> None:
    works, writes = Watched(idle=100), Watched(idle=100)
    for _ in range(30):
        works.workers.seconds["algo-2"] += 1
        assert works.look(10) is None
        writes.watch.feed("algo-1", b".")
        assert writes.look(10) is None


def test_a_lonely_instance_may_sleep_and_nobody_must_be_watched() -> None:
    assert Watched(idle=10, instances=1).look(1000) is None
    assert Watched(idle=0).look(1000) is None


def test_a_preset_comes_to_each_instance_with_gpus() -> None:
    lease = Lease("arn", "job", {"algo-1": ("GPU-a",), "algo-2": ("GPU-b",)})
    links = arrange_links(spec(), lease, "fast")
    assert links.sharing == Sharing(dev_shm=True, tmp=True, all_gpus_visible=True)
    assert links.environments["algo-2"]["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_nothing_is_shared_where_there_is_nobody_to_share_with() -> None:
    lease = Lease("arn", "job", {"algo-1": ("GPU-a",), "algo-2": ()})
    assert arrange_links(spec(), lease, "shm").sharing == Sharing()
    rehearsal = Lease("arn", "job", {"algo-1": ("GPU-a",), "algo-2": ("GPU-b",)}, rehearsal=True)
    links = arrange_links(spec(), rehearsal, "fast")
    assert (links.sharing, links.environments["algo-1"]) == (Sharing(), {})
