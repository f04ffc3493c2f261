from pathlib import Path

import pytest
from jobs_for_capacity import spec

from emulator.model.errors import ClientError
from emulator.placement.nccl import (
    PRESET_TAG,
    PRESETS,
    Link,
    Transports,
    choose_preset,
    environment,
    parse_link,
    sharing,
)

RECORDED = Path(__file__).parent / "recorded"

ALWAYS = {
    "NCCL_DEBUG": "INFO",
    "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": "/opt/ml/output/data/nccl_trace_rank_",
}


def read(name):
    transports = Transports()
    for line in (RECORDED / name).read_text("utf-8").splitlines():
        transports.read(line)
    return transports


def test_network_makes_instances_strangers():
    assert environment("network", "job-1", "algo-2", ["GPU-1"]) == {
        **ALWAYS,
        "NCCL_HOSTID": "job-1-algo-2",
        "NCCL_NET": "Socket",
        "NCCL_IB_DISABLE": "1",
        "NCCL_MNNVL_ENABLE": "0",
    }


def test_shm_makes_them_neighbours_without_peer_to_peer():
    assert environment("shm", "job-1", "algo-2", ["GPU-1"]) == {
        **ALWAYS,
        "NCCL_HOSTID": "job-1",
        "NCCL_P2P_DISABLE": "1",
        "NCCL_CUMEM_HOST_ENABLE": "0",
    }


def test_fast_names_the_gpus_that_are_an_instances_own():
    variables = environment("fast", "job-1", "algo-2", ["GPU-1", "GPU-2"])
    assert variables == {
        **ALWAYS,
        "NCCL_HOSTID": "job-1",
        "NCCL_CUMEM_ENABLE": "1",
        "NCCL_IPC_USE_ABSTRACT_SOCKET": "0",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    }


def test_hosts_that_share_a_gpu_never_have_the_same_id():
    ids = {environment("shared-gpu", "j", f"algo-{n}", ["GPU-0"])["NCCL_HOSTID"] for n in (1, 2)}
    assert len(ids) == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_an_instance_without_gpus_is_told_nothing(preset):
    assert environment(preset, "j", "algo-1", []) == {}


def test_what_instances_must_share():
    shares = {preset: sharing(preset) for preset in PRESETS}
    assert [name for name, one in shares.items() if one.dev_shm] == ["shm", "fast"]
    assert [name for name, one in shares.items() if one.tmp] == ["fast"]
    assert [name for name, one in shares.items() if one.all_gpus_visible] == ["fast"]


def with_environment(one, value):
    object.__setattr__(one, "environment", {"EMULATOR_NCCL_PRESET": value})
    return one


def test_the_preset_comes_from_environment_then_tag_then_setting():
    tagged = spec("a", tags=[(PRESET_TAG, "shm")])
    assert choose_preset("network", spec("a"), gpus_shared=False) == "network"
    assert choose_preset("network", tagged, gpus_shared=False) == "shm"
    assert choose_preset("network", with_environment(tagged, "fast"), gpus_shared=False) == "fast"


def test_sharing_a_gpu_overrules_every_wish():
    wish = spec("a", tags=[(PRESET_TAG, "fast")])
    assert choose_preset("shm", wish, gpus_shared=True) == "shared-gpu"


