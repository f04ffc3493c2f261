"""The models that are loaded, and the interface of several models in one instance.

https://docs.aws.amazon.com/sagemaker/latest/dg/mms-container-apis.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from .gpus import visible_gpus
from .models import CannotLoadError, Model
from .settings import Settings, gpu_shares

SINGLE = "model"
"""The name of the model where there is only one."""


class AlreadyLoadedError(Exception):
    """A model of that name is loaded or is being loaded."""


class Catalog:
    """Models by name. Loading one takes long; the others go on meanwhile."""

    def __init__(self, settings: Settings, on_failure: Callable[[], None]):
        """`on_failure` is called when the only model cannot be served any more."""
        self._settings = settings
        self._on_failure = on_failure
        several = settings.multi_model or settings.workers > 1
        self._gpus = visible_gpus() if several else ()
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        """Those that are being loaded, too."""
        self._made = 0

    @property
    def healthy(self) -> bool:
        """What `GET /ping` says. With several models the server itself is enough."""
        if self._settings.multi_model:
            return True
        model = self.get(SINGLE)
        return model is not None and model.healthy

    def get(self, name: str = SINGLE) -> Model | None:
        """The model, if it is loaded."""
        model = self._models.get(name)
        return model if model is not None and model.loaded else None

    def loaded(self) -> list[Model]:
        """All models that are loaded."""
        with self._lock:
            return [model for model in self._models.values() if model.loaded]

    def load(self, name: str, directory: Path) -> None:
        """Load a model; raises AlreadyLoadedError and CannotLoadError."""
        with self._lock:
            if name in self._models:
                raise AlreadyLoadedError(name)
            shares = gpu_shares(self._gpus, self._settings.workers, self._made)
            self._made += self._settings.workers
            model = Model(name, directory, shares, self._settings.timeout, self._given_up)
            self._models[name] = model
        try:
            if not directory.is_dir():
                raise CannotLoadError(f"{directory} is not a directory", out_of_memory=False)
            model.load()
        except BaseException:
            with self._lock:
                del self._models[name]
            raise

    def unload(self, name: str) -> bool:
        """Finish a model's requests and end its processes; False if it is not loaded."""
        with self._lock:
            model = self.get(name)
            if model is None:
                return False
            del self._models[name]
        model.close()
        return True

    def abandon_loads(self) -> None:
        """Give up the models that are being loaded: their requests are answered at once."""
        with self._lock:
            loading = [model for model in self._models.values() if not model.loaded]
        for model in loading:
            model.abandon()

    def close(self) -> None:
        """Unload all models."""
        for model in self.loaded():
            self.unload(model.name)

    def _given_up(self, model: Model) -> None:
        self.unload(model.name)
        if not self._settings.multi_model:
            self._on_failure()
