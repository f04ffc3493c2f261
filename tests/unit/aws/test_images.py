"""Which training images CreateTrainingJob takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from emulator.aws.images import INVALID, KnownImages
from emulator.drivers.images.resolution import Presence
from emulator.model.errors import ValidationError
from emulator.settings import Settings

ACCOUNT = "123456789012"
OWN = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"
AWS = "763104351884.dkr.ecr.us-west-2.amazonaws.com"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/R"


@dataclass(frozen=True)
class Engine:
    """Says of each image what it was told to; of others that nobody can tell."""

    has_engine: bool = True
    may_stand_in: bool = True
    found: dict[str, Presence] = field(default_factory=dict)

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence:
        if engine_alone:
            assert image.startswith(OWN)
        return self.found.get(image, Presence.UNKNOWN)


NOTHING = Engine(has_engine=False)
AUTO = Engine(
    found={
        f"{OWN}/mine:1": Presence.THERE,
        f"{OWN}/mine:2": Presence.NO_TAG,
        f"{OWN}/none:1": Presence.NO_REPOSITORY,
        "hub/there:1": Presence.PULLABLE,
        "my-own-image:latest": Presence.NO_REPOSITORY,
    }
)
DOCKER = replace(AUTO, may_stand_in=False)


def check(image: str, engine: Engine, **settings: object) -> None:
    KnownImages(Settings(**settings), engine).check(image, ACCOUNT, ROLE)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", [NOTHING, AUTO, DOCKER])
@pytest.mark.parametrize(
    "image",
    [
        f"{AWS}/pytorch-training:2.2.0-gpu-py310",
        f"{AWS}/pytorch-inference:2.6.0-cpu-py312",
        f"{AWS}/pytorch:2.13-cu133-amzn2023-sagemaker",
        "public.ecr.aws/deep-learning-containers/pytorch:2.13-cpu-amzn2023-sagemaker",
        "sagemaker-emulator/pytorch-training:cpu",
    ],
)
def test_what_a_stand_in_is_made_for_exists(engine: Engine, image: str) -> None:
    check(image, engine)


@pytest.mark.parametrize("engine", [NOTHING, AUTO, DOCKER])
@pytest.mark.parametrize("image", ["", "UPPER/case", "a//b", "a:b:c", "https://a/b", "a b", "a\n"])
def test_what_is_no_reference_is_refused(engine: Engine, image: str) -> None:
    with pytest.raises(ValidationError, match=INVALID):
        check(image, engine)


@pytest.mark.parametrize("engine", [NOTHING, AUTO, DOCKER])
def test_a_repository_of_the_own_account_that_does_not_exist(engine: Engine) -> None:
    with pytest.raises(ValidationError) as error:
        check(f"{OWN}/none:1", engine)
    assert str(error.value).startswith(
        f"Cannot find repository: none in registry ID: {ACCOUNT} Please check if your ECR "
        f"repository exists and role {ROLE} has proper pull permissions for SageMaker: "
        "ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer."
    )
    assert "EMULATOR_IMAGES" in str(error.value)


def test_the_own_accounts_pytorch_is_none_of_awss() -> None:
    with pytest.raises(ValidationError, match="Cannot find repository: pytorch-training in"):
        check(f"{OWN}/pytorch-training:1", NOTHING)


@pytest.mark.parametrize("engine", [AUTO, DOCKER])
def test_what_the_engine_has_or_can_pull_exists(engine: Engine) -> None:
    check(f"{OWN}/mine:1", engine)
    check("hub/there:1", engine)


@pytest.mark.parametrize("engine", [AUTO, DOCKER])
def test_a_tag_that_does_not_exist(engine: Engine) -> None:
    with pytest.raises(ValidationError, match=f"^Cannot find the requested image: {OWN}/mine:2"):
        check(f"{OWN}/mine:2", engine)


@pytest.mark.parametrize("engine", [NOTHING, AUTO])
@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("my-own-image:latest", "Cannot find the requested image: my-own-image:latest"),
        (f"{AWS}/tensorflow-training:2.18.0-cpu-py310", "for repository|Cannot find repository"),
    ],
)
def test_nothing_else_gets_a_stand_in(engine: Engine, image: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        check(image, engine)


def test_what_nobody_can_look_up_is_left_to_the_pull_in_containers() -> None:
    check(f"{AWS}/tensorflow-training:2.18.0-cpu-py310", DOCKER)


@pytest.mark.parametrize("engine", [NOTHING, AUTO, DOCKER])
def test_the_settings_say_what_else_exists(engine: Engine) -> None:
    check(f"{OWN}/none:1", engine, images=("*/none:*",))
    check(f"{OWN}/none:1", engine, image_map={"*/none:1": "mine:1"})
    check("anything", engine, images=("*",))


@pytest.mark.parametrize("engine", [NOTHING, AUTO])
def test_a_pattern_is_for_what_it_matches(engine: Engine) -> None:
    with pytest.raises(ValidationError):
        check(f"{OWN}/none:2", engine, images=("*/none:1",))


def test_a_repository_exists_by_any_of_its_tags() -> None:
    images = KnownImages(Settings(images=(f"{OWN}/known:1",)), NOTHING)
    assert images.presence(f"{OWN}/known:latest", ACCOUNT) is Presence.NO_TAG
    assert images.presence(f"{OWN}/other:latest", ACCOUNT) is Presence.NO_REPOSITORY
