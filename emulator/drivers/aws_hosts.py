"""Which of AWS's own hosts a job reaches through its way out. Pure.

Clients that read AWS_ENDPOINT_URL ask the emulator. What names AWS's hosts itself would reach the
real service with the emulator's credentials: the SDKs' telemetry and their STS client, for example.
Public data and packages are another matter: torchvision loads MNIST from S3.
"""

from __future__ import annotations

import re
from typing import Literal

Reach = Literal["data", "all", "none"]
"""Hosts of data, packages and servers of users; all; none."""

TELEMETRY = re.compile(r"sm-pysdk-t-[a-z0-9-]+\.s3\.[a-z0-9-]+\.amazonaws\.com")
"""Where both SageMaker SDKs tell AWS how they are used."""
_AWS = re.compile(r"(.+\.)?(amazonaws\.com(\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)")
_DATA = re.compile(
    r"((.+\.)?s3([.-][a-z0-9-]+)*"  # buckets, also as websites
    r"|.+\.d\.codeartifact\.[a-z0-9-]+"  # package indexes
    r"|.+\.(elb|rds|compute(-1)?)"  # what users run themselves
    r"|.+\.execute-api\.[a-z0-9-]+)"
    r"\.amazonaws\.com(\.cn)?"
)


def sdk_hosts(region: str) -> tuple[str, ...]:
    """What both SageMaker SDKs ask whatever AWS_ENDPOINT_URL says."""
    telemetry = f"sm-pysdk-t-{region}.s3.{region}.amazonaws.com"
    return (f"sts.{region}.amazonaws.com", "sts.amazonaws.com", telemetry)


def refusal(host: str, reach: Reach) -> str:
    """Why a job does not reach that host; "" if it does."""
    host = host.rstrip(".")
    if reach == "all" or not _AWS.fullmatch(host):
        return ""
    if reach == "data" and _DATA.fullmatch(host) and not TELEMETRY.fullmatch(host):
        return ""
    return (
        f"{host} is AWS itself. Jobs reach the emulator at AWS_ENDPOINT_URL; with the setting "
        "EMULATOR_JOBS_REACH_AWS=all they reach AWS, too."
    )
