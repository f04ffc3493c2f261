"""Accounts by their access key ids."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.aws.accounts import account_of
from emulator.aws.operation import Call
from emulator.aws.services.sts import operations
from emulator.model.scope import Scope
from emulator.settings import Settings

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("access_key", "account"),
    [
        ("111122223333", "111122223333"),
        ("emulator", "123456789012"),
        ("", "123456789012"),
        ("1111222233334", "123456789012"),
        ("11112222333x", "123456789012"),
        ("١١١١٢٢٢٢٣٣٣٣", "123456789012"),
    ],
)
def test_twelve_digits_are_an_account(access_key: str, account: str) -> None:
    assert account_of(access_key, "123456789012") == account


def sts(operation: str, account: str = "123456789012", **params: Any) -> Any:
    return operations(SETTINGS, clock=lambda: 10.0)[operation](
        Call(Scope(account, "us-east-1"), params)
    )


def test_the_caller_is_of_the_account_that_asks() -> None:
    identity = sts("GetCallerIdentity", "111122223333")
    assert identity["Account"] == "111122223333"
    assert identity["Arn"].startswith("arn:aws:sts::111122223333:assumed-role/SageMakerRole/")
    assert sts("GetAccessKeyInfo", AccessKeyId="111122223333") == {"Account": "111122223333"}
    assert sts("GetAccessKeyInfo", AccessKeyId="AKIA") == {"Account": "123456789012"}


def test_a_role_of_another_account_gives_credentials_for_it() -> None:
    arn = "arn:aws:iam::111122223333:role/Other"
    credentials = sts("AssumeRole", RoleArn=arn, RoleSessionName="me")["Credentials"]
    assert credentials["AccessKeyId"] == "111122223333"
    home = "arn:aws:iam::123456789012:role/Home"
    back = sts("AssumeRole", "111122223333", RoleArn=home, RoleSessionName="me")["Credentials"]
    assert back["AccessKeyId"] == SETTINGS.access_key
    kept = sts("GetSessionToken", "111122223333", DurationSeconds=900)["Credentials"]
    assert (kept["AccessKeyId"], kept["Expiration"]) == ("111122223333", 910)
    long = sts("GetSessionToken")["Credentials"]
    assert (long["AccessKeyId"], long["Expiration"]) == (SETTINGS.access_key, 10 + 12 * 3600)
