from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.model.faults import Chance, Fault, Kind, Stage, Tally, meets, take

kinds = st.sampled_from(Kind)
names = st.text("abc-1", min_size=1, max_size=6)
faults = st.builds(
    Fault,
    kind=kinds,
    rate=st.floats(0, 1),
    times=st.none() | st.integers(0, 5),
    seed=st.integers(0, 9),
)


def taken(fault: Fault, chances: int, whom: str = "") -> list[bool]:
    tally, happened = Tally(), []
    for _ in range(chances):
        happens, tally = take(fault, tally, whom)
        happened.append(happens)
    assert tally.taken == sum(happened)
    return happened


@given(faults, st.integers(0, 40))
def test_never_more_often_than_its_limit_and_always_the_same(fault: Fault, chances: int) -> None:
    happened = taken(fault, chances)
    assert sum(happened) <= fault.limit
    assert happened == taken(fault, chances)


@given(faults, names)
def test_rates_at_their_ends(fault: Fault, whom: str) -> None:
    assert not any(taken(Fault(fault.kind, rate=0, seed=fault.seed), 20, whom))
    always = Fault(fault.kind, rate=1, times=7, seed=fault.seed)
    assert taken(always, 10, whom) == [True] * 7 + [False] * 3


@given(st.integers(0, 1000))
def test_a_rate_is_about_the_share_that_it_takes(seed: int) -> None:
    share = sum(taken(Fault(Kind.THROTTLING, rate=0.3, seed=seed), 2000)) / 2000
    assert 0.2 < share < 0.4


@given(names, names)
def test_a_fault_of_jobs_meets_jobs_by_name(job: str, other: str) -> None:
    fault = Fault(Kind.CAPACITY_ERROR, job=job)
    assert meets(fault, Chance(Kind.CAPACITY_ERROR, job=job))
    assert meets(fault, Chance(Kind.CAPACITY_ERROR, job=other)) == (job == other)
    prefix = Fault(Kind.CAPACITY_ERROR, job=f"{job}*")
    assert meets(prefix, Chance(Kind.CAPACITY_ERROR, job=job + other))


@given(kinds, kinds)
def test_kinds_do_not_meet_each_other(one: Kind, other: Kind) -> None:
    chance = Chance(other, job="j", hosts=("algo-1",), trained=1.0)
    assert meets(Fault(one), chance) == (one is other)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_not_before_its_time(after: float, trained: float) -> None:
    fault = Fault(Kind.SPOT_INTERRUPTION, after_seconds=after)
    chance = Chance(Kind.SPOT_INTERRUPTION, job="j", trained=trained)
    assert meets(fault, chance) == (trained >= after)


def test_an_instance_that_the_job_does_not_have_cannot_fail() -> None:
    fault = Fault(Kind.INSTANCE_FAILURE, host="algo-2")
    two = Chance(Kind.INSTANCE_FAILURE, job="j", hosts=("algo-1", "algo-2"))
    assert meets(fault, two)
    assert not meets(fault, Chance(Kind.INSTANCE_FAILURE, job="j", hosts=("algo-1",)))


def test_stages_operations_and_buckets() -> None:
    error = Fault(Kind.INTERNAL_SERVER_ERROR, stage=Stage.UPLOADING, after_seconds=9)
    kind = Kind.INTERNAL_SERVER_ERROR
    assert meets(error, Chance(kind, job="j", stage=Stage.UPLOADING))
    assert not meets(error, Chance(kind, job="j", stage=Stage.TRAINING, trained=10))
    throttle = Fault(Kind.THROTTLING, operation="Describe*")
    assert meets(throttle, Chance(Kind.THROTTLING, operation="DescribeTrainingJob"))
    assert not meets(throttle, Chance(Kind.THROTTLING, operation="CreateTrainingJob"))
    slow = Fault(Kind.SLOW_S3, bucket="data-?")
    assert meets(slow, Chance(Kind.SLOW_S3, bucket="data-1"))
    assert not meets(slow, Chance(Kind.SLOW_S3, bucket="data"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 1.5},
        {"rate": -1},
        {"times": -1},
        {"seconds": -0.1},
        {"after_seconds": float("nan")},
        {"seconds": float("inf")},
    ],
)
def test_what_no_fault_can_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Fault(Kind.SLOW_S3, **wrong)  # type: ignore[arg-type]
