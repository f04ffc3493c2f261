"""Templates, and how they show numbers and times."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

UI = "/_emulator/ui"
_NARROWEST = 60
"""Looks that a spark line is wide at least: two minutes."""
_SIZES = ("B", "KB", "MB", "GB", "TB", "PB")
STATIC = Path(__file__).with_name("static")


def environment() -> Environment:
    """Everything that is put into a template is escaped, and nothing may be missing."""
    made = Environment(
        loader=PackageLoader("emulator.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bytes": bytes_text,
        "duration": duration,
        "number": number,
        "moment": moment,
        "points": points,
        "models_json": lambda models: json.dumps([one.model_dump() for one in models]),
        "extract_or_none": lambda mapping, key: mapping.get(key),
        "address": lambda text: quote(text, safe=""),
        "address_path": lambda text: quote(text, safe="/"),
    }
    made.globals |= {"static": static_url, "ui": UI, "v1": "/_emulator/v1"}
    return made


def bytes_text(count: float) -> str:
    """1536000 as 1.5 MB."""
    power = min(int(math.log10(count) // 3), len(_SIZES) - 1) if count >= 1 else 0
    value = count / 1000**power
    return (
        f"{value:.0f} {_SIZES[power]}"
        if power == 0 or value >= 100
        else (f"{value:.1f} {_SIZES[power]}")
    )


def duration(seconds: float) -> str:
    """75 as 1 min 15 s."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float) -> str:
    """A metric's value in few characters."""
    return f"{value:.5g}"


def moment(at: float) -> Markup:
    """A time; the page's script shows it in the reader's own zone."""
    utc = datetime.fromtimestamp(at, timezone.utc)
    text = utc.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}" data-at="{}">{} UTC</time>').format(
        utc.isoformat(), f"{at:.3f}", escape(text)
    )


def points(history: Sequence[float], width: int = 100, shown: int = 120) -> str:
    """The points of a spark line that is 30 high and ends at the right; values are percent."""
    if len(history) < 2:
        return ""
    step = math.ceil(len(history) / shown)
    # Full buckets from the end: else each look would move all points.
    kept = [max(history[max(0, end - step) : end]) for end in range(len(history), 0, -step)][::-1]
    wide = max(len(history), _NARROWEST) / step
    return " ".join(
        f"{width - (len(kept) - 1 - place) * width / (wide - 1):.1f},"
        f"{29 - 28 * min(100.0, max(0.0, value)) / 100:.1f}"
        for place, value in enumerate(kept)
    )


def _digests() -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in STATIC.iterdir()
        if file.is_file()
    }


_VERSIONS: dict[str, str] = {}


def static_url(name: str) -> str:
    """The address of a static file; another one for each of its contents."""
    if not _VERSIONS:
        _VERSIONS.update(_digests())
    return f"{UI}/static/{name}?{_VERSIONS[name]}"


def static_file(name: str) -> Path | None:
    """The file of that name; None where there is none."""
    if not _VERSIONS:
        _VERSIONS.update(_digests())
    return STATIC.joinpath(name) if name in _VERSIONS else None


def render(made: Environment, template: str, **context: Any) -> str:
    """The text of a template."""
    return made.get_template(template).render(**context)
