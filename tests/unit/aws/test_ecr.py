"""What SDKs ask a registry."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services.ecr import operations
from emulator.drivers.images.resolution import Presence
from emulator.model.errors import ApiError
from emulator.model.scope import Scope


class Registry:
    """Has the tags 1 and 2 of two repositories."""

    def presence(self, image: str, account: str) -> Presence:  # noqa: ARG002
        name, _, tag = image.partition("/")[2].partition(":")
        if name not in ("train", "team/train"):
            return Presence.NO_REPOSITORY
        return Presence.THERE if tag in ("1", "2") else Presence.NO_TAG


def ask(operation: str, region: str = "us-east-1", **params: Any) -> Any:
    scope = Scope("123456789012", region)
    return operations(Registry(), clock=lambda: 10.0)[operation](Call(scope, params))


def test_a_token_is_for_the_registry_that_is_asked_for() -> None:
    [data] = ask("GetAuthorizationToken", registryIds=["763104351884"])["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    assert data["proxyEndpoint"] == "https://763104351884.dkr.ecr.us-east-1.amazonaws.com"
    assert data["expiresAt"] == 10 + 12 * 3600
    [own] = ask("GetAuthorizationToken", "cn-north-1")["authorizationData"]
    assert own["proxyEndpoint"] == "https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"


def test_a_repository() -> None:
    [found] = ask("DescribeRepositories", repositoryNames=["team/train"])["repositories"]
    assert found["repositoryArn"] == "arn:aws:ecr:us-east-1:123456789012:repository/team/train"
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert found["repositoryUri"] == f"{host}/team/train"
    assert ask("DescribeRepositories") == {"repositories": []}


def test_an_image_has_one_digest() -> None:
    image = {"repositoryName": "train", "imageIds": [{"imageTag": "1"}]}
    [detail] = ask("DescribeImages", **image)["imageDetails"]
    [got] = ask("BatchGetImage", **image)["images"]
    assert got["imageId"] == {"imageTag": "1", "imageDigest": detail["imageDigest"]}
    assert json.loads(got["imageManifest"])["schemaVersion"] == 2
    other = {"repositoryName": "train", "imageIds": [{"imageTag": "2"}]}
    assert ask("DescribeImages", **other)["imageDetails"][0]["imageDigest"] != detail["imageDigest"]
    known = {"repositoryName": "train", "imageIds": [{"imageDigest": "sha256:abc"}]}
    [by_digest] = ask("DescribeImages", **known)["imageDetails"]
    assert (by_digest["imageDigest"], by_digest["imageTags"]) == ("sha256:abc", None)


@pytest.mark.parametrize("operation", ["DescribeRepositories", "DescribeImages", "BatchGetImage"])
def test_a_repository_that_does_not_exist(operation: str) -> None:
    named = (
        {"repositoryNames": ["none"]}
        if operation == "DescribeRepositories"
        else {"repositoryName": "none", "imageIds": [{"imageTag": "1"}]}
    )
    with pytest.raises(ApiError, match="'none' does not exist in the registry") as error:
        ask(operation, **named)
    assert error.value.code == "RepositoryNotFoundException"


def test_an_image_that_does_not_exist() -> None:
    wanted = {"repositoryName": "train", "imageIds": [{"imageTag": "1"}, {"imageTag": "9"}]}
    with pytest.raises(ApiError, match="imageTag:'9'") as error:
        ask("DescribeImages", **wanted)
    assert error.value.code == "ImageNotFoundException"
    answer = ask("BatchGetImage", **wanted)
    assert [image["imageId"]["imageTag"] for image in answer["images"]] == ["1"]
    [failure] = answer["failures"]
    assert (failure["imageId"], failure["failureCode"]) == ({"imageTag": "9"}, "ImageNotFound")
