"""An emulator's jobs in a process of their own, which a test can kill: see run()."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from job_bench import Bench

from emulator.data.objectstore.objects import ObjectStore
from emulator.workloads.transfers.checkpoint_sync import S3Syncs
from emulator.workloads.transfers.inputs_outputs import S3Outputs
from emulator.workloads.transfers.reports import JobReports

INTERVAL = 0.2


def bench_with_s3(root: Path, store: ObjectStore) -> Bench:
    """A bench whose checkpoints and models are in S3; files stay below `root`/kept."""
    bench = Bench(root)
    reports, kept = JobReports(bench.store, bench.logs), root / "kept"
    syncs = S3Syncs(store, reports, kept, INTERVAL, patience=10)
    object.__setattr__(bench.context, "syncs", syncs)
    object.__setattr__(bench.context, "outputs", S3Outputs(store, reports, kept, patience=10))
    return bench


def run(root: str, endpoint: str, key: str, secret: str, script: str, more: str) -> None:
    """Run a job until this process is killed; `more` is JSON, for the request."""
    store = ObjectStore(endpoint, key, secret)
    request: dict[str, Any] = json.loads(more)
    bench_with_s3(Path(root), store).submit(script, **request)
    print("submitted", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    run(*sys.argv[1:])
