"""What the documents say that can be compared with the files and the code."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
from test_floors import PACKAGE, REPOSITORY, tracked

from emulator.cli.up import up
from emulator.settings import VARIABLES, SecretStr, Settings

SETTINGS = REPOSITORY / "docs/settings.md"
DOCUMENTS = sorted(tracked("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
ROW = re.compile(
    rf"^\| *(?:`--(?P<flag>[\w-]+)`)?[^|]*\| `{VARIABLES}(?P<name>\w+)` \| (?P<default>[^|]+) \|",
    re.MULTILINE,
)
ELSEWHERE = ("http://", "https://", "mailto:")


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchors(document: Path) -> Iterator[str]:
    """Those that GitHub gives the headings of a document."""
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+)$", FENCE.sub("", document.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        yield f"{slug}-{count}" if count else slug


def test_there_are_documents() -> None:
    assert REPOSITORY / "README.md" in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", document.read_text())):
        if link.startswith(ELSEWHERE):
            continue
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize(
    "document",
    # Decisions and the changelog tell of files as they were.
    [path for path in DOCUMENTS if path.parent.name != "adr" and path.name != "CHANGELOG.md"],
    ids=named,
)
def test_modules_that_documents_name_exist(document: Path) -> None:
    code = CODE.findall(FENCE.sub("", document.read_text()))
    paths = [word for each in code for word in each.split() if "/" in word and word[-3:] == ".py"]
    missing = [
        path
        for path in paths
        if not any(list(root.glob(path)) for root in (REPOSITORY, PACKAGE, document.parent))
    ]
    assert not missing


def test_directories_that_documents_name_exist() -> None:
    """Those of this repository; ADRs and the changelog tell of what was."""
    missing = [
        f"{named(document)}: {word}"
        for document in DOCUMENTS
        if document.parent.name != "adr" and document.name != "CHANGELOG.md"
        for word in CODE.findall(FENCE.sub("", document.read_text()))
        if re.fullmatch(r"(emulator|tests|docs|images|examples)/[\w./-]*", word)
        and not (REPOSITORY / word).exists()
    ]
    assert not missing


def test_the_architecture_names_every_package() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text()
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages
    assert not {name for name in packages if f"{name}/" not in text}


def rows() -> list[re.Match[str]]:
    return list(ROW.finditer(SETTINGS.read_text()))


def test_every_setting_is_in_one_row_of_its_page() -> None:
    assert sorted(row["name"].lower() for row in rows()) == sorted(
        setting.name for setting in fields(Settings)
    )


def as_variable(value: Any) -> str:
    """A value as an environment variable gives it."""
    if isinstance(value, (bool, dict, tuple)):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def default_of(setting: Field[Any]) -> str | None:
    """None where the machine decides, or where there is none."""
    if setting.default is MISSING:
        assert setting.default_factory is not MISSING
        made = setting.default_factory()
        return None if isinstance(made, Path) else as_variable(made)
    return None if setting.default is None else as_variable(setting.default) or None


def test_the_page_has_the_default_of_every_setting() -> None:
    told = {row["name"].lower(): row["default"] for row in rows()}
    expected = {
        setting.name: f"`{default}`"
        for setting in fields(Settings)
        if (default := default_of(setting)) is not None
    }
    assert {name: told.get(name) for name in expected} == expected


def test_the_page_has_the_flag_of_every_setting() -> None:
    flags = {row["name"].lower(): row["flag"] for row in rows() if row["flag"]}
    names = {setting.name for setting in fields(Settings)}
    expected = {name: name.replace("_", "-") for name in inspect.signature(up).parameters}
    assert flags == {name: flag for name, flag in expected.items() if name in names} | {
        "leave_jobs": "stop-jobs"
    }
