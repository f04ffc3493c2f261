"""Image references, and what AWS's tags say."""

from __future__ import annotations

import pytest

from emulator.model.image import ImageAddress, read_address

ECR = "763104351884.dkr.ecr.us-west-2.amazonaws.com"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("busybox", ("", "busybox", "", "")),
        ("busybox:1", ("", "busybox", "1", "")),
        ("team/own__image:latest", ("", "team/own__image", "latest", "")),
        ("localhost/x", ("localhost", "x", "", "")),
        ("localhost:5000/x/y:1", ("localhost:5000", "x/y", "1", "")),
        (f"{ECR}/pytorch@{DIGEST}", (ECR, "pytorch", "", DIGEST)),
        (f"{ECR}/pytorch:1@{DIGEST}", (ECR, "pytorch", "1", DIGEST)),
    ],
)
def test_the_parts_of_an_address(image: str, parts: tuple[str, str, str, str]) -> None:
    assert read_address(image) == ImageAddress(*parts)


@pytest.mark.parametrize(
    "image", ["", "A", "a:", "a/", "/a", "a:b:c", "a b", "a@sha256:1", "http://a/b", "é", "a\n"]
)
def test_what_is_no_address(image: str) -> None:
    assert read_address(image) is None


def test_a_long_text_is_read_at_once() -> None:
    assert read_address("a-" * 100_000) is None


@pytest.mark.parametrize(
    ("image", "contents", "gpus"),
    [
        (f"{ECR}/pytorch-training:2.2.0-gpu-py310", "PyTorch 2.2.0, Python 3.10", True),
        (f"{ECR}/pytorch-training:2.2-cpu-py310-ubuntu20.04", "PyTorch 2.2, Python 3.10", False),
        (f"{ECR}/pytorch:2.13-cu133-amzn2023-sagemaker", "PyTorch 2.13", True),
        (f"{ECR}/pytorch:2.13-cpu-amzn2023-sagemaker", "PyTorch 2.13", False),
        (f"{ECR}/pytorch:latest", "", False),
        (f"{ECR}/tensorflow-training:2.18.0-gpu-py310", "", True),
    ],
)
def test_what_a_tag_says(image: str, contents: str, gpus: bool) -> None:
    address = read_address(image)
    assert address is not None
    assert (address.contents, address.is_for_gpus) == (contents, gpus)
