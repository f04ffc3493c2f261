"""What the documents say of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from emulator.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (REPOSITORY, REPOSITORY / "docs", REPOSITORY / "examples")
    for page in (folder.glob("*.md") if folder == REPOSITORY else folder.rglob("*.md"))
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("setting", [field.name for field in dataclasses.fields(Settings)])
def test_the_readme_names_every_setting(setting: str) -> None:
    assert f"EMULATOR_{setting.upper()}" in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing
