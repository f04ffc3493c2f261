"""What has to happen so that S3 holds what the instances hold. Pure.

Several instances share one prefix, without a part of their own in it (documented for
CheckpointConfig): of a file that several have changed, the newest wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SETTLED = 2
"""Listings in a row that must agree on a file before it is taken for complete, or for gone."""


@dataclass(frozen=True)
class Stamp:
    """One version of a file: it differs from another when any of these does."""

    size: int
    modified: int
    """Nanoseconds since the epoch."""
    inode: int = 0


@dataclass(frozen=True)
class Sight:
    """What the latest listings of one instance say of a file."""

    stamp: Stamp | None
    """None: it is not there."""
    times: int
    """How many listings in a row have said so."""


Sights = Mapping[str, Sight]
"""By name: the path below the root, with slashes."""
Stamps = Mapping[str, Stamp]


@dataclass(frozen=True)
class Replica:
    """One instance's directory, and what of it is in S3."""

    sights: Sights
    """Empty if the latest listing failed: nothing follows from it."""
    known: Stamps
    """The versions that S3 got from this instance, or gave it."""
    made: frozenset[str] = frozenset()
    """Names whose known version is this instance's own, not one that S3 gave it."""
    latest: frozenset[str] = frozenset()
    """Names whose version in S3 is this instance's."""
    doubtful: frozenset[str] = frozenset()
    """Files that may be torn: the instance was killed while it may have written them."""
    reliable: bool = True
    """False: a missing file does not count as deleted. The instance was killed, perhaps after
    the removal of a file and before its successor was written."""

    def lost(self, name: str, settled: int) -> bool:
        """Has this instance deleted a file that S3 has?"""
        if not self.reliable:
            return False
        sight = self.sights.get(name)
        return bool(sight and sight.stamp is None and sight.times >= settled)


@dataclass(frozen=True)
class Plan:
    """What to do, uploads first: a new checkpoint is safe before the old one goes."""

    uploads: Mapping[str, str]
    """Name → the instance whose version wins."""
    deletes: tuple[str, ...]


def look_again(before: Sights, listing: Stamps | None, known: Stamps) -> dict[str, Sight]:
    """The sights after one more listing; files that went are remembered while S3 has them.

    A listing that failed (None) says nothing: neither that a file is there nor that it is gone.
    """
    if listing is None:
        return dict(before)
    sights = {name: _seen(before.get(name), stamp) for name, stamp in listing.items()}
    gone = {name: _seen(before.get(name), None) for name in known if name not in listing}
    return {**sights, **gone}


def _seen(before: Sight | None, stamp: Stamp | None) -> Sight:
    same = before is not None and before.stamp == stamp
    return Sight(stamp, before.times + 1 if before and same else 1)


def plan(
    replicas: Mapping[str, Replica],
    *,
    settled: int = SETTLED,
    deletes: bool = True,
    doubtful_if_new: bool = True,
) -> Plan:
    """What to upload and to delete now; `replicas` by host.

    What S3 gave the instances goes when one of them deletes it; what instances made goes
    when none of its makers has it any more. `settled` is 1 for the last time: then nobody
    writes any more.

    A doubtful file never replaces a version that S3 has. If S3 has none, `doubtful_if_new`
    tells whether it goes up.
    """
    in_s3 = {name for replica in replicas.values() for name in replica.known}
    # Its version in S3 is nobody's any more: that of another instance takes its place.
    orphans = {
        name
        for replica in replicas.values()
        for name in replica.latest
        if replica.lost(name, settled)
    }
    changed = [
        (name, sight.stamp.modified, number, host)
        for number, (host, replica) in enumerate(replicas.items())
        for name, sight in replica.sights.items()
        if sight.stamp
        and sight.times >= settled
        and (name in orphans or sight.stamp != replica.known.get(name))
        and (name not in replica.doubtful or (doubtful_if_new and name not in in_s3))
    ]
    # Sorted by time, the newest comes last and stays.
    uploads = {name: host for name, _, _, host in sorted(changed)}
    if not deletes:
        return Plan(uploads, ())
    gone = {name for name in in_s3 if deleters(replicas, name, settled)}
    kept = {
        name
        for replica in replicas.values()
        for name in gone & replica.made
        if not replica.lost(name, settled)
    }
    return Plan(uploads, tuple(sorted(gone - kept - uploads.keys())))


def deleters(replicas: Mapping[str, Replica], name: str, settled: int) -> tuple[str, ...]:
    """The hosts that had the file of this name and have deleted it."""
    return tuple(
        host
        for host, replica in replicas.items()
        if name in replica.known and replica.lost(name, settled)
    )
