"""Identity and Access Management, as far as the SDKs ask: every role exists and may do all."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from emulator.aws.operation import Call, Operations
from emulator.settings import Settings

CREATED = 1_514_764_800
"""When every role was created, in epoch seconds: 2018-01-01."""

# SDK v3 looks for SageMaker in it before it trains.
_TRUST_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def operations(settings: Settings) -> Operations:
    """The operations of IAM, by name."""

    def get_role(call: Call) -> dict[str, Any]:
        name = call.params["RoleName"]
        default = settings.role_arn
        arn = f"arn:{call.scope.partition}:iam::{settings.account}:role/{name}"
        if default.rpartition("/")[2] == name:
            arn = default
        return {
            "Role": {
                "Path": arn.partition(":role")[2].removesuffix(name) or "/",
                "RoleName": name,
                "RoleId": "AROAEMULATOREXAMPLE1",
                "Arn": arn,
                "CreateDate": CREATED,
                # IAM sends policies URL-encoded (API reference); botocore decodes them.
                "AssumeRolePolicyDocument": quote(json.dumps(_TRUST_POLICY), safe=""),
                "MaxSessionDuration": 3600,
            }
        }

    def simulate_principal_policy(call: Call) -> dict[str, Any]:
        return {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": "allowed",
                    "MatchedStatements": [],
                    "MissingContextValues": [],
                }
                for action in call.params["ActionNames"]
                for resource in call.params.get("ResourceArns", ["*"])
            ],
            "IsTruncated": False,
        }

    return {"GetRole": get_role, "SimulatePrincipalPolicy": simulate_principal_policy}
