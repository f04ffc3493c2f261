"""Security Token Service: who the caller is, and a role's credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from emulator.aws.accounts import account_of, is_account
from emulator.aws.operation import Call, Operations
from emulator.settings import Settings

SESSION = "sagemaker-emulator"
DEFAULT_DURATION = 3600
"""Seconds that AssumeRole's credentials last unless asked otherwise (API reference)."""
SESSION_DURATION = 12 * 3600
"""The same of GetSessionToken (API reference)."""

_ROLE_ID = "AROAEMULATOREXAMPLE1"


def operations(settings: Settings, clock: Callable[[], float] = time.time) -> Operations:
    """The operations of STS, by name; `clock` gives epoch seconds."""

    def credentials(account: str, params: Mapping[str, Any], seconds: int) -> dict[str, Any]:
        """Temporary credentials that speak for an account."""
        return {
            "AccessKeyId": settings.access_key if account == settings.account else account,
            "SecretAccessKey": settings.secret_key.get_secret_value(),
            "SessionToken": "sagemaker-emulator-session-token",
            "Expiration": int(clock()) + params.get("DurationSeconds", seconds),
        }

    def get_caller_identity(call: Call) -> dict[str, Any]:
        # An assumed role, because the SDK's get_execution_role() makes a role's ARN of it
        # and refuses a user's.
        role = settings.role_arn.rpartition("/")[2]
        account = call.scope.account
        return {
            "UserId": f"{_ROLE_ID}:{SESSION}",
            "Account": account,
            "Arn": _assumed(call.scope.partition, account, role, SESSION),
        }

    def assume_role(call: Call) -> dict[str, Any]:
        """Credentials of the role's account, whatever the role: they open everything there.

        The token is made up; S3 requests that carry one are accepted with any.
        """
        arn = call.params["RoleArn"].split(":")
        account = arn[4] if len(arn) > 4 and is_account(arn[4]) else call.scope.account
        role = call.params["RoleArn"].rpartition("/")[2]
        session = call.params["RoleSessionName"]
        return {
            "Credentials": credentials(account, call.params, DEFAULT_DURATION),
            "AssumedRoleUser": {
                "AssumedRoleId": f"{_ROLE_ID}:{session}",
                "Arn": _assumed(call.scope.partition, account, role, session),
            },
            "SourceIdentity": call.params.get("SourceIdentity"),
        }

    def get_access_key_info(call: Call) -> dict[str, Any]:
        return {"Account": account_of(call.params["AccessKeyId"], settings.account)}

    def get_session_token(call: Call) -> dict[str, Any]:
        return {"Credentials": credentials(call.scope.account, call.params, SESSION_DURATION)}

    return {
        "GetCallerIdentity": get_caller_identity,
        "GetAccessKeyInfo": get_access_key_info,
        "GetSessionToken": get_session_token,
        "AssumeRole": assume_role,
    }


def _assumed(partition: str, account: str, role: str, session: str) -> str:
    return f"arn:{partition}:sts::{account}:assumed-role/{role}/{session}"
