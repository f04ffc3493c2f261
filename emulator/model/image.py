"""The address of a container image, and what of AWS's own images is known. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

_ADDRESS = re.compile(  # the grammar of image references, as every container engine has it
    r"(?:(?P<registry>(?=[^/]*[.:]|localhost/)[a-zA-Z0-9][a-zA-Z0-9.-]*(?::[0-9]+)?)/)?"
    r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-zA-Z][a-zA-Z0-9]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_ECR = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_PUBLIC = "public.ecr.aws/deep-learning-containers"
_BOTH = "pytorch"
"""AWS's images since PyTorch 2.11, for training and for inference."""
_TRAINING, _INFERENCE = "pytorch-training", "pytorch-inference"
_PYTORCH = (_BOTH, _TRAINING, _INFERENCE)
_OTHERS = (
    "huggingface-pytorch-inference",
    "huggingface-pytorch-training",
    "sagemaker-base-python-*",
    "sagemaker-distribution-prod",
    "sagemaker-scikit-learn",
)
"""Repositories whose jobs a Python environment with PyTorch can run; of several accounts."""
# pytorch-2.13-cu133-amzn2023-sagemaker, pytorch-training:2.2.0-gpu-py310-cu121-ubuntu20.04
_GPU_TAG = re.compile(r"(.*-)?(gpu|cu\d+)(-.*)?")
_FRAMEWORK = re.compile(r"(\d+\.\d+(?:\.\d+)?)(?:-.*)?")
_PYTHON = re.compile(r".*-py(\d)(\d+)(?:-.*)?")

DLC_ACCOUNTS = frozenset(
    """
    094389454867 124382933778 204133271717 204538143572 217643126080 303241398832 364406365360
    371248457586 380420809688 442386744353 446045086412 454834333376 457447274322 503227376785
    550225433462 590183813437 626614931356 633930458069 637423239942 692866216735 727897471807
    763104351884 772153158452 780543022126 871362719292 886529160074 907027046896 914824155844
    975050140332
    """.split()  # noqa: SIM905 - readable
)
"""Accounts of AWS's deep learning containers, one or more a region (the SDKs' own tables)."""


@dataclass(frozen=True)
class ImageAddress:
    """What an image reference consists of."""

    registry: str
    """Host and port; "" for Docker Hub and for images that have only a local name."""
    repository: str
    tag: str
    digest: str

    @property
    def account(self) -> str | None:
        """The account of a private ECR registry; None elsewhere."""
        match = _ECR.fullmatch(self.registry)
        return match[1] if match else None

    def stands_in(self, own_account: str) -> bool:
        """Whether it is an image of AWS (or of this project) that a stand-in is made for."""
        if self.registry == "" and self.repository.startswith("sagemaker-emulator/"):
            return True
        if self.is_pytorch:
            return True
        others = any(fnmatchcase(self.repository, pattern) for pattern in _OTHERS)
        return others and self.account not in (None, own_account)

    @property
    def is_pytorch(self) -> bool:
        """Whether it is AWS's own image for training or inference with PyTorch."""
        if self.account in DLC_ACCOUNTS:
            return self.repository in _PYTORCH
        registry, _, name = f"{self.registry}/{self.repository}".rpartition("/")
        return registry == _PUBLIC and name in _PYTORCH

    @property
    def trains(self) -> bool:
        """Whether one of AWS's images with PyTorch is made for training."""
        return self.repository.rpartition("/")[2] in (_BOTH, _TRAINING)

    @property
    def serves(self) -> bool:
        """Whether one of AWS's images with PyTorch is made for inference."""
        return self.repository.rpartition("/")[2] in (_BOTH, _INFERENCE)

    @property
    def is_for_gpus(self) -> bool:
        """Whether the tag of one of AWS's images says so."""
        return _GPU_TAG.fullmatch(self.tag) is not None

    @property
    def contents(self) -> str:
        """What the tag of one of AWS's images says is in it; "" if that cannot be told."""
        if not self.is_pytorch:
            return ""
        version, python = _FRAMEWORK.fullmatch(self.tag), _PYTHON.fullmatch(self.tag)
        named = [f"PyTorch {version[1]}"] if version else []
        return ", ".join([*named, *([f"Python {python[1]}.{python[2]}"] if python else [])])


def read_address(image: str) -> ImageAddress | None:
    """The parts of an image reference; None for a text that is none."""
    match = _ADDRESS.fullmatch(image)
    if match is None:
        return None
    return ImageAddress(
        *(match[part] or "" for part in ("registry", "repository", "tag", "digest"))
    )
