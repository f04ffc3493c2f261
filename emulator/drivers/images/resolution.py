"""Which image of this machine's engine a request's image means, and how it gets here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from docker.client import DockerClient
from docker.errors import (
    APIError,
    DockerException,
    ImageNotFound,
    InvalidRepository,
    NotFound,
)

from emulator.drivers.docker.engine import ENGINE_GONE
from emulator.drivers.docker.engine_answers import records, within
from emulator.drivers.docker.requests import LABEL_GLANCE, SHELL, LocalImage
from emulator.model.errors import ClientError, InternalServerError, JobError
from emulator.model.image import read_address

CANNOT_PULL = (
    "Cannot pull algorithm container. Either the image does not exist or its permissions "
    "are incorrect."
)
"""Seen from the service."""

CPU_IMAGE = "sagemaker-emulator/pytorch-training:cpu"
GPU_IMAGE = "sagemaker-emulator/pytorch-training:gpu"
CPU_SERVING_IMAGE = "sagemaker-emulator/pytorch-inference:cpu"
GPU_SERVING_IMAGE = "sagemaker-emulator/pytorch-inference:gpu"
"""Images of this project that stand for AWS's own images with PyTorch."""
_TORCH_LABEL, _PYTHON_LABEL = "sagemaker-emulator.torch", "sagemaker-emulator.python"
"""Labels by which an image of this project says what is in it."""


LOOK_UP_SECONDS = 10.0
"""How long a request may wait for what an engine or a registry says of an image."""

# The registry API's error codes as the engine repeats them ("manifest unknown: ...").
_NO_TAG = ("manifest unknown", "manifest_unknown", "manifest for")
_NO_REPOSITORY = ("name unknown", "name_unknown", "does not exist", "requested access")


class EngineSilent(InternalServerError):
    """The engine does not answer."""


class Presence(Enum):
    """What the engine and the image's registry say of an image."""

    THERE = "the engine has it"
    PULLABLE = "its registry has it"
    NO_REPOSITORY = "its registry has no such repository, or does not show it to this machine"
    NO_TAG = "its repository has no such tag or digest"
    NO_REFERENCE = "its name cannot be the name of an image"
    UNKNOWN = "nobody can tell"
    """The engine or the registry does not answer in time, wants credentials, or the image
    stands for one of this project's that has not been built."""

    @property
    def usable(self) -> bool:
        """Whether containers can be made of it."""
        return self in (Presence.THERE, Presence.PULLABLE)


@dataclass(frozen=True)
class Choice:
    """What becomes of a request's image."""

    requested: str
    candidates: tuple[str, ...]
    """Images that stand for it here, the preferred one first; empty if it is pulled itself."""
    local: str | None
    """The one the engine has, if any."""

    @property
    def mapped(self) -> bool:
        return self.local is not None and self.local != self.requested


def choose(image: str, image_map: Mapping[str, str], has: Callable[[str], bool]) -> Choice:
    """The image itself if the engine has it, else the first one that stands for it here.

    Those of `image_map`, shell patterns of images -> images, go before this project's own.
    """
    mapped = [target for pattern, target in image_map.items() if fnmatchcase(image, pattern)]
    targets = tuple(dict.fromkeys([*mapped, *_own_images(image)]))
    return Choice(image, targets, next((name for name in (image, *targets) if has(name)), None))


def _own_images(image: str) -> tuple[str, ...]:
    """This project's images for one of AWS's, the preferred one first."""
    address = read_address(image)
    if address is None or not address.is_pytorch:
        return ()
    # A GPU image on a machine that has only the CPU one: that works as well.
    training = (GPU_IMAGE, CPU_IMAGE) if address.is_for_gpus else (CPU_IMAGE,)
    serving = (
        (GPU_SERVING_IMAGE, CPU_SERVING_IMAGE) if address.is_for_gpus else (CPU_SERVING_IMAGE,)
    )
    if address.trains and address.serves:
        # This project's image for inference trains as well; without it jobs can still train.
        return tuple(name for pair in zip(serving, training, strict=True) for name in pair)
    return serving if address.serves else training


@dataclass
class PullProgress:
    """Folds the engine's many progress records into a line for each tenth of the bytes."""

    image: str
    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    _told: int = -1

    def line(self, record: Mapping[str, Any]) -> str | None:
        """The next line to tell, or None when this record changes nothing worth telling."""
        detail = record.get("progressDetail") or {}
        if record.get("status") != "Downloading" or not detail.get("total"):
            return None
        self._layers[str(record.get("id"))] = (int(detail["current"]), int(detail["total"]))
        done = sum(current for current, _ in self._layers.values())
        total = sum(size for _, size in self._layers.values())
        tenth = 10 * done // total
        if tenth <= self._told:
            return None
        self._told = tenth
        return f"Pulling {self.image}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"


