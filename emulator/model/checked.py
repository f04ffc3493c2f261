"""Values from JSON, TOML and variables, checked against a type hint."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError


def checked(value: Any, hint: Any) -> Any:
    """`value` as the type of `hint`; raises ValueError that says what it should be."""
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error
