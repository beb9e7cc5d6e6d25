"""Links that work in the repository and on the site: whatever a page links to outside docs/ is put on the site too.

Paths on the site are the repository's without `docs/`; README.md is the front page. Links stay as a reader of the repository
needs them, and are rewritten while the site is built.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=(?:#[^)\s]*)?\))")


def target(page: str, link: str) -> str:
    """The repository path that a relative link of a page leads to; a folder stands for its README.

    Args:
        page: the page's path in the repository.
        link: as written, without an anchor.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def links(page: str) -> list[str]:
    """Repository paths that a Markdown page links to, code blocks aside."""
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [target(page, match.group(1)) for match in LINK.finditer(text)]


def reached(pages: list[str]) -> list[str]:
    """These files and all that they link to, directly or not, each once."""
    found: list[str] = []
    waiting = list(pages)
    while waiting:
        page = waiting.pop(0)
        if page not in found:
            found.append(page)
            waiting += links(page) if page.endswith(".md") and (ROOT / page).is_file() else []
    return found


def place(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def rewritten(page: str, text: str) -> str:
    """A page's text with its links as the site needs them."""
    here = posixpath.dirname(place(page)) or "."

    def lead(match: re.Match[str]) -> str:
        return posixpath.relpath(place(target(page, match.group(1))), here)

    return _outside_code(text, lambda part: LINK.sub(lead, part))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change what stands between fenced blocks."""
    blocks = FENCED.findall(text)
    parts = [change(part) for part in FENCED.split(text)]
    return "".join(part + block for part, block in zip(parts, [*blocks, ""], strict=True))


def on_files(files: Any, config: Any) -> Any:
    """mkdocs: add what is reached outside docs/."""
    from mkdocs.structure.files import File

    start = ["README.md", "CHANGELOG.md", "studies/README.md"]
    start += [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    for path in reached(start):
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """mkdocs: lead links to where things lie on the site."""
    return rewritten(Path(page.file.abs_src_path).relative_to(ROOT).as_posix(), markdown)
