"""The toolkit's launchers that call mpirun, across two sandboxes; replicas must end equal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from test_docker_launchers import DDP, LAUNCHERS, PROCESSES
from test_process_launchers import CODE, Finished, run_job

from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.mpi_launchers import why_no_mpirun

pytestmark = pytest.mark.timeout(600)

CASES = {
    ("mpi", "gloo"): 2,
    ("pytorchddp since 2.221", "smddp"): 1,
    ("pytorchddp before 2.221", "gloo"): 1,
}
"""Launcher and backend → ranks an instance."""

MESSAGES = """
import socket
from mpi4py import MPI
hosts = MPI.COMM_WORLD.allgather(socket.gethostname())
assert sorted(set(hosts)) == ["algo-1", "algo-2"], hosts
MPI.Finalize()
"""
"""What the launchers themselves do not need: MPI between the sandboxes."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Future]]:
    """All of them side by side: each sleeps for half a minute after its mpirun."""
    root = tmp_path_factory.mktemp("mpi")
    runtime = ProcessRuntime(Path(sys.executable), "http://127.0.0.1:4570", root)
    if runtime.verdict.features is None or not runtime.verdict.features.interface:
        pytest.skip(f"no sandboxes with a network of their own: {runtime.verdict}")
    if trouble := why_no_mpirun(runtime.interpreter, several_instances=True):
        pytest.skip(trouble)

    def run(number: int, launcher: str, backend: str, ranks: int) -> Finished:
        hyperparameters = {
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"{CODE}/sourcedir.tar.gz"),
            "backend": json.dumps(backend),
            **LAUNCHERS[launcher],
            **({PROCESSES: str(ranks)} if launcher == "mpi" else {}),
        }
        files = {"train.py": MESSAGES + DDP}
        return run_job(runtime, root / str(number), files, hyperparameters, count=2)

    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {
            case: pool.submit(run, number, *case, ranks)
            for number, (case, ranks) in enumerate(CASES.items())
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_ranks_on_two_instances(jobs: dict[tuple[str, str], Future], case: tuple[str, str]) -> None:
    job, ranks = jobs[case].result(), CASES[case]
    assert job.codes == {"algo-1": 0, "algo-2": 0}, job.output
    option = "None" if case[0] == "pytorchddp before 2.221" else "arrived"
    for rank in range(2 * ranks):
        where = job.dirs[f"algo-{rank // ranks + 1}"].at("/opt/ml/output/data") / f"rank-{rank}"
        assert where.read_text() == f"{2 * ranks} equal, option {option}"
