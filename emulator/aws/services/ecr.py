"""Elastic Container Registry, as far as SDKs and deployment scripts ask.

No registry is behind it: what exists is what a training job could name (KnownImages), with a
digest made up from its name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from emulator.aws.operation import Call, Operations
from emulator.drivers.images.resolution import Presence
from emulator.model.errors import ApiError
from emulator.model.scope import Scope

CREATED = 1_514_764_800
"""When every repository and image was made, in epoch seconds: 2018-01-01."""
TOKEN_SECONDS = 12 * 3600
"""How long an authorization token is good for (API reference)."""

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


class Images(Protocol):
    """What exists."""

    def presence(self, image: str, account: str) -> Presence: ...


def operations(images: Images, clock: Callable[[], float] = time.time) -> Operations:
    """The operations of ECR, by name; `clock` gives epoch seconds."""

    def get_authorization_token(call: Call) -> dict[str, Any]:
        token = base64.b64encode(b"AWS:sagemaker-emulator").decode("ascii")
        registries = call.params.get("registryIds", [call.scope.account])
        return {
            "authorizationData": [
                {
                    "authorizationToken": token,
                    "expiresAt": int(clock()) + TOKEN_SECONDS,
                    "proxyEndpoint": f"https://{_host(call.scope, registry)}",
                }
                for registry in registries
            ]
        }

    def describe_repositories(call: Call) -> dict[str, Any]:
        registry = call.params.get("registryId", call.scope.account)
        names = call.params.get("repositoryNames", ())
        for name in names:
            _check_repository(images, call.scope, registry, name)
        return {"repositories": [_described(call.scope, registry, name) for name in names]}

    def describe_images(call: Call) -> dict[str, Any]:
        registry, name = _repository(call)
        _check_repository(images, call.scope, registry, name)
        wanted = call.params.get("imageIds", ())
        for image in wanted:
            if not _exists(images, call.scope, (registry, name), image):
                raise ApiError(
                    f"The image with imageId {{imageDigest:'{image.get('imageDigest', 'null')}', "
                    f"imageTag:'{image.get('imageTag', 'null')}'}} does not exist within the "
                    f"repository with name '{name}' in the registry with id '{registry}'",
                    code="ImageNotFoundException",
                )
        return _describe_images(registry, name, wanted)

    def batch_get_image(call: Call) -> dict[str, Any]:
        registry, name = _repository(call)
        _check_repository(images, call.scope, registry, name)
        found = [
            i for i in call.params["imageIds"] if _exists(images, call.scope, (registry, name), i)
        ]
        return {
            "images": [_got(registry, name, image) for image in found],
            "failures": [
                {
                    "imageId": image,
                    "failureCode": "ImageNotFound",
                    "failureReason": "Requested image not found",
                }
                for image in call.params["imageIds"]
                if image not in found
            ],
        }

    return {
        "DescribeRepositories": describe_repositories,
        "DescribeImages": describe_images,
        "BatchGetImage": batch_get_image,
        "GetAuthorizationToken": get_authorization_token,
    }


def _check_repository(images: Images, scope: Scope, registry: str, name: str) -> None:
    """Raise RepositoryNotFoundException."""
    found = images.presence(f"{_host(scope, registry)}/{name}:latest", scope.account)
    if found in (Presence.NO_REPOSITORY, Presence.NO_REFERENCE):
        raise ApiError(
            f"The repository with name '{name}' does not exist in the registry with id "
            f"'{registry}'",
            code="RepositoryNotFoundException",
        )


def _exists(
    images: Images, scope: Scope, repository: tuple[str, str], image: Mapping[str, str]
) -> bool:
    """Whether a repository that exists has the image; digests are made up, so it has them all."""
    if "imageDigest" in image:
        return True
    registry, name = repository
    address = f"{_host(scope, registry)}/{name}:{image.get('imageTag', 'latest')}"
    return images.presence(address, scope.account) not in (
        Presence.NO_TAG,
        Presence.NO_REPOSITORY,
        Presence.NO_REFERENCE,
    )


def _described(scope: Scope, registry: str, name: str) -> dict[str, Any]:
    owner = f"arn:{scope.partition}:ecr:{scope.region}:{registry}"
    return {
        "repositoryArn": f"{owner}:repository/{name}",
        "registryId": registry,
        "repositoryName": name,
        "repositoryUri": f"{_host(scope, registry)}/{name}",
        "createdAt": CREATED,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }


def _describe_images(
    registry: str, name: str, wanted: Iterable[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "imageDetails": [
            {
                "registryId": registry,
                "repositoryName": name,
                "imageDigest": _digest(name, image),
                "imageTags": [image["imageTag"]] if "imageTag" in image else None,
                "imageSizeInBytes": 0,
                "imagePushedAt": CREATED,
                "imageManifestMediaType": _MANIFEST_TYPE,
            }
            for image in wanted
        ]
    }


def _got(registry: str, name: str, image: Mapping[str, str]) -> dict[str, Any]:
    return {
        "registryId": registry,
        "repositoryName": name,
        "imageId": {**image, "imageDigest": _digest(name, image)},
        "imageManifest": _manifest(_digest(name, image)),
        "imageManifestMediaType": _MANIFEST_TYPE,
    }


def _repository(call: Call) -> tuple[str, str]:
    return call.params.get("registryId", call.scope.account), call.params["repositoryName"]


def _digest(repository: str, image: Mapping[str, str]) -> str:
    if "imageDigest" in image:
        return image["imageDigest"]
    name = f"{repository}:{image.get('imageTag', '')}"
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _manifest(digest: str) -> str:
    """A manifest without layers."""
    config = {"mediaType": _CONFIG_TYPE, "size": 0, "digest": digest}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": config, "layers": []}
    )


def _host(scope: Scope, registry: str) -> str:
    suffix = "amazonaws.com.cn" if scope.partition == "aws-cn" else "amazonaws.com"
    return f"{registry}.dkr.ecr.{scope.region}.{suffix}"
