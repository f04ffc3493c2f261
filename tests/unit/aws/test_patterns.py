"""Java's patterns in Python."""

from __future__ import annotations

import pytest

from emulator.aws.validation.java_patterns import java_pattern
from emulator.aws.wire.service_models import service_model

# Java allows to repeat `$`; as they stand, these match no value that Python could check.
NOT_CHECKED = {"CustomerMetadataKey", "CustomerMetadataValue"}


@pytest.mark.parametrize("service", ["sagemaker", "logs", "sts", "iam", "cloudwatch", "ecr"])
def test_the_patterns_of_the_models_are_understood(service: str) -> None:
    model = service_model(service)
    assert model is not None
    for name in model.shape_names:
        pattern = model.shape_for(name).metadata.get("pattern")
        if pattern is not None and name not in NOT_CHECKED:
            assert java_pattern(pattern) is not None, (name, pattern)


@pytest.mark.parametrize(
    ("pattern", "matches", "differs"),
    [
        (r"[\p{Alnum}\-]+", "aZ-9", "ä"),
        (r"\p{Alpha}+", "ab", "a1"),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Tag für Ünicode 日本 ٣", "tab\t"),
        (r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]*", "a + b = «c»!", "\x00"),
        (r"[\w-_]*", "a-b_c", "a b"),
        (r"\w+", "abc", "ünicode"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\t😀", "\x01"),
        (r"[^:]+(?<!-)", "a-b", "a-"),
    ],
)
def test_a_pattern_means_what_java_means(pattern: str, matches: str, differs: str) -> None:
    compiled = java_pattern(pattern)
    assert compiled is not None
    assert compiled.fullmatch(matches)
    assert not compiled.fullmatch(differs)


def test_what_python_cannot_express_is_left_unchecked() -> None:
    assert java_pattern(r"[\p{NoSuchProperty}]") is None
