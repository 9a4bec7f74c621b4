"""What mkdocs is told while it builds: pages lie where they lie in the repository.

Every page keeps its path, so that a link works in the repository and on the site alike. Files that
pages link to (results, scripts, pictures) come along; the reference is written from the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from analysis.docs import reference

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "*.md",
    "scenarios/*.md",
    "models/*/*.md",
    "analysis/docs/pages/*.md",
    "analysis/docs/pages/studies/*.md",
    "analysis/papers/**/*.md",
)
LINK = re.compile(r"\]\(([^)\s#]+)")


def pages() -> list[Path]:
    """The Markdown pages of the repository that are on the site."""
    return sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def linked(page: Path) -> set[Path]:
    """Files of the repository that a page links to."""
    targets = (unquote(target) for target in LINK.findall(page.read_text(encoding="utf-8")))
    found = {(page.parent / target).resolve() for target in targets if "://" not in target}
    return {path for path in found if path.is_file() and path.is_relative_to(ROOT)}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put the repository's pages in place of the folder's, and the reference beside them."""
    for file in list(files.documentation_pages()):
        files.remove(file)
    wanted = set(pages())
    for page in list(wanted):
        wanted |= linked(page)
    for path in sorted(wanted):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, text in reference.pages().items():
        place = f"analysis/docs/pages/reference/{name}.md"
        files.append(File.generated(config, place, content=text))
    return files
