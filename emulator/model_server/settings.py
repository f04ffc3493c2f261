"""What the environment says, in the variables of AWS's own inference toolkit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1024 * 1024


class SettingsError(ValueError):
    """A variable of the environment has a value that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    base: Path
    """Holds `model/`, or `models/` with several models."""
    port: int
    workers: int
    """Processes for each model; each loads the model and answers one request at a time."""
    toolkit: bool
    """Whether AWS's inference toolkit calls the model's functions; SAGEMAKER_INFERENCE_CODE
    names a function that needs none."""
    multi_model: bool
    """Models are loaded and unloaded by requests (`/models`), and none is loaded at the start."""
    timeout: float | None
    """Seconds until a worker that does not answer is killed and replaced; None: never.

    AWS's images take 60 if the variable is not set. Slow calls (batch transform, asynchronous
    inference) then fail there; here they need no setting."""
    body_limit: int
    """The largest body of a request, in bytes."""

    @property
    def model(self) -> Path:
        """Where the one model lies."""
        return self.base / "model"


def read_settings(env: Mapping[str, str]) -> Settings:
    """The settings in an environment; raises SettingsError."""
    workers = _number(env, "SAGEMAKER_MODEL_SERVER_WORKERS", 1)
    timeout = _number(env, "SAGEMAKER_MODEL_SERVER_TIMEOUT", 0)
    return Settings(
        base=Path(env.get("SAGEMAKER_BASE_DIR") or "/opt/ml"),
        port=_number(env, "SAGEMAKER_BIND_TO_PORT", 8080),
        workers=max(1, workers),
        toolkit=not env.get("SAGEMAKER_INFERENCE_CODE"),
        multi_model=env.get("SAGEMAKER_MULTI_MODEL") == "true",
        timeout=float(timeout) if timeout > 0 else None,
        body_limit=_number(env, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 100) * MEGABYTE,
    )


def gpu_shares(gpus: Sequence[str], workers: int, first: int = 0) -> list[tuple[str, ...]]:
    """The GPUs of each of a model's workers; () where there are none.

    They are spread evenly. With more workers than GPUs, several workers share one; `first` is
    the number of workers that came before these, so that models share evenly, too.
    """
    if not gpus:
        return [()] * workers
    if workers >= len(gpus) or first:
        return [(gpus[(first + index) % len(gpus)],) for index in range(workers)]
    return [tuple(gpus[index::workers]) for index in range(workers)]


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal():
        raise SettingsError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
