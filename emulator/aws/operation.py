"""One AWS operation being carried out: what every function in `aws/services/` gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.model.scope import Scope


@dataclass(frozen=True)
class Call:
    """A validated request, its members named and typed as in botocore's model."""

    scope: Scope
    params: Mapping[str, Any]
    access_key: str = ""
    """The key id that signed the request ("" when it was not signed)."""


Handler = Callable[[Call], Mapping[str, Any] | None]
"""Carries out one operation; None is an answer without members. Raises ApiError."""

Operations = Mapping[str, Handler]
"""The operations of one service, by their name at AWS."""
