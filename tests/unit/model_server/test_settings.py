"""What the model server reads from its environment."""

from pathlib import Path

import pytest

from emulator.model_server.settings import SettingsError, gpu_shares, read_settings


def test_defaults_are_those_of_a_container() -> None:
    settings = read_settings({})

    assert (settings.model, settings.port) == (Path("/opt/ml/model"), 8080)
    assert (settings.workers, settings.multi_model, settings.timeout) == (1, False, None)
    assert settings.body_limit == 100 * 1024 * 1024


def test_variables_of_the_toolkit_are_read() -> None:
    settings = read_settings(
        {
            "SAGEMAKER_BASE_DIR": "/base",
            "SAGEMAKER_BIND_TO_PORT": "9000",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
            "SAGEMAKER_MULTI_MODEL": "true",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": "60",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        }
    )

    assert (settings.model, settings.port) == (Path("/base/model"), 9000)
    assert (settings.workers, settings.multi_model, settings.timeout) == (3, True, 60.0)
    assert settings.body_limit == 6 * 1024 * 1024


@pytest.mark.parametrize("text", ["two", "-1", "1.5"])
def test_value_that_is_no_number_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=rf"SAGEMAKER_MODEL_SERVER_WORKERS is '{text}'"):
        read_settings({"SAGEMAKER_MODEL_SERVER_WORKERS": text})


@pytest.mark.parametrize(
    ("gpus", "workers", "first", "shares"),
    [
        ((), 2, 0, [(), ()]),
        (("a", "b"), 1, 0, [("a", "b")]),
        (("a", "b"), 2, 0, [("a",), ("b",)]),
        (("a", "b", "c"), 2, 0, [("a", "c"), ("b",)]),
        (("a", "b"), 3, 0, [("a",), ("b",), ("a",)]),
        (("a", "b"), 1, 1, [("b",)]),
        (("a", "b"), 1, 2, [("a",)]),
    ],
)
def test_workers_are_spread_over_the_gpus(
    gpus: tuple[str, ...], workers: int, first: int, shares: list[tuple[str, ...]]
) -> None:
    assert gpu_shares(gpus, workers, first) == shares
