from __future__ import annotations

from emulator.placement.gpu_usage import GpuUsage, parse_usage, read_usage


def test_each_gpu_has_a_line() -> None:
    listing = "GPU-a, 87, 40960, 81920\nGPU-b, 0, 0, 81920\n"
    assert parse_usage(listing) == {"GPU-a": GpuUsage(87, 50), "GPU-b": GpuUsage(0, 0)}


def test_what_the_driver_does_not_tell_is_left_out() -> None:
    listing = "GPU-a, [N/A], 40960, 81920\nGPU-b, 1, [N/A], [N/A]\nNo devices were found\n\n"
    assert parse_usage(listing) == {}
    assert parse_usage("Failed to initialize NVML: Driver/library version mismatch") == {}


def test_without_gpus_nobody_is_asked() -> None:
    assert read_usage(()) == {}
