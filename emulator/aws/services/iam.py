"""Identity and Access Management, as far as the SDKs ask: roles, and that they may do all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from emulator.aws.operation import Call, Handler, Operations
from emulator.aws.roles import CREATED, Role, Roles
from emulator.settings import Settings

__all__ = ["CREATED", "operations"]

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


def operations(settings: Settings, roles: Roles | None = None) -> Operations:
    """The operations of IAM, by name."""
    known = roles or Roles(settings)
    return {
        **_role_operations(known),
        **_policy_operations(known),
        "SimulatePrincipalPolicy": _simulate_principal_policy,
    }


def _role_operations(roles: Roles) -> Mapping[str, Handler]:
    def get_role(call: Call) -> dict[str, Any]:
        return {"Role": _members(roles.get(call.scope, call.params["RoleName"]))}

    def create_role(call: Call) -> dict[str, Any]:
        params = call.params
        role = roles.create(
            call.scope,
            params["RoleName"],
            params.get("Path", "/"),
            params["AssumeRolePolicyDocument"],
            description=params.get("Description"),
        )
        role = roles.change(call.scope, role.name, lambda it: _tagged(it, params.get("Tags", ())))
        return {"Role": _members(role)}

    def delete_role(call: Call) -> None:
        roles.delete(call.scope, call.params["RoleName"])

    def list_roles(call: Call) -> dict[str, Any]:
        prefix = call.params.get("PathPrefix", "/")
        found = [role for role in roles.of(call.scope) if role.path.startswith(prefix)]
        return {"Roles": [_members(role) for role in found], "IsTruncated": False}

    def list_role_tags(call: Call) -> dict[str, Any]:
        role = roles.get(call.scope, call.params["RoleName"])
        return {"Tags": [{"Key": k, "Value": v} for k, v in role.tags], "IsTruncated": False}

    def tag_role(call: Call) -> None:
        tags = call.params["Tags"]
        roles.change(call.scope, call.params["RoleName"], lambda role: _tagged(role, tags))

    return {
        "GetRole": get_role,
        "CreateRole": create_role,
        "DeleteRole": delete_role,
        "ListRoles": list_roles,
        "ListRoleTags": list_role_tags,
        "TagRole": tag_role,
    }


def _policy_operations(roles: Roles) -> Mapping[str, Handler]:
    def attach_role_policy(call: Call) -> None:
        arn = call.params["PolicyArn"]

        def step(role: Role) -> Role:
            return replace(role, policies=tuple(dict.fromkeys((*role.policies, arn))))

        roles.change(call.scope, call.params["RoleName"], step)

    def detach_role_policy(call: Call) -> None:
        arn = call.params["PolicyArn"]

        def step(role: Role) -> Role:
            return replace(role, policies=tuple(one for one in role.policies if one != arn))

        roles.change(call.scope, call.params["RoleName"], step)

    def list_attached_role_policies(call: Call) -> dict[str, Any]:
        role = roles.get(call.scope, call.params["RoleName"])
        attached = [
            {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in role.policies
        ]
        return {"AttachedPolicies": attached, "IsTruncated": False}

    return {
        "AttachRolePolicy": attach_role_policy,
        "DetachRolePolicy": detach_role_policy,
        "ListAttachedRolePolicies": list_attached_role_policies,
    }


def _simulate_principal_policy(call: Call) -> dict[str, Any]:
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


def _members(role: Role) -> dict[str, Any]:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": f"AROA{hashlib.sha256(role.arn.encode()).hexdigest()[:17].upper()}",
        "Arn": role.arn,
        "CreateDate": role.created,
        # IAM sends policies URL-encoded (API reference); botocore decodes them.
        "AssumeRolePolicyDocument": quote(role.trust or json.dumps(_TRUST_POLICY), safe=""),
        "Description": role.description,
        "MaxSessionDuration": 3600,
    }


def _tagged(role: Role, tags: Any) -> Role:
    values = {**dict(role.tags), **{tag["Key"]: tag["Value"] for tag in tags}}
    return replace(role, tags=tuple(values.items()))
