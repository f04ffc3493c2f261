"""Security Token Service: who the caller is, and a role's credentials."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.settings import Settings

SESSION = "sagemaker-emulator"
DEFAULT_DURATION = 3600
"""Seconds that AssumeRole's credentials last unless asked otherwise (API reference)."""

_ROLE_ID = "AROAEMULATOREXAMPLE1"


def operations(settings: Settings, clock: Callable[[], float] = time.time) -> Operations:
    """The operations of STS, by name; `clock` gives epoch seconds."""

    def get_caller_identity(call: Call) -> dict[str, Any]:
        # An assumed role, because the SDK's get_execution_role() makes a role's ARN of it
        # and refuses a user's.
        role = settings.role_arn.rpartition("/")[2]
        return {
            "UserId": f"{_ROLE_ID}:{SESSION}",
            "Account": settings.account,
            "Arn": _assumed(call.scope.partition, settings.account, role, SESSION),
        }

    def assume_role(call: Call) -> dict[str, Any]:
        """Credentials of the object store, whatever the role: they open everything here.

        The token is made up; S3 requests that carry one are accepted with any.
        """
        arn = call.params["RoleArn"].split(":")
        account = arn[4] if len(arn) > 4 and arn[4] else settings.account
        role = call.params["RoleArn"].rpartition("/")[2]
        session = call.params["RoleSessionName"]
        return {
            "Credentials": {
                "AccessKeyId": settings.access_key,
                "SecretAccessKey": settings.secret_key.get_secret_value(),
                "SessionToken": "sagemaker-emulator-session-token",
                "Expiration": int(clock()) + call.params.get("DurationSeconds", DEFAULT_DURATION),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{_ROLE_ID}:{session}",
                "Arn": _assumed(call.scope.partition, account, role, session),
            },
            "SourceIdentity": call.params.get("SourceIdentity"),
        }

    return {"GetCallerIdentity": get_caller_identity, "AssumeRole": assume_role}


def _assumed(partition: str, account: str, role: str, session: str) -> str:
    return f"arn:{partition}:sts::{account}:assumed-role/{role}/{session}"
