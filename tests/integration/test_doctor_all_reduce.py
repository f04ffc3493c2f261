"""The doctor's all-reduce between two processes, with PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

from emulator.cli.gpu_test import Trial, run_plain


def test_two_plain_processes_reduce_with_gloo() -> None:
    outcome = run_plain(Path(sys.executable), Trial("gloo", "gloo", 1, ""), ())
    assert outcome.problem == ""
    assert outcome.gigabytes_per_second
    assert outcome.gigabytes_per_second > 0
