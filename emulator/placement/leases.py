"""Leases of GPUs, kept in SQLite: they outlive the emulator, and no GPU is given twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from emulator.database import Database

MIGRATION = resources.files(__package__).joinpath("leases.sql").read_text("utf-8")
"""To be among the migrations that the database is opened with."""

_CLOSE = "UPDATE gpu_lease SET closed = ? WHERE job = ? AND closed IS NULL"


@dataclass(frozen=True)
class Lease:
    """What a running job has been given."""

    job: str
    """Its ARN."""
    name: str
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The UUIDs that are taken for each host, in the order of the hosts' numbers."""
    rehearsal: bool = False
    """The GPUs only stand for some: instances get no device."""
    shared: bool = False
    """Several hosts use one GPU, or slices of one: NCCL needs the preset `shared-gpu`."""
    notes: tuple[str, ...] = ()
    """Lines for the job's log: what the instances got and why."""

    @property
    def gpus(self) -> Mapping[str, tuple[str, ...]]:
        """The UUIDs that a runtime must hand to each host: none in a rehearsal."""
        return {host: () if self.rehearsal else uuids for host, uuids in self.held.items()}

    @property
    def holders(self) -> Mapping[str, tuple[str, ...]]:
        """The hosts of each GPU."""
        found: dict[str, tuple[str, ...]] = {}
        for host, uuids in self.held.items():
            for uuid in uuids:
                found[uuid] = (*found.get(uuid, ()), host)
        return found


@dataclass(frozen=True)
class Holding:
    """An open lease of one GPU."""

    gpu: str
    job: str
    """ARN"""
    name: str
    hosts: tuple[str, ...]
    opened: float
    """Epoch seconds."""


class LeaseBook:
    """The leases in the database. Any thread may use it."""

    def __init__(self, database: Database):
        self._database = database

    def open(self, lease: Lease, now: float, instead_of: Iterable[str] = ()) -> None:
        """Record all GPUs of a job or none; raises sqlite3.IntegrityError if one is taken.

        `instead_of` names jobs that give back what they hold with the same step.
        """
        with self._database.writing() as connection:
            connection.executemany(_CLOSE, [(now, job) for job in instead_of])
            connection.executemany(
                "INSERT INTO gpu_lease (gpu, job, job_name, hosts, opened) VALUES (?, ?, ?, ?, ?)",
                [
                    (gpu, lease.job, lease.name, ",".join(hosts), now)
                    for gpu, hosts in lease.holders.items()
                ],
            )

    def close(self, job: str, now: float) -> None:
        """Give back what a job holds; nothing happens if it holds nothing."""
        with self._database.writing() as connection:
            connection.execute(_CLOSE, (now, job))

    def close_all_but(self, jobs: Iterable[str], now: float) -> tuple[str, ...]:
        """Give back what other jobs hold: they ended while nobody looked. Returns their ARNs."""
        kept = set(jobs)
        lost = tuple(sorted({holding.job for holding in self.holdings()} - kept))
        for job in lost:
            self.close(job, now)
        return lost

    def prune(self, before: float) -> None:
        """Forget leases that were given back before a time in epoch seconds."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM gpu_lease WHERE closed < ?", (before,))

    def holdings(self) -> tuple[Holding, ...]:
        """Every open lease."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT gpu, job, job_name, hosts, opened FROM gpu_lease WHERE closed IS NULL"
            ).fetchall()
        return tuple(
            Holding(
                row["gpu"],
                row["job"],
                row["job_name"],
                tuple(row["hosts"].split(",")),
                row["opened"],
            )
            for row in rows
        )
