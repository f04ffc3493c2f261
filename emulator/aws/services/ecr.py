"""Elastic Container Registry, as far as SDKs and deployment scripts ask.

No registry is behind it: every repository and image that is named exists, with a digest
made up from its name. Which images a job can really use is the runtime's affair.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.model.scope import Scope

CREATED = 1_514_764_800
"""When every repository and image was made, in epoch seconds: 2018-01-01."""
TOKEN_SECONDS = 12 * 3600
"""How long an authorization token is good for (API reference)."""

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


def operations(clock: Callable[[], float] = time.time) -> Operations:
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

    return {
        "DescribeRepositories": _describe_repositories,
        "DescribeImages": _describe_images,
        "BatchGetImage": _batch_get_image,
        "GetAuthorizationToken": get_authorization_token,
    }


def _describe_repositories(call: Call) -> dict[str, Any]:
    registry = call.params.get("registryId", call.scope.account)
    owner = f"arn:{call.scope.partition}:ecr:{call.scope.region}:{registry}"
    return {
        "repositories": [
            {
                "repositoryArn": f"{owner}:repository/{name}",
                "registryId": registry,
                "repositoryName": name,
                "repositoryUri": f"{_host(call.scope, registry)}/{name}",
                "createdAt": CREATED,
                "imageTagMutability": "MUTABLE",
                "imageScanningConfiguration": {"scanOnPush": False},
                "encryptionConfiguration": {"encryptionType": "AES256"},
            }
            for name in call.params.get("repositoryNames", ())
        ]
    }


def _describe_images(call: Call) -> dict[str, Any]:
    registry, name = _repository(call)
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
            for image in call.params.get("imageIds", ())
        ]
    }


def _batch_get_image(call: Call) -> dict[str, Any]:
    registry, name = _repository(call)
    return {
        "images": [
            {
                "registryId": registry,
                "repositoryName": name,
                "imageId": {**image, "imageDigest": _digest(name, image)},
                "imageManifest": _manifest(_digest(name, image)),
                "imageManifestMediaType": _MANIFEST_TYPE,
            }
            for image in call.params["imageIds"]
        ],
        "failures": [],
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