def test_an_unknown_preset_is_the_users_mistake():
    with pytest.raises(ClientError, match=r"no NCCL preset warp\. Choose one of network, shm"):
        choose_preset("network", spec("a", tags=[(PRESET_TAG, "warp")]), gpus_shared=True)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (
            "Channel 00/0 : 15[7] -> 6[6] [send] via NET/Socket/3",
            Link(15, 6, "NET", "NET/Socket/3"),
        ),
        ("Channel 07 : 2[6] -> 3[7] via SHM/direct/direct", Link(2, 3, "SHM", "SHM/direct/direct")),
        (
            "Channel 00/0 : 3[1] -> 2[0] via P2P/IPC/read",
            Link(3, 2, "P2P", "P2P/IPC/read"),
        ),
        (
            "Channel 02/0 : 3[3] -> 4[4] via P2P/direct pointer",
            Link(3, 4, "P2P", "P2P/direct pointer"),
        ),
        (
            "Channel 03 : 7[b2000] -> 14[b1000] [receive] via NET/IB/0/GDRDMA",
            Link(7, 14, "NET", "NET/IB/0/GDRDMA"),
        ),
        (
            "Ring 00 : 11[0] -> 12[0] via direct shared memory",
            Link(11, 12, "SHM", "direct shared memory"),
        ),
        ("Ring 00 : 15 -> 0 [send] via NET/Socket/0", Link(15, 0, "NET", "NET/Socket/0")),
        ("Channel 00/02 :    0   1   2", None),
        ("Connected all rings", None),
        ("NET/Socket : Using [0]eth0:172.18.0.2<0>", None),
    ],
)
def test_links_of_every_age(text, link):
    assert parse_link(text) == link


def test_what_two_instances_use_is_told_once_and_is_what_was_asked_for():
    transports = read("nccl-2nodes-socket.log")
    assert transports.between_hosts() == {("node0", "node2"): frozenset({"NET"})}
    assert transports.report("network") == ("NCCL: node0 and node2 talk through sockets (NET).",)


def test_links_inside_an_instance_are_known_and_not_judged():
    assert Link(2, 0, "SHM", "SHM/direct/direct") in read("nccl-2nodes-socket.log").links


@pytest.mark.parametrize("preset", ["shm", "fast"])
def test_another_transport_than_asked_for_is_a_warning(preset):
    _, warning = read("nccl-2nodes-socket.log").report(preset)
    assert warning.startswith(f"WARNING: the NCCL preset {preset} asks for ")
    assert "node0 and node2" in warning


def test_peer_to_peer_between_instances():
    transports = read("nccl-cumem.log")
    assert transports.between_hosts() == {("kolyoz1", "kolyoz2"): frozenset({"P2P"})}
    assert len(transports.report("fast")) == 1
    assert len(transports.report("network")) == 2


def test_logs_of_old_versions_give_links_even_where_ranks_are_unknown():
    transports = read("nccl-old.log")
    assert {link.transport for link in transports.links} == {"SHM", "NET", "P2P"}
    assert transports.between_hosts() == {}


def test_a_link_is_news_once():
    transports = Transports()
    line = "algo-1:57:81 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0"
    assert transports.read(line)
    assert not transports.read(line)
    assert not transports.read(line.replace("Channel 00/0", "Channel 01/0"))
    assert not transports.read("Epoch 1: loss 0.4")


def test_ranks_of_a_smaller_group_are_not_those_of_the_job():
    """Rank 1 of the group {0, 2} is another process than rank 1 of all four."""
    lines = [
        *(
            f"algo-{1 + rank // 2}:{10 + rank}:{20 + rank} [0] NCCL INFO ncclCommInitRank comm "
            f"0x1 rank {rank} nranks 4 cudaDev 0 nvmlDev 0 busId 1 commId 0xa - Init START"
            for rank in range(4)
        ),
        # Ranks 0 and 1 of everybody are on one instance …
        "algo-1:10:20 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct",
        # … and those of the group on two.
        "algo-1:10:30 [0] NCCL INFO ncclCommSplit comm 0x2 rank 0 nranks 2 cudaDev 0 nvmlDev 0 "
        "busId 1 parent 0x1 splitCount 1 color 0 key 0 commId 0xb - Init START",
        "algo-2:12:32 [0] NCCL INFO ncclCommSplit comm 0x2 rank 1 nranks 2 cudaDev 0 nvmlDev 0 "
        "busId 1 parent 0x1 splitCount 1 color 0 key 0 commId 0xb - Init START",
        "algo-1:10:30 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0",
        # A thread that set nothing up speaks of the largest group.
        "algo-1:10:99 [0] NCCL INFO Channel 00/0 : 0[0] -> 3[1] via P2P/IPC/read",
    ]
    transports = Transports()
    for line in lines:
        transports.read(f"[default0]:{line}")
    assert transports.between_hosts() == {("algo-1", "algo-2"): frozenset({"NET", "P2P"})}
