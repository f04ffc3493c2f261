"""IAM's roles: every role exists until the settings name some."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.roles import Roles
from emulator.aws.services.iam import operations
from emulator.model.errors import ApiError, ValidationError
from emulator.model.scope import Scope
from emulator.settings import Settings

HERE = Scope("123456789012", "us-east-1")
OTHER = Scope("111122223333", "eu-west-1")
DEFAULT = "arn:aws:iam::123456789012:role/service-role/Trainer"
POLICY = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
OPEN = Settings(role_arn=DEFAULT)
NAMED = Settings(role_arn=DEFAULT, roles=("Named", "arn:aws:iam::111122223333:role/team/Theirs"))


def ask(settings: Settings) -> Any:
    handlers = operations(settings, Roles(settings, clock=lambda: 50.0))

    def send(operation: str, scope: Scope = HERE, **params: Any) -> Any:
        return handlers[operation](Call(scope, params))

    return send


def code_of(send: Any, *args: Any, **params: Any) -> tuple[str, int]:
    with pytest.raises(ApiError) as error:
        send(*args, **params)
    return error.value.code, error.value.status


def test_any_role_exists_in_the_callers_account() -> None:
    send = ask(OPEN)
    role = send("GetRole", OTHER, RoleName="Any")["Role"]
    assert (role["Arn"], role["Path"]) == ("arn:aws:iam::111122223333:role/Any", "/")
    assert send("GetRole", RoleName="Trainer")["Role"]["Arn"] == DEFAULT
    Roles(OPEN).check("arn:aws:iam::999999999999:role/Whatever")


def test_roles_that_are_named_are_the_only_ones() -> None:
    send = ask(NAMED)
    assert code_of(send, "GetRole", RoleName="Any") == ("NoSuchEntity", 404)
    assert send("GetRole", RoleName="Named")["Role"]["RoleName"] == "Named"
    assert send("GetRole", OTHER, RoleName="Theirs")["Role"]["Path"] == "/team/"
    assert [role["RoleName"] for role in send("ListRoles")["Roles"]] == ["Named", "Trainer"]
    roles = Roles(NAMED)
    for arn in (DEFAULT, "arn:aws:iam::111122223333:role/team/Theirs"):
        roles.check(arn)
    missing = "arn:aws:iam::111122223333:role/Named"
    with pytest.raises(ValidationError) as error:
        roles.check(missing)
    assert error.value.message == (
        f"Could not assume role {missing}. Please ensure that the role exists and allows "
        "principal 'sagemaker.amazonaws.com' to assume the role."
    )


@pytest.mark.parametrize("settings", [OPEN, NAMED])
def test_a_role_as_the_sdk_makes_it(settings: Settings) -> None:
    send = ask(settings)
    tags = [{"Key": "owner", "Value": "sdk"}]
    made = send("CreateRole", RoleName="New", Path="/x/", AssumeRolePolicyDocument="{}", Tags=tags)[
        "Role"
    ]
    assert made["Arn"] == "arn:aws:iam::123456789012:role/x/New"
    assert made["CreateDate"] == 50.0
    assert made["AssumeRolePolicyDocument"] == "%7B%7D"
    again = code_of(send, "CreateRole", RoleName="New", AssumeRolePolicyDocument="{}")
    assert again == ("EntityAlreadyExists", 409)
    for _ in range(2):
        send("AttachRolePolicy", RoleName="New", PolicyArn=POLICY)
    attached = send("ListAttachedRolePolicies", RoleName="New")["AttachedPolicies"]
    assert attached == [{"PolicyName": "AmazonSageMakerFullAccess", "PolicyArn": POLICY}]
    send("DetachRolePolicy", RoleName="New", PolicyArn=POLICY)
    assert send("ListAttachedRolePolicies", RoleName="New")["AttachedPolicies"] == []
    send("TagRole", RoleName="New", Tags=[{"Key": "b", "Value": "c"}])
    assert [tag["Key"] for tag in send("ListRoleTags", RoleName="New")["Tags"]] == ["owner", "b"]
    send("DeleteRole", RoleName="New")
    assert "New" not in [role["RoleName"] for role in send("ListRoles")["Roles"]]
