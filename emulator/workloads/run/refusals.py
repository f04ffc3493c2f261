"""Requests for jobs that are refused although they are well-formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emulator.model.errors import ValidationError


def refuse_nul(request: Mapping[str, Any]) -> None:
    """Raise ValidationError if a text of the request has a NUL character in it.

    No argument, environment variable or path of Linux can hold one. The service's patterns
    (`[\\S\\s]*`) let it pass; what becomes of such a job there is not documented.
    """
    if place := next(_with_nul(request, ""), None):
        raise ValidationError(
            f"{place} contains a NUL character, which no argument, environment variable or "
            "path can hold."
        )


def _with_nul(value: object, place: str) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value:
            yield place
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if "\0" in name:
                yield f"A name in {place}"
            yield from _with_nul(part, f"{place}.{name}" if place else name)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _with_nul(part, f"{place}[{number}]")
