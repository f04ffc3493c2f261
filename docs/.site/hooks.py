"""Makes a site of the repository's documents, as they stand there.

README.md and others outside of docs/ become pages. A link between two files of the repository
leads from page to page; where it leads to what is no page, its text stays. The coverage page
gets a field that filters its tables.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
    "docs/adr": "adr/index.md",
}
"""Paths in the repository, and the pages that are made of them."""
_LINK = re.compile(r"\[([^\]\n]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
_TITLE = re.compile(r"# (.+)")
_FILTER = """
<script>
  // Hides the rows of all tables that do not contain the text, and tables without rows.
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter: an operation or a member";
  field.style.cssText = "width: 100%; padding: .4rem; margin: .6rem 0; border: 1px solid";
  document.querySelector("article h1").after(field);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const table of document.querySelectorAll("article table")) {
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const found = row.textContent.toLowerCase().includes(wanted);
        row.style.display = found ? "" : "none";
        shown += found ? 1 : 0;
      }
      table.style.display = shown ? "" : "none";
    }
  });
</script>
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in docs/."""
    for path, page in PAGES.items():
        place = REPOSITORY / path
        text = place.read_text("utf-8") if place.is_file() else _contents(place)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Let links lead to pages."""
    pages = {page: path for path, page in PAGES.items()}
    uri = page.file.src_uri
    source = pages.get(uri, f"docs/{uri}")
    folder = source if (REPOSITORY / source).is_dir() else posixpath.dirname(source)

    def follow(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (REPOSITORY / path).exists():
            return match[0]  # a broken link, which mkdocs names
        found = PAGES.get(path) or (path.removeprefix("docs/") if path.endswith(".md") else None)
        if found is None:
            return text
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(uri) or '.')}{anchor})"

    return _LINK.sub(follow, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Make the coverage page filterable."""
    return html + _FILTER if page.file.src_uri == "coverage.md" else html


def _contents(folder: Path) -> str:
    """A page that lists those of a folder by their titles."""
    lines = ["# Decisions", ""]
    for file in sorted(folder.glob("*.md")):
        title = _TITLE.match(file.read_text("utf-8"))
        lines.append(f"- [{title[1] if title else file.stem}]({file.name})")
    return "\n".join([*lines, ""])
