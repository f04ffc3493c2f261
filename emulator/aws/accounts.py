"""Which account a request speaks for.

An access key id of twelve digits stands for the account of that number, as in other
emulators of AWS; every other one for the account of the settings.
"""

from __future__ import annotations

import re

_ACCOUNT = re.compile(r"[0-9]{12}")


def is_account(access_key: str) -> bool:
    """Does this access key id stand for an account of its own?"""
    return _ACCOUNT.fullmatch(access_key) is not None


def account_of(access_key: str, default: str) -> str:
    """The account of an access key id ("" where a request is not signed)."""
    return access_key if is_account(access_key) else default
