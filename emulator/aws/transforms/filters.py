"""DataProcessing: parts of records go to the model, and parts of both into the output. Pure.

The JSONPath of the developer guide ("Associate prediction results with input records"): `$`,
`.name`, `['name']`, `['name','name']`, `[1]`, `[0,2]`, `[1:3]`, `[0,5:]`, `[*]` and `.*`.
A dot may stand before a bracket, as in some of its examples.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emulator.aws.transforms.records import BadInput

_PLACE = r"(?:-?\d*:-?\d*(?::\d*)?|-?\d+)"
_STEP = re.compile(
    r"\.(?P<name>[A-Za-z_][\w-]*)"
    r"|\.?\[(?P<names>\s*(?:'[^']*'|\"[^\"]*\")(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"))*\s*)\]"
    rf"|\.?\[(?P<places>\s*{_PLACE}(?:\s*,\s*{_PLACE})*\s*)\]"
    r"|(?P<all>\.?\[\*\]|\.\*)"
)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_JSON = ("application/json", "application/jsonlines")
_CSV = "text/csv"

Select = Callable[[Any], Any]
"""Gives the part of a record that a path names. Raises BadInput."""


def read_path(text: str) -> Select:
    """Read a JSONPath; raises ValueError for one that is not supported."""
    if not text.startswith("$"):
        raise ValueError(f"the filter {text} does not begin with $")
    steps, at = [], 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"the filter {text} cannot be read from {text[at:]} on")
        steps.append(_step(match))
        at = match.end()

    def select(value: Any) -> Any:
        for step in steps:
            try:
                value = step(value)
            except (KeyError, IndexError, TypeError) as error:
                raise BadInput(f"the filter {text} finds nothing in a record") from error
        return value

    return select


def _step(match: re.Match[str]) -> Select:
    if (name := match["name"]) is not None:
        return lambda value: value[name]
    if match["names"] is not None:
        names = [one or other for one, other in _QUOTED.findall(match["names"])]
        if len(names) == 1:
            return lambda value: value[names[0]]
        return lambda value: {each: value[each] for each in names}
    if match["places"] is not None:
        places = [_place(each) for each in match["places"].split(",")]
        if len(places) == 1:
            return lambda value: value[places[0]]
        return lambda value: [item for place in places for item in _at(value, place)]
    return lambda value: list(value.values()) if isinstance(value, dict) else list(value)


def _place(text: str) -> int | slice:
    if ":" not in text:
        return int(text)
    return slice(*(int(each) if each.strip() else None for each in text.split(":")))


def _at(value: Any, place: int | slice) -> list[Any]:
    found = value[place]
    return list(found) if isinstance(place, slice) else [found]


class Format(Protocol):
    """How records are written."""

    def read(self, content: bytes) -> list[Any]: ...

    def write(self, records: Sequence[Any]) -> bytes: ...

    def join(self, given: Any, answer: Any) -> Any: ...


class Csv:
    """A record is a line; the filter chooses columns."""

    def read(self, content: bytes) -> list[Any]:
        return [row for row in csv.reader(io.StringIO(_text(content))) if row]

    def write(self, records: Sequence[Any]) -> bytes:
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        rows.writerows(each if isinstance(each, list) else [each] for each in records)
        return out.getvalue().encode()

    def join(self, given: Any, answer: Any) -> Any:
        return [*given, *answer]


class Json:
    """A record is a value; several of them are lines."""

    def read(self, content: bytes) -> list[Any]:
        text = _text(content)
        try:
            try:
                return [json.loads(text)]
            except ValueError:
                return [json.loads(line) for line in text.split("\n") if line.strip()]
        except ValueError as error:
            raise BadInput(f"a record is no JSON: {error}") from error

    def write(self, records: Sequence[Any]) -> bytes:
        return "".join(f"{json.dumps(each)}\n" for each in records).encode()

    def join(self, given: Any, answer: Any) -> Any:
        if isinstance(given, dict):
            return {**given, "SageMakerOutput": answer}
        return {"SageMakerInput": given, "SageMakerOutput": answer}


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"a record is no text: {error}") from error


def format_of(content_type: str | None) -> Format:
    """Raises ValueError for a type whose records cannot be filtered."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == _CSV:
        return Csv()
    if kind in _JSON:
        return Json()
    raise ValueError(
        f"DataProcessing needs records of the type text/csv or application/json: {content_type}"
    )


@dataclass(frozen=True)
class DataProcessing:
    """What becomes of a request's records, and of the answer to it."""

    given: Format
    answered: Format
    input_filter: Select
    output_filter: Select
    joins: bool

    def request(self, body: bytes) -> bytes:
        """What the model gets. Raises BadInput."""
        return self.given.write([self.input_filter(each) for each in self.given.read(body)])

    def answer(self, body: bytes, answer: bytes) -> bytes:
        """What goes into the output. Raises BadInput."""
        records = self.answered.read(answer)
        if self.joins:
            inputs = self.given.read(body)
            if isinstance(self.answered, Json) and len(records) == 1 != len(inputs):
                records = records[0] if isinstance(records[0], list) else records
            if len(inputs) != len(records):
                raise BadInput(f"{len(inputs)} records have {len(records)} answers")
            records = [
                self.answered.join(one, other) for one, other in zip(inputs, records, strict=True)
            ]
        return self.answered.write([self.output_filter(each) for each in records])


def read_processing(
    asked: dict[str, Any], content_type: str | None, accept: str | None
) -> DataProcessing | None:
    """Of a CreateTransformJob request; None where it asks for nothing. Raises ValueError."""
    filters = [asked.get(name, "$") for name in ("InputFilter", "OutputFilter")]
    joins = asked.get("JoinSource", "None") == "Input"
    if filters == ["$", "$"] and not joins:
        return None
    given, answered = format_of(content_type), format_of(accept or content_type)
    if joins and type(given) is not type(answered):
        raise ValueError("JoinSource Input needs an answer (Accept) of the same type as the input.")
    return DataProcessing(given, answered, read_path(filters[0]), read_path(filters[1]), joins)
