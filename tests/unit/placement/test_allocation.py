import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.model.errors import CapacityError
from emulator.placement.allocation import Demand, Pool, Want, explain, place, pool, size
from emulator.placement.device import Gpu
from emulator.placement.instance_types import InstanceType, load_catalog

CATALOG = load_catalog()


def demands(*types):
    """One instance of each type, numbered through."""
    found = [CATALOG.find(name) for name in types]
    return [Demand(f"algo-{number}", type_) for number, type_ in enumerate(found, 1) if type_]


def gpus(count, *, memory_mib=81559):
    return [Gpu(f"GPU-{index}", "NVIDIA H100", memory_mib, index) for index in range(count)]


def slices(count):
    return [
        Gpu(f"MIG-{index}", "MIG 1g.20gb", 19968, index, parent="GPU-x") for index in range(count)
    ]


@pytest.mark.parametrize(
    ("types", "machine", "given_"),
    [
        (["ml.p4d.24xlarge"], 8, [8]),
        (["ml.p4d.24xlarge"], 4, [4]),
        (["ml.p4d.24xlarge"] * 2, 8, [4, 4]),
        (["ml.p4d.24xlarge"] * 2, 5, [2, 2]),
        (["ml.p4d.24xlarge"] * 3, 4, [1, 1, 1]),
        (["ml.g5.xlarge"] * 2, 8, [1, 1]),
        (["ml.local.2gpu"], 8, [2]),
        # A small type leaves more to the large one.
        (["ml.p4d.24xlarge", "ml.g5.xlarge", "ml.g5.xlarge"], 8, [6, 1, 1]),
        (["ml.p4d.24xlarge", "ml.m5.xlarge"], 2, [2, 0]),
        (["ml.m5.xlarge"] * 2, 8, [0, 0]),
        (["ml.p4d.24xlarge"] * 2, 0, [0, 0]),
    ],
)
def test_scale_divides_the_machine_evenly(types, machine, given_):
    want = size(demands(*types), "scale", Pool(machine))
    assert [count for _, count in want.gpus] == given_
    assert [host for host, _ in want.gpus] == [f"algo-{n}" for n in range(1, len(types) + 1)]


def test_scale_gives_an_instance_one_slice_or_whole_gpus():
    assert size(demands("ml.p4d.24xlarge"), "scale", Pool(0, 7)).total == 1
    assert size(demands("ml.p4d.24xlarge"), "scale", Pool(3, 4)).total == 3
    both = size(demands("ml.p4d.24xlarge", "ml.g5.xlarge"), "scale", Pool(3, 1))
    assert [count for _, count in both.gpus] == [3, 1]


def test_more_instances_than_gpus_can_never_run_unless_they_share():
    types = demands(*["ml.g5.xlarge"] * 3)
    with pytest.raises(CapacityError, match=r"3 instances with GPUs .* has 2 GPUs.*shared"):
        size(types, "scale", Pool(2))
    want = size(types, "shared", Pool(2))
    assert want == Want((("algo-1", 1), ("algo-2", 1), ("algo-3", 1)), shared=True)
    assert want.total == 1


def test_exact_is_what_the_type_has_or_awss_capacity_error():
    assert size(demands("ml.g5.12xlarge", "ml.m5.xlarge"), "exact", Pool(4)).total == 4
    with pytest.raises(
        CapacityError,
        match=r"^CapacityError: Unable to provision requested ML compute capacity\. "
        r"Please retry using a different ML instance type\.",
    ):
        size(demands("ml.p4d.24xlarge"), "exact", Pool(4))
    with pytest.raises(CapacityError, match="no GPUs"):
        size(demands("ml.g5.xlarge"), "exact", Pool(0))
    with pytest.raises(CapacityError, match="MIG slices counted"):
        size(demands("ml.g5.12xlarge"), "exact", Pool(0, 7))


def test_shared_instances_use_the_same_gpus():
    want = size(demands("ml.p4d.24xlarge", "ml.g5.xlarge", "ml.m5.xlarge"), "shared", Pool(2))
    given_ = dict(place(want, gpus(4)) or ())
    assert given_ == {"algo-1": ("GPU-0", "GPU-1"), "algo-2": ("GPU-0",), "algo-3": ()}
    assert size(demands("ml.g5.xlarge"), "shared", Pool(0)) == Want((("algo-1", 0),))


def test_place_waits_for_enough_and_keeps_small_gpus_for_last():
    want = Want((("algo-1", 2), ("algo-2", 1)))
    assert place(want, gpus(2)) is None
    display = Gpu("GPU-display", "NVIDIA T400", 4096, 0)
    assert place(want, [display, *gpus(3)]) == (
        ("algo-1", ("GPU-0", "GPU-1")),
        ("algo-2", ("GPU-2",)),
    )


