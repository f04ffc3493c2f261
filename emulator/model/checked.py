"""Values from JSON, TOML and variables, checked against a type hint."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

_FLAGS = {"yes": True, "on": True, "y": True, "t": True, "no": False, "off": False, "n": False}


def checked(value: Any, hint: Any, *, text: bool = False) -> Any:
    """`value` as the type of `hint`; raises ValueError that says what it should be.

    `text`: numbers and flags may be written as text, as in an environment variable.
    """
    if text and hint is bool and isinstance(value, str):
        value = _FLAGS.get(value.lower(), value)
    try:
        return msgspec.convert(value, hint, strict=not text, dec_hook=_convert)
    except msgspec.ValidationError as error:
        if choices := _choices(hint):
            raise ValueError(f"Input should be {_either(choices)}") from error
        raise ValueError(str(error).replace(" - at `$", " at `").replace("`$.", "`")) from error


def _convert(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError(f"Expected `{wanted.__name__}`, got `{type(value).__name__}`")


def _choices(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [member.value for member in hint]
    return []


def _either(choices: list[Any]) -> str:
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last
