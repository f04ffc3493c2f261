"""The site that mkdocs makes of the documents, with every link followed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    find_spec("material") is None,
    reason="mkdocs-material, of the extra `docs`, is not installed",
)


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_link_of_the_site_leads_somewhere(tmp_path: Path) -> None:
    done = build(REPOSITORY, tmp_path)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text()
    assert 'href="docs/' not in start
    assert 'href="gpus.html"' in start
    assert (tmp_path / "adr" / "0022-install-size.html").exists()
    coverage = (tmp_path / "coverage.html").read_text()
    assert 'field.type = "search"' in coverage
    assert "fonts.googleapis" not in coverage


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "docs", checkout / "docs")
    (checkout / "examples").mkdir()
    for file in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy2(REPOSITORY / file, checkout)
    (checkout / "examples" / "README.md").write_text("# Examples\n[gone](../docs/gone.md)\n")
    done = build(checkout, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
