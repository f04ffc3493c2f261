from __future__ import annotations

from typing import Any

import pytest

from emulator.model.errors import ValidationError
from emulator.workloads.run.refusals import refuse_nul


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        ({"Environment": {"A": "1\0--bind\0/\0/host"}}, "Environment.A"),
        ({"Environment": {"A\0": "1"}}, "A name in Environment"),
        ({"AlgorithmSpecification": {"ContainerArguments": ["a", "a\0b"]}}, "Arguments[1]"),
        ({"CheckpointConfig": {"LocalPath": "/opt/ml/\0"}}, "CheckpointConfig.LocalPath"),
    ],
)
def test_a_nul_is_refused_wherever_it_stands(request_: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        refuse_nul(request_)
    assert place in str(refused.value)


def test_all_other_texts_pass() -> None:
    refuse_nul({"Environment": {"A": "\x01\n\ud83d\ude00"}, "StoppingCondition": {"Max": 1}})
