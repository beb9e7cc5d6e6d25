"""The documentation: every page is listed, every link leads somewhere, in the repository and on the site."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.fixture(scope="module")
def links():
    """The hook that the site is built with; it needs no mkdocs until a site is built."""
    spec = importlib.util.spec_from_file_location("links", ROOT / "docs" / "links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(nav):
    for entry in nav:
        for value in entry.values():
            yield from listed(value) if isinstance(value, list) else [value]


def test_the_navigation_lists_every_page_of_docs_and_nothing_that_is_not_there(links):
    found = list(listed(SITE["nav"]))
    assert {links.place(page) for page in PAGES} <= set(found)
    others = set(found) - {links.place(page) for page in PAGES}
    assert all((ROOT / ("README.md" if page == "index.md" else page)).is_file() for page in others)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("page", [*PAGES, "README.md", "CHANGELOG.md"])
def test_no_relative_link_is_dead(page, links):
    dead = [path for path in links.reached([page]) if not (ROOT / path).is_file()]
    assert not dead, f"reached from {page}, and not there: {dead}"


def test_anchors_name_headings_that_exist(links):
    def slugs(path):
        lines = [line for line in (ROOT / path).read_text().splitlines() if line.startswith("#")]
        return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines}

    for page in [*PAGES, "README.md"]:
        for link, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#([^)\s]+)\)", (ROOT / page).read_text()):
            there = links.target(page, link) if link else page
            assert anchor in slugs(there), f"{page}: {link}#{anchor}"


# docs/verdicts.md and studies/coverage.md keep their places on the site, where docs/ is the root; README.md becomes index.md.
@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("docs/verdicts.md", "[a](../studies/coverage.md)", "[a](studies/coverage.md)"),
        (
            "README.md",
            "[a](docs/verdicts.md#planted-models) [b](CHANGELOG.md)",
            "[a](verdicts.md#planted-models) [b](CHANGELOG.md)",
        ),
        ("studies/calibration/README.md", "[a](../../docs/verdicts.md)", "[a](../../verdicts.md)"),
        ("docs/patching.md", "[a](../studies/patching/)", "[a](studies/patching/README.md)"),
        (
            "docs/verdicts.md",
            "[a](https://arxiv.org/abs/2502.11447) [b](#here)",
            "[a](https://arxiv.org/abs/2502.11447) [b](#here)",
        ),
        ("CHANGELOG.md", "[a](README.md)\n```\n[b](README.md)\n```\n", "[a](index.md)\n```\n[b](README.md)\n```\n"),
    ],
)
def test_links_are_led_to_where_things_lie_on_the_site(links, page, text, wanted):
    assert links.rewritten(page, text) == wanted


def test_the_reference_has_every_public_name_and_each_is_where_it_says():
    import locus

    blocks = re.findall(
        r"^::: (\S+)\n(?:    options: \{heading: locus\.(\w+), toc_label: (\w+)\}\n)?",
        (ROOT / "docs" / "api.md").read_text(),
        re.M,
    )
    for path, heading, label in blocks:
        module, name = path.rsplit(".", 1)
        there = getattr(importlib.import_module(module), name)
        assert there.__doc__ and (not heading or there is getattr(locus, heading)) and heading == label, path
    assert {heading for _, heading, _ in blocks if heading} == set(locus.__all__) - {"__version__"}


def test_the_reference_needs_no_network():
    (settings,) = [one["mkdocstrings"] for one in SITE["plugins"] if "mkdocstrings" in one]
    assert "inventories" not in settings["handlers"]["python"]
    assert settings["handlers"]["python"]["options"]["allow_inspection"] is False


def test_the_site_asks_nobody_for_anything():
    assert SITE["theme"]["font"] is False
    assert "analytics" not in SITE.get("extra", {}) and "repo_url" not in SITE
    assert not SITE.get("extra_javascript") and not SITE.get("extra_css")


def test_every_source_that_the_code_names_is_on_the_page_of_sources():
    page = (ROOT / "docs" / "sources.md").read_text()
    named = re.compile(r"\b([A-Z][a-z][\w-]+)(?: et al\.| & [A-Z][\w-]+)? ((?:19|20)\d\d)")
    for path in (ROOT / "locus").rglob("*.py"):
        for line in path.read_text().splitlines():
            if "Source:" in line or "Sources:" in line:
                for author, year in named.findall(line.split(":", 1)[1]):
                    assert re.search(rf"{author}.*{year}", page), f"{path}: {author} {year} is not in docs/sources.md"


LOG = sorted((ROOT / "docs" / "log").glob("*-*.md"))


@pytest.mark.parametrize("path", LOG, ids=lambda path: path.stem)
def test_an_entry_of_the_log_is_a_title_one_table_or_figure_and_a_few_sentences(path):
    month, _, days = path.read_text().partition("\n## ")
    assert re.fullmatch(r"# Log: \w+ \d{4}", month.splitlines()[0]) and re.fullmatch(r"\d{4}-\d\d", path.stem)
    for day in days.split("\n## "):
        assert day.startswith(f"{path.stem}-")
        for entry in day.split("\n### ")[1:]:
            title, _, body = entry.partition("\n")
            shown = [line for line in body.splitlines() if re.match(r"\| -+|!\[", line)]
            prose = [line for line in body.splitlines() if not line.startswith(("|", "!["))]
            assert len(shown) == 1, title
            assert len(" ".join(prose).split()) <= 150 and len(re.findall(r"[.!?](?=\s|$)", "\n".join(prose))) <= 5, title


def test_there_is_a_log_and_its_front_page_lists_every_month():
    page = (ROOT / "docs" / "log" / "README.md").read_text()
    assert LOG and all(f"({path.name})" in page for path in LOG)


def wide(text):
    """Lines of prose of more than 100 characters; tables, code and what is a single link may be longer."""
    text = re.sub(r"^```.*?^```|^<!--.*?-->", "", text, flags=re.M | re.S)
    return [
        line for line in text.splitlines() if len(line) > 100 and not re.match(r"    |\s*\||\s*(- )?!?\[[^]]*\]\([^)]*\)$", line)
    ]


# Written by the code, and held against what it writes.
GENERATED = {"docs/configuration.md"}


@pytest.mark.parametrize("page", sorted({*PAGES, "README.md", "SECURITY.md", "studies/README.md"} - GENERATED))
def test_prose_is_wrapped_at_a_hundred_characters(page):
    assert not wide((ROOT / page).read_text())
