"""A table as a static site: one page that works from a file, and beside it the page of every audit, drawn anew from its scores.

No audit's own page is published: whoever signed it may have written anything into it.
"""

import shutil
import tempfile
from pathlib import Path

from locus import atomic, units
from locus.boundary import outputs
from locus.records.findings import QUESTIONS, Finding
from locus.report import html, trusted
from locus.report.page import write as write_page
from locus.table.family import family, sentences
from locus.table.folder import ROWS, Checked

INDEX, RUNS = "index.html", "runs"
PARTS = {"claim": "claim", "negative": "negative control", "positive": "positive control"}


def build(checked: Checked, table: Path, to: Path, pages: bool = True) -> list[str]:
    """Write the site of a table that was verified.

    Args:
        checked: the table.
        table: its folder.
        to: a new or empty folder.
        pages: whether each audit whose scores are here gets its page.

    Returns:
        The files written, by their paths in the site.

    Raises:
        UserError: if the folder is neither new nor empty.
    """
    outputs.empty_folder(to, "--out")
    names = sorted({row.name for row in checked.rows if row.whole}) if pages else []
    links = {name: f"{RUNS}/{name}.html" for name in names}
    for name, link in links.items():
        (to / RUNS).mkdir(exist_ok=True)
        atomic.replace(to / link, _drawn(table / ROWS / name))
    atomic.replace(to / INDEX, page(checked, links))
    return [INDEX, *links.values()]


def _drawn(row: Path) -> bytes:
    """An audit's page, drawn from its plan and scores."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(row, copy)
        write_page(copy, figures=False, sign=False)
        return (copy / "report.html").read_bytes()


def page(checked: Checked, links: dict[str, str]) -> str:
    """The page of a table.

    Args:
        checked: the table.
        links: by row, where its own page is.
    """
    rows, found = checked.rows, family(checked.rows)
    made = html.environment("table")
    made.filters |= {"difference": _difference, "interval": _interval, "share": _share, "p": _p}
    choices = [
        ("kind", "Site", sorted({row.kind for row in rows})),
        ("model", "Model", sorted({row.verdict.model.name for row in rows})),
        ("part", "Part", [name for part, name in PARTS.items() if any(row.part == part for row in rows)]),
        ("special", "Special", sorted({row.claim.special.standing for row in rows})),
    ]
    return html.render(
        made,
        "table.html.j2",
        script="table.js",
        title=checked.title,
        said=sentences(found),
        family=found,
        rows=rows,
        parts=PARTS,
        pages=links,
        choices=choices,
        questions=QUESTIONS,
        signers={row.signer: trusted.name_of(row.signer) for row in rows},
    )


def _difference(value: float | None, measure: str, unit: bool = True, margin: float | None = None) -> str:
    return "–" if value is None else units.difference(value, measure, unit=unit, margin=margin)


def _interval(finding: Finding, question: str, measure: str) -> str:
    """Of an answer, in its own unit: of the unique a share of places, otherwise a difference of the measure."""
    low, high = finding.interval
    if question == "unique":
        return f"{_share(low)} to {_share(high)}"
    return " to ".join(_difference(end, measure, unit=False, margin=finding.margin) for end in (low, high))


def _share(value: float | None) -> str:
    return "–" if value is None else units.share(value)


def _p(values: tuple[float | None, ...]) -> str:
    """The p that decides; where none does, that which could have supported it."""
    known = [value for value in values if value is not None]
    return f"p {units.p_value(known[0])}" if known else "no p"
