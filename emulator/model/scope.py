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

    def training_job_arn(self, name: str) -> str:
        """The ARN of a training job; AWS lower-cases the name in it."""
        owner = f"arn:{self.partition}:sagemaker:{self.region}:{self.account}"
        return f"{owner}:training-job/{name.lower()}"
