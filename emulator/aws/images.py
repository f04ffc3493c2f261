"""Which images exist: AWS's own, those of the settings, and those of the engine."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Protocol

from emulator.drivers.images.resolution import Presence
from emulator.model.errors import ValidationError
from emulator.model.image import ImageAddress, read_address
from emulator.resources.hosting.words import no_image
from emulator.settings import Settings

INVALID = (
    "Invalid training image. Please provide a valid Amazon Elastic Container Registry path of "
    "the Docker image to run."
)
"""Seen from the service."""


class Engine(Protocol):
    """Where images are looked up."""

    @property
    def has_engine(self) -> bool:
        """Whether there is anybody to ask."""
        ...

    @property
    def may_stand_in(self) -> bool:
        """Whether a job can run without its image, in the process runtime."""
        ...

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence: ...


class KnownImages:
    """Decides whether an image exists, for jobs, models and ECR.

    The registry of the caller's own account is only emulated: what the engine has is in it.
    Without an engine nobody knows, and only the settings say what exists.
    """

    def __init__(self, settings: Settings, engine: Engine):
        self._declared = (*settings.images, *settings.image_map)
        self._engine = engine

    def presence(self, image: str, account: str) -> Presence:
        """What is known of the image, for a caller of that account."""
        address = read_address(image)
        if address is None:
            return Presence.NO_REFERENCE
        if self._is_declared(image) or address.stands_in(account):
            return Presence.THERE
        if not self._engine.has_engine:
            return Presence.NO_TAG if self._has_repository(address) else Presence.NO_REPOSITORY
        return self._engine.look_up(image, engine_alone=address.account == account)

    def check(self, image: str, account: str, role: str, noun: str = "training") -> None:
        """Raise ValidationError, as CreateTrainingJob does, for an image that does not exist.

        What cannot be looked up passes where the job is sure to run in that image, or to fail
        for the lack of it.
        """
        found = self.presence(image, account)
        if self._may_run(found):
            return
        address = read_address(image)
        if address is None or found is Presence.NO_REFERENCE:
            raise ValidationError(INVALID.replace("training", noun))
        raise ValidationError(f"{_refusal(address, image, found, role)} {self._remedy()}")

    def check_for_model(self, image: str, account: str) -> None:
        """The same for CreateModel, whose words are others."""
        if not self._may_run(self.presence(image, account)):
            raise ValidationError(f"{no_image(image)} {self._remedy()}")

    def _may_run(self, found: Presence) -> bool:
        return found.usable or (found is Presence.UNKNOWN and not self._engine.may_stand_in)

    def _is_declared(self, image: str) -> bool:
        return any(fnmatchcase(image, pattern) for pattern in self._declared)

    def _has_repository(self, address: ImageAddress) -> bool:
        name = f"{address.registry}/{address.repository}"
        return any(
            fnmatchcase(name, pattern.partition("@")[0].rpartition(":")[0])
            for pattern in self._declared
        )

    def _remedy(self) -> str:
        if not self._engine.has_engine:
            how = "there is no Docker engine that could have it"
        else:
            how = "the Docker engine of this machine neither has it nor can pull it"
        then = "EMULATOR_PYTHON" if self._engine.may_stand_in else "the engine, if it can pull it"
        return (
            f"(sagemaker-emulator: {how}. Name it in EMULATOR_IMAGES, a JSON list of patterns, "
            f"to accept it, or '[\"*\"]' to accept any; {then} runs such jobs.)"
        )


def _refusal(address: ImageAddress, image: str, found: Presence, role: str) -> str:
    """Seen from the service, but for what follows the image's name."""
    permissions = (
        f"role {role} has proper pull permissions for SageMaker: "
        "ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer"
    )
    registry = f"{address.repository} in registry ID: {address.account}"
    if address.account and found is Presence.NO_REPOSITORY:
        return (
            f"Cannot find repository: {registry} "
            f"Please check if your ECR repository exists and {permissions}."
        )
    if address.account and found is Presence.UNKNOWN:
        return (
            f"Access denied for repository: {registry}. "
            f"Please check if your ECR repository and image exist and {permissions}."
        )
    return (
        f"Cannot find the requested image: {image}. "
        f"Please check if your image exists and {permissions}."
    )