class Images:
    """The images of one engine."""

    def __init__(
        self,
        client: DockerClient,
        image_map: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ):
        """`image_map` goes before this project's own images; `labels` mark what is made."""
        self._labels = {**(labels or {}), LABEL_GLANCE: ""}
        self._client = client
        self._shells: dict[str, bool] = {}
        self._seen: set[str] = set()
        """Images that the engine had when it was last asked."""
        self._map = image_map or {}

    def choice(self, image: str) -> Choice:
        """What the image means at this moment; raises EngineSilent."""
        found = choose(image, self._map, self._has)
        if found.local:
            self._seen.add(image)
        return found

    def local(self, image: str) -> LocalImage:
        """The engine's image for it; raises ClientError if it has none."""
        name = self.choice(image).local
        found = self._inspect(name) if name else None
        if name is None or found is None:
            raise ClientError(CANNOT_PULL)
        if found["Id"] not in self._shells:
            self._shells[found["Id"]] = self._has_shell(name)
        config = found["Config"]
        entrypoint, command = (tuple(config.get(part) or ()) for part in ("Entrypoint", "Cmd"))
        return LocalImage(name, entrypoint, self._shells[found["Id"]], command)

    def look_up(
        self, image: str, *, engine_alone: bool = False, seconds: float = LOOK_UP_SECONDS
    ) -> Presence:
        """Whether the image exists; never raises, and takes `seconds` at most.

        An engine that is away is taken to have what it had when it was last asked.

        `engine_alone`: no registry is asked, such as for a registry that is only emulated;
        the engine's own images are all that there are then.
        """
        try:
            return within(seconds, lambda: self._look_up(image, engine_alone))
        except (DockerException, JobError, RuntimeError, *ENGINE_GONE):
            return Presence.THERE if image in self._seen else Presence.UNKNOWN

    def _look_up(self, image: str, engine_alone: bool) -> Presence:
        choice = self.choice(image)
        if choice.local:
            return Presence.THERE
        self._seen.discard(image)
        if engine_alone:
            return Presence.NO_TAG if self._has_repository(image) else Presence.NO_REPOSITORY
        if choice.candidates:
            return Presence.UNKNOWN
        try:
            self._client.api.inspect_distribution(image)
        except InvalidRepository:
            return Presence.NO_REFERENCE
        except APIError as error:
            return presence_in(error.status_code, str(error.explanation))
        return Presence.PULLABLE

    def _has_repository(self, image: str) -> bool:
        """Whether the engine has the repository under any tag."""
        return bool(self._client.api.images(repository_of(image), quiet=True))

    def prepare(
        self, image: str, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        """Make the image available, by a pull if need be; raises JobError.

        The pull is given up when `cancelled()` turns true.
        """
        choice = self.choice(image)
        if choice.mapped:
            say(self._stand_in(image, choice.local or ""))
        elif choice.candidates and choice.local is None:
            folder = choice.candidates[-1].rpartition("/")[2].partition(":")[0]
            say(
                f"{image} is {' or '.join(choice.candidates)} here, which the engine does not "
                f"have: make it with `sagemaker-emulator images build {folder}`"
            )
            raise ClientError(CANNOT_PULL)
        elif choice.local is None:
            self._pull(image, say, cancelled)

    def _stand_in(self, image: str, local: str) -> str:
        """What was asked for and what runs, with the versions of both as far as they are known."""
        address, found = read_address(image), self._inspect(local)
        labels = (found or {}).get("Config", {}).get("Labels") or {}
        has = [
            f"{name} {labels[label]}"
            for name, label in (("PyTorch", _TORCH_LABEL), ("Python", _PYTHON_LABEL))
            if label in labels
        ]
        asked = f" ({address.contents})" if address and address.contents else ""
        there = f" ({', '.join(has)})" if has else ""
        return f"The image asked for is {image}{asked}; {local}{there} runs in its place."

    def _has(self, image: str) -> bool:
        return self._inspect(image) is not None

    def _inspect(self, image: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._client.api.inspect_image(image)
        except ImageNotFound:
            return None
        except APIError as error:
            if error.status_code == 400:  # not a name that an image can have
                return None
            raise InternalServerError(f"The Docker engine refuses: {error.explanation}") from error
        except ENGINE_GONE as error:
            raise EngineSilent(f"The Docker engine does not answer: {error}") from error
        return found

    def _has_shell(self, name: str) -> bool:
        """Looks into a container that is never started."""
        container = self._client.api.create_container(name, ["-"], labels=self._labels)["Id"]
        try:
            stream, _ = self._client.api.get_archive(container, SHELL)
            stream.close()
        except NotFound:
            return False
        finally:
            self._client.api.remove_container(container)
        return True

    def _pull(self, image: str, say: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
        say(f"Pulling {image}")
        progress = PullProgress(image)
        try:
            for line in self._pull_lines(image, progress, cancelled):
                say(line)
        except (NotFound, APIError) as error:
            say(f"Pulling {image}: {error.explanation}")
            raise ClientError(CANNOT_PULL) from error
        except TimeoutError as error:
            raise InternalServerError(f"The Docker engine says no more: {error}") from error
        except (DockerException, *ENGINE_GONE) as error:
            raise EngineSilent(f"The Docker engine does not answer: {error}") from error
        if cancelled():
            return
        if not self._has(image):
            raise ClientError(CANNOT_PULL)
        say(f"Pulled {image}")

    def _pull_lines(
        self, image: str, progress: PullProgress, cancelled: Callable[[], bool]
    ) -> Iterable[str]:
        # Without a tag the API would pull every one of the repository.
        name = image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
        for record in records(
            lambda: self._client.api.pull(name, stream=True, decode=True), cancelled
        ):
            if "error" in record:
                yield f"Pulling {image}: {record['error']}"
                return
            if line := progress.line(record):
                yield line


def presence_in(status: int | None, refusal: str) -> Presence:
    """What it means that an engine refuses to describe an image of a registry. Pure."""
    said = refusal.lower()
    if status == 400 and "reference" in said:
        return Presence.NO_REFERENCE
    if any(words in said for words in _NO_TAG):
        return Presence.NO_TAG
    if any(words in said for words in _NO_REPOSITORY):
        return Presence.NO_REPOSITORY
    return Presence.UNKNOWN


def repository_of(image: str) -> str:
    """The image's name without its tag and digest. Pure."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
