"""The kinds of jobs that the commands know, and what each calls its members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JobKind:
    """Training or processing; the members of its answers begin with that word."""

    word: str

    @property
    def noun(self) -> str:
        return f"{self.word.lower()} job"

    @property
    def log_group(self) -> str:
        return f"/aws/sagemaker/{self.word}Jobs"

    @property
    def admin_path(self) -> str:
        """Below it are the emulator's own routes for such jobs."""
        return f"/{self.word.lower()}-jobs"

    @property
    def v1_path(self) -> str:
        """Below it, what pages show of such jobs (docs/page.md)."""
        return f"/v1/jobs/{self.word.lower()}-job"

    def named(self, job: str) -> dict[str, str]:
        """The member of a request that says which job is meant."""
        return {f"{self.word}JobName": job}

    def name(self, described: dict[str, Any]) -> str:
        return str(described[f"{self.word}JobName"])

    def status(self, described: dict[str, Any]) -> str:
        return str(described[f"{self.word}JobStatus"])

    def instances(self, described: dict[str, Any]) -> int:
        """How many instances the job has."""
        if self is PROCESSING:
            return int(described["ProcessingResources"]["ClusterConfig"]["InstanceCount"])
        resources = described["ResourceConfig"]
        groups = resources.get("InstanceGroups") or [resources]
        return sum(group.get("InstanceCount", 1) for group in groups)


TRAINING = JobKind("Training")
PROCESSING = JobKind("Processing")
KINDS = (TRAINING, PROCESSING)


def kind_of(described: dict[str, Any]) -> JobKind:
    """Of a job, as Describe or List shows it."""
    return PROCESSING if "ProcessingJobName" in described else TRAINING
