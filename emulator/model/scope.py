"""The account and region a request speaks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Scope:
    """Jobs, logs and roles of one scope are invisible to every other one."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        """The ARN partition the region belongs to."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a resource of SageMaker's; AWS lower-cases the name in it."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"
