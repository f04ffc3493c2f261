"""What is uploaded and deleted when, whatever scripts do to their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from emulator.data.checkpoints.plan import SETTLED, Plan, Replica, Sight, Stamp, look_again, plan

A, B = Stamp(1, 100), Stamp(2, 200)


def replica(known: Mapping[str, Stamp], *listings: Mapping[str, Stamp]) -> Replica:
    """An instance after these listings, with nothing uploaded in between."""
    sights: dict[str, Sight] = {}
    for listing in listings:
        sights = look_again(sights, listing, known)
    return Replica(sights, known)


def one(known: Mapping[str, Stamp], *listings: Mapping[str, Stamp]) -> Plan:
    return plan({"algo-1": replica(known, *listings)})


def test_a_file_goes_up_when_two_listings_agree() -> None:
    assert one({}, {"f": A}) == Plan({}, ())
    assert one({}, {"f": A}, {"f": B}) == Plan({}, ())
    assert one({}, {"f": A}, {"f": A}) == Plan({"f": "algo-1"}, ())


def test_what_s3_has_is_left_alone() -> None:
    assert one({"f": A}, {"f": A}, {"f": A}) == Plan({}, ())
    assert one({"f": A}, {"f": B}, {"f": B}) == Plan({"f": "algo-1"}, ())


def test_a_file_that_is_only_replaced_is_not_deleted() -> None:
    assert one({"f": A}, {}, {"f": B}) == Plan({}, ())
    assert one({"f": A}, {}, {}) == Plan({}, ("f",))
    assert one({}, {"f": A}, {}, {}) == Plan({}, ())


def test_the_last_time_everything_counts_at_once() -> None:
    state = {"algo-1": replica({"old": A, "f": A}, {"f": B, "new": A})}
    assert plan(state, settled=1) == Plan({"f": "algo-1", "new": "algo-1"}, ("old",))


def test_the_newest_version_of_several_instances_wins() -> None:
    older, newer = replica({}, {"f": A}, {"f": A}), replica({}, {"f": B}, {"f": B})
    assert plan({"algo-1": newer, "algo-2": older}).uploads == {"f": "algo-1"}
    assert plan({"algo-1": older, "algo-2": newer}).uploads == {"f": "algo-2"}
    assert plan({"algo-1": older, "algo-2": older}).uploads == {"f": "algo-2"}


def test_one_instance_deletes_what_all_were_given_but_not_what_another_made() -> None:
    holder, deleter = replica({"f": A}, {"f": A}, {"f": A}), replica({"f": A}, {}, {})

    def deleted(first: Replica, second: Replica) -> tuple[str, ...]:
        return plan({"algo-1": first, "algo-2": second}).deletes

    assert deleted(holder, deleter) == ("f",)
    assert deleted(holder, replace(deleter, made=frozenset("f"))) == ("f",)
    assert deleted(replace(holder, made=frozenset("f")), deleter) == ()
    maker_who_deleted = replace(deleter, made=frozenset("f"))
    assert deleted(maker_who_deleted, maker_who_deleted) == ("f",)


def test_nothing_is_deleted_where_deletes_do_not_count() -> None:
    assert plan({"algo-1": replica({"f": A}, {}, {})}, deletes=False).deletes == ()


STAMPS = st.builds(Stamp, st.integers(0, 2), st.integers(0, 3))
LISTINGS = st.dictionaries(st.sampled_from(["a", "b", "c/d"]), STAMPS)
HISTORIES = st.lists(
    st.fixed_dictionaries({"algo-1": LISTINGS, "algo-2": LISTINGS}), min_size=1, max_size=8
)


class Bucket:
    """What carrying out the plans makes of S3."""

    def __init__(self, restored: Mapping[str, Stamp]):
        self.objects = dict(restored)
        self.known = {host: dict(restored) for host in ("algo-1", "algo-2")}
        self.sights: dict[str, dict[str, Sight]] = {"algo-1": {}, "algo-2": {}}
        self.made: dict[str, set[str]] = {"algo-1": set(), "algo-2": set()}
        self.latest: dict[str, str] = {}

    def round(self, listings: Mapping[str, Mapping[str, Stamp]], settled: int) -> Plan:
        for host, listing in listings.items():
            self.sights[host] = look_again(self.sights[host], listing, self.known[host])
        made = plan(
            {h: self._replica(h) for h in listings},
            settled=settled,
        )
        for name, host in made.uploads.items():
            self.objects[name] = listings[host][name]
            self.latest[name] = host
            for each, listing in listings.items():
                stamp, sight = listing.get(name), self.sights[each].get(name)
                if (
                    stamp
                    and sight
                    and sight.times >= settled
                    and stamp != self.known[each].get(name)
                ):
                    self.known[each][name] = stamp
                    self.made[each].add(name)
        for name in made.deletes:
            self.objects.pop(name, None)
            self.latest.pop(name, None)
            for each in listings:
                if name not in listings[each]:
                    self.known[each].pop(name, None)
                    self.made[each].discard(name)
        return made

    def _replica(self, host: str) -> Replica:
        latest = frozenset(name for name, each in self.latest.items() if each == host)
        return Replica(self.sights[host], self.known[host], frozenset(self.made[host]), latest)


def test_what_another_instance_has_takes_the_place_of_what_was_deleted() -> None:
    """S3 has the newer version of algo-2, which deletes it; algo-1 has its own all the time."""
    bucket, older, newer = Bucket({}), Stamp(1, 0), Stamp(1, 5)
    both = {"algo-1": {"a": older}, "algo-2": {"a": newer}}
    one: dict[str, dict[str, Stamp]] = {"algo-1": {"a": older}, "algo-2": {}}
    for listings in (one, one, both, both):
        bucket.round(listings, SETTLED)
    assert bucket.objects == {"a": newer}
    bucket.round(one, SETTLED)
    assert bucket.objects == {"a": newer}, "once may be a rename"
    bucket.round(one, SETTLED)
    assert bucket.objects == {"a": older}
    assert not bucket.round(one, SETTLED).uploads


@given(LISTINGS, HISTORIES)
def test_nothing_unsettled_goes_up_and_in_the_end_everything_is_there(
    restored: Mapping[str, Stamp], history: list[Mapping[str, Mapping[str, Stamp]]]
) -> None:
    bucket = Bucket(restored)
    for index, listings in enumerate(history):
        made = bucket.round(listings, SETTLED)
        for name, host in made.uploads.items():
            assert index > 0
            assert history[index - 1][host][name] == listings[host][name]
        assert not set(made.uploads) & set(made.deletes)
    last = history[-1]
    bucket.round(last, 1)
    for name, stamp in (item for listing in last.values() for item in listing.items()):
        if stamp != restored.get(name):
            assert name in bucket.objects, "what a script made was lost"
    for name, stamp in bucket.objects.items():
        held = [listing[name] for listing in last.values() if name in listing]
        assert stamp in held, "what nobody has any more stayed, or is of an old version"
    assert not bucket.round(last, 1).uploads, "a second last time has nothing to do"


HOSTS = ("algo-1", "algo-2")
SEEN = st.fixed_dictionaries({host: st.none() | LISTINGS for host in HOSTS})
"""None: the listing failed."""


@given(
    LISTINGS,
    st.lists(SEEN, min_size=1, max_size=8),
    st.sets(st.sampled_from(HOSTS)),
    st.sets(st.sampled_from(["a", "b", "c/d"])),
)
def test_nothing_is_deleted_for_what_a_listing_does_not_prove(
    known: Mapping[str, Stamp],
    history: list[Mapping[str, Mapping[str, Stamp] | None]],
    killed: set[str],
    doubtful: set[str],
) -> None:
    """Whatever listings fail: a file is gone only after as many as needed have said so."""
    sights: dict[str, dict[str, Sight]] = {host: {} for host in HOSTS}
    for index, listings in enumerate(history):
        last = index == len(history) - 1
        settled = 1 if last else SETTLED
        replicas = {}
        for host in HOSTS:
            sights[host] = look_again(sights[host], listings[host], known)
            replicas[host] = Replica(
                sights[host] if listings[host] is not None else {},
                known,
                doubtful=frozenset(doubtful) if last and host in killed else frozenset(),
                reliable=not (last and host in killed),
            )
        made = plan(replicas, settled=settled, doubtful_if_new=False)
        for name in made.deletes:
            assert any(
                not (last and host in killed)
                and listings[host] is not None
                and all(
                    name not in listing
                    for listing in [
                        past[host] for past in history[: index + 1] if past[host] is not None
                    ][-settled:]
                    if listing is not None
                )
                for host in HOSTS
            ), "no listing says that it is gone"
        for name, host in made.uploads.items():
            seen = listings[host]
            assert seen is not None
            assert name in seen
            assert not (last and host in killed and name in doubtful), "a torn file went up"


def test_a_doubtful_file_leaves_the_version_that_s3_has() -> None:
    torn = replace(replica({"f": A}, {"f": B}, {"f": B}), doubtful=frozenset("f"))
    assert plan({"algo-1": torn}) == Plan({}, ())
    whole = replica({"f": A}, {"f": B}, {"f": B})
    assert plan({"algo-1": torn, "algo-2": whole}).uploads == {"f": "algo-2"}
    new = replace(replica({}, {"f": B}, {"f": B}), doubtful=frozenset("f"))
    assert plan({"algo-1": new}).uploads == {"f": "algo-1"}
    assert plan({"algo-1": new}, doubtful_if_new=False).uploads == {}
