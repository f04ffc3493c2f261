"""The demo's data and script."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

pytest.importorskip("sklearn")

from emulator.cli.demo_training import (
    Digits,
    Epoch,
    add_code,
    serving_script,
    source_archive,
    training_script,
)


def test_no_digit_is_in_two_parts() -> None:
    digits = Digits.load()
    parts = (digits.train, digits.test, digits.held_out)
    assert sum(len(part) for part in parts) == 1797
    unique = [{row.tobytes() for row in part} for part in parts]
    assert not unique[0] & unique[2]
    assert not unique[1] & unique[2]
    assert all(set(np.unique(part[:, 0])) == set(range(10)) for part in parts)


def test_the_source_archive_has_the_script_at_its_top() -> None:
    with tarfile.open(fileobj=io.BytesIO(source_archive(training_script()))) as tar:
        assert tar.getnames() == ["train.py"]


def test_code_is_put_beside_what_was_trained() -> None:
    model = source_archive(training_script())
    scripts = [training_script(), serving_script()]
    with tarfile.open(fileobj=io.BytesIO(add_code(model, scripts))) as tar:
        assert tar.getnames() == ["train.py", "code/train.py", "code/inference.py"]
        member = tar.extractfile("train.py")
        assert member is not None
        assert member.read() == training_script().read_bytes()


def test_metrics_are_read_as_the_script_prints_them() -> None:
    line = "epoch=3 train_loss=0.1234 test_accuracy=0.9500;"
    assert Epoch.parse(line) == Epoch(3, 0.1234, 0.95)
    assert "epoch={epoch} train_loss={mean:.4f} test_accuracy={share:.4f};" in (
        training_script().read_text()
    )
    assert Epoch.parse("rank 0 of 2") is None
