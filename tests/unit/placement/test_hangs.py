import pytest

from emulator.placement.hangs import MARKS, Hang, parse_hang

NCCL_20 = (
    "[E ProcessGroupNCCL.cpp:474] [Rank 1] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for "
    "600324 milliseconds before timing out."
)
NCCL_25 = (
    "[rank3]:[E1105 09:10:11.123456789 ProcessGroupNCCL.cpp:616] [Rank 3] Watchdog caught "
    "collective operation timeout: WorkNCCL(SeqNum=12, OpType=_ALLGATHER_BASE, NumelIn=4, "
    "NumelOut=16, Timeout(ms)=1500) ran for 1502 milliseconds before timing out."
)
NCCL_27 = (
    "[rank0]:[E511 10:00:00.000000000 ProcessGroupNCCL.cpp:683] [PG ID 0 PG GUID 0(default_pg) "
    "Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=BROADCAST, "
    "NumelIn=1, NumelOut=1, Timeout(ms)=10000) ran for 10010 milliseconds before timing out."
)
HEARTBEAT = (
    "[rank0]:[F511 10:00:00.000000000 ProcessGroupNCCL.cpp:1554] [PG ID 0 PG GUID 0(default_pg) "
    "Rank 0] [PG ID 0 PG GUID 0(default_pg) Rank 0] Heartbeat monitor timed out! Process will be "
    "terminated after dumping debug info."
)
GLOO = (
    "[rank0]: RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] "
    "Timed out waiting 3000ms for recv operation to complete"
)


@pytest.mark.parametrize(
    ("line", "hang"),
    [
        (NCCL_20, Hang("NCCL", 1, "ALLREDUCE number 7 did not end within 600 s")),
        (NCCL_25, Hang("NCCL", 3, "_ALLGATHER_BASE number 12 did not end within 1.5 s")),
        (NCCL_27, Hang("NCCL", 0, "BROADCAST number 2 did not end within 10 s")),
        (HEARTBEAT, Hang("NCCL", 0, "its watchdog thread does not answer any more")),
        (GLOO, Hang("gloo", 0, "nothing could be received within 3 s")),
        (GLOO.replace("[rank0]: ", ""), Hang("gloo", None, "nothing could be received within 3 s")),
    ],
)
def test_ranks_that_gave_up(line, hang):
    assert any(mark in line.encode() for mark in MARKS)
    assert parse_hang(line) == hang


@pytest.mark.parametrize(
    "line", ["epoch 3: the request timed out", "Watchdog started", "NCCL INFO Init COMPLETE", ""]
)
def test_other_lines_say_nothing(line):
    assert parse_hang(line) is None
