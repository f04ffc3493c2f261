from __future__ import annotations

import pytest

from emulator.drivers.images.resolution import Choice, PullProgress, choose

CPU, GPU = "sagemaker-emulator/pytorch-training:cpu", "sagemaker-emulator/pytorch-training:gpu"
SERVE_CPU = "sagemaker-emulator/pytorch-inference:cpu"
SERVE_GPU = "sagemaker-emulator/pytorch-inference:gpu"
ECR = "763104351884.dkr.ecr.us-west-2.amazonaws.com"
GPU_URI = f"{ECR}/pytorch-training:2.2.0-gpu-py310"
CPU_URI = f"{ECR}/pytorch-training:2.2.0-cpu-py310"


@pytest.mark.parametrize(
    ("image", "engine_has", "candidates", "local"),
    [
        (GPU_URI, {CPU, GPU}, (GPU, CPU), GPU),
        (GPU_URI, {CPU}, (GPU, CPU), CPU),
        (GPU_URI, {GPU_URI, GPU}, (GPU, CPU), GPU_URI),
        (CPU_URI, {CPU, GPU}, (CPU,), CPU),
        (CPU_URI, set(), (CPU,), None),
        ("busybox", {"busybox"}, (), "busybox"),
        ("busybox", set(), (), None),
        (f"{ECR}.cn/pytorch-training:2.2.0-gpu-py310", {GPU}, (GPU, CPU), GPU),
        (f"{ECR}/pytorch-inference:2.6.0-cpu-py312", {CPU, SERVE_CPU}, (SERVE_CPU,), SERVE_CPU),
        (
            f"{ECR}/pytorch-inference:2.6.0-gpu-py312",
            {CPU, GPU, SERVE_CPU},
            (SERVE_GPU, SERVE_CPU),
            SERVE_CPU,
        ),
        (f"{ECR}/pytorch-inference:2.6.0-cpu-py312", {CPU}, (SERVE_CPU,), None),
        (
            f"{ECR}/pytorch:2.13-cu133-amzn2023-sagemaker",
            {CPU, GPU, SERVE_CPU},
            (SERVE_GPU, GPU, SERVE_CPU, CPU),
            GPU,
        ),
        (
            f"{ECR}/pytorch:2.13-cpu-amzn2023-sagemaker",
            {CPU, GPU, SERVE_CPU},
            (SERVE_CPU, CPU),
            SERVE_CPU,
        ),
        (
            "public.ecr.aws/deep-learning-containers/pytorch:2.14-cu133-amzn2023-sagemaker",
            {CPU, GPU},
            (SERVE_GPU, GPU, SERVE_CPU, CPU),
            GPU,
        ),
        ("public.ecr.aws/others/pytorch:2.14-cu133", {CPU, GPU}, (), None),
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:1", {CPU}, (), None),
        (f"{ECR}/xgboost:1", {CPU, GPU}, (), None),
        ("evil.com/pytorch-training:2.2.0-gpu-py310", {CPU, GPU}, (), None),
    ],
)
def test_what_an_image_means_here(
    image: str, engine_has: set[str], candidates: tuple[str, ...], local: str | None
) -> None:
    found = choose(image, {}, engine_has.__contains__)
    assert found == Choice(image, candidates, local)
    assert found.mapped is (local is not None and local != image)


def test_an_own_mapping_goes_first() -> None:
    found = choose(GPU_URI, {"*/pytorch-training:2.2*": "mine"}, {"mine", GPU}.__contains__)
    assert found.local == "mine"


def _layer(name: str, current: int, total: int) -> dict[str, object]:
    detail = {"current": current, "total": total}
    return {"status": "Downloading", "id": name, "progressDetail": detail}


def test_progress_is_told_by_tenths_of_all_layers() -> None:
    progress = PullProgress("busybox")
    assert progress.line({"status": "Pulling from library/busybox"}) is None
    assert progress.line(_layer("a", 0, 10_000_000)) == "Pulling busybox: 0 of 10 MB"
    assert progress.line(_layer("a", 900_000, 10_000_000)) is None
    assert progress.line(_layer("a", 5_000_000, 10_000_000)) == "Pulling busybox: 5 of 10 MB"
    # A layer that begins later makes the whole larger: the share never goes back.
    assert progress.line(_layer("b", 0, 10_000_000)) is None
    assert progress.line(_layer("b", 9_000_000, 10_000_000)) == "Pulling busybox: 14 of 20 MB"
