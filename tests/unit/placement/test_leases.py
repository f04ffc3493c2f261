import sqlite3

import pytest

from emulator.database import Database
from emulator.placement.leases import MIGRATION, Lease, LeaseBook


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "state.db", [MIGRATION])


@pytest.fixture
def book(database):
    return LeaseBook(database)


def lease(job, **held):
    return Lease(f"arn:{job}", job, {host.replace("_", "-"): gpus for host, gpus in held.items()})


def test_an_open_lease_names_job_and_hosts(book):
    book.open(lease("a", algo_1=("GPU-0", "GPU-1"), algo_2=("GPU-2",)), now=10.5)
    found = {holding.gpu: holding for holding in book.holdings()}
    assert set(found) == {"GPU-0", "GPU-1", "GPU-2"}
    assert found["GPU-2"].hosts == ("algo-2",)
    assert (found["GPU-0"].job, found["GPU-0"].name, found["GPU-0"].opened) == ("arn:a", "a", 10.5)


def test_a_shared_gpu_is_leased_once_with_all_its_hosts(book):
    book.open(lease("a", algo_1=("GPU-0",), algo_2=("GPU-0",)), now=1)
    (holding,) = book.holdings()
    assert holding.hosts == ("algo-1", "algo-2")


def test_the_database_refuses_to_give_a_gpu_twice_and_then_gives_none(book):
    book.open(lease("a", algo_1=("GPU-1",)), now=1)
    with pytest.raises(sqlite3.IntegrityError):
        book.open(lease("b", algo_1=("GPU-0", "GPU-1")), now=2)
    assert {holding.gpu for holding in book.holdings()} == {"GPU-1"}


def test_a_closed_lease_frees_its_gpus(book):
    book.open(lease("a", algo_1=("GPU-0", "GPU-1"), algo_2=("GPU-2", "GPU-3")), now=1)
    book.close("arn:a", now=2)
    book.close("arn:a", now=3)
    assert book.holdings() == ()
    book.open(lease("b", algo_1=("GPU-1",)), now=4)
    assert [holding.job for holding in book.holdings()] == ["arn:b"]


def test_leases_outlive_the_program_and_those_of_lost_jobs_are_closed(tmp_path, book):
    book.open(lease("kept", algo_1=("GPU-0",)), now=1)
    book.open(lease("lost", algo_1=("GPU-1",)), now=1)
    again = LeaseBook(Database(tmp_path / "state.db", [MIGRATION]))
    assert again.close_all_but(["arn:kept", "arn:not started"], now=2) == ("arn:lost",)
    assert [holding.name for holding in again.holdings()] == ["kept"]


def test_a_rehearsal_leases_gpus_and_hands_none_out():
    rehearsed = Lease("arn:a", "a", {"algo-1": ("GPU-0",), "algo-2": ()}, rehearsal=True)
    assert rehearsed.gpus == {"algo-1": (), "algo-2": ()}
    assert rehearsed.holders == {"GPU-0": ("algo-1",)}
    real = Lease("arn:a", "a", {"algo-1": ("GPU-0",)})
    assert real.gpus == {"algo-1": ("GPU-0",)}