def test_place_gives_slices_to_those_that_need_one_device():
    want = Want((("algo-1", 1), ("algo-2", 2), ("algo-3", 1)))
    assert place(want, [*gpus(3), *slices(1)]) == (
        ("algo-1", ("MIG-0",)),
        ("algo-2", ("GPU-0", "GPU-1")),
        ("algo-3", ("GPU-2",)),
    )
    assert place(want, [*gpus(1), *slices(5)]) is None


def test_the_log_says_what_an_instance_gets_instead():
    types = demands("ml.p4d.24xlarge", "ml.p4d.24xlarge", "ml.g5.xlarge")
    want = size(types, "scale", Pool(5))
    assert explain(types, want, "scale") == (
        "ml.p4d.24xlarge has 8 GPUs; algo-1, algo-2 get 2 GPUs here (GPU policy scale).",
    )
    shared = size(types[:2], "shared", Pool(1))
    assert explain(types[:2], shared, "shared") == (
        "ml.p4d.24xlarge has 8 GPUs; algo-1, algo-2 get 1 GPU here, the same ones"
        " (GPU policy shared).",
    )
    alone = size(types[2:], "scale", Pool(0))
    assert explain(types[2:], alone, "scale") == (
        "ml.g5.xlarge has 1 GPU; algo-3 gets no GPUs here (GPU policy scale).",
    )


instance_types = st.integers(0, 8).map(lambda n: InstanceType(f"ml.test.{n}gpu", 4, 16384, n))
groups = st.lists(st.tuples(instance_types, st.integers(1, 6)), min_size=1, max_size=4)
machines = st.tuples(st.integers(0, 16), st.integers(0, 14))


def hosts(groups_):
    types = [type_ for type_, count in groups_ for _ in range(count)]
    return [Demand(f"algo-{number}", type_) for number, type_ in enumerate(types, 1)]


@given(groups, machines, st.sampled_from(["scale", "exact", "shared"]))
def test_whatever_is_sized_can_be_placed_on_the_idle_machine(groups_, machine, policy):
    devices = [*gpus(machine[0]), *slices(machine[1])]
    wanted = hosts(groups_)
    try:
        want = size(wanted, policy, pool(devices))
    except CapacityError:
        return
    placed = place(want, devices)
    assert placed is not None
    given_ = [uuid for _, uuids in placed for uuid in uuids]
    counts = dict(want.gpus)
    for demand, (host, uuids) in zip(wanted, placed, strict=True):
        assert host == demand.host
        assert len(uuids) == len(set(uuids)) == counts[host] <= demand.type.gpu_count
        assert len(uuids) <= 1 or not any(uuid.startswith("MIG-") for uuid in uuids)
    assert len(set(given_)) == want.total
    if not want.shared:
        assert len(given_) == len(set(given_)), "a GPU was given to two instances"
    if policy == "exact":
        assert all(
            len(uuids) == demand.type.gpu_count
            for demand, (_, uuids) in zip(wanted, placed, strict=True)
        )


@given(groups, st.integers(1, 16))
def test_scale_treats_instances_of_one_type_alike_and_wastes_nothing(groups_, machine):
    wanted = hosts(groups_)
    try:
        want = size(wanted, "scale", Pool(machine))
    except CapacityError:
        assert sum(demand.type.gpu_count > 0 for demand in wanted) > machine
        return
    by_type = {}
    for demand, (_, count) in zip(wanted, want.gpus, strict=True):
        by_type.setdefault(demand.type.gpu_count, set()).add(count)
    assert all(len(counts) == 1 for counts in by_type.values())
    level = max(count for _, count in want.gpus)
    more = sum(min(level + 1, demand.type.gpu_count) for demand in wanted)
    assert more > machine or all(
        count == demand.type.gpu_count for demand, (_, count) in zip(wanted, want.gpus, strict=True)
    )


@given(groups, machines, st.data())
def test_place_takes_only_what_is_free(groups_, machine, data):
    devices = [*gpus(machine[0]), *slices(machine[1])]
    free = (
        data.draw(st.lists(st.sampled_from(devices), unique_by=lambda g: g.uuid)) if devices else []
    )
    try:
        want = size(hosts(groups_), "scale", pool(devices))
    except CapacityError:
        return
    placed = place(want, free)
    enough = want.total <= len(free) and want.whole <= pool(free).whole
    assert (placed is not None) == enough
    if placed is not None:
        assert {uuid for _, uuids in placed for uuid in uuids} <= {gpu.uuid for gpu in free}
