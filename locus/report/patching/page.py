"""page.html of a patching run: self-contained, without scripts, in the style of the report."""

import base64
from pathlib import Path

from markupsafe import Markup

from locus import atomic
from locus.records.patch import PatchRecord
from locus.report import html
from locus.report.patching import figures

DECISIVE = {
    "max-statistic": "family-wise error, largest statistic over all components",
    "benjamini-hochberg": "false discovery rate, Benjamini and Hochberg",
}


def write(out: Path, record: PatchRecord) -> Path:
    """Write figures and page.

    Args:
        out: the run folder.
        record: of the run.

    Returns:
        The path of the page.
    """
    figures_drawn = figures.write(record, out / "figures")
    pictures = {one.name: base64.b64encode((out / "figures" / f"{one.name}.svg").read_bytes()).decode() for one in figures_drawn}
    atomic.replace(out / "page.html", render(record, figures_drawn, pictures))
    return out / "page.html"


def render(record: PatchRecord, figures_drawn: list[figures.Drawn], pictures: dict[str, str]) -> str:
    """The page's HTML.

    Args:
        record: of the run.
        figures_drawn: name, caption and map of every figure.
        pictures: by name, the figure as base64 of SVG.
    """
    environment = html.environment("report/patching")
    environment.filters |= {"effect": _effect, "p": _p}
    return html.render(
        environment,
        "patch.html.j2",
        images=True,
        found=record,
        config=record.config,
        first=record.maps[0],
        lead=lead(record),
        labels=[entry.label for entry in record.maps],
        drawn=figures_drawn,
        pictures={name: Markup(picture) for name, picture in pictures.items()},
        control=DECISIVE[str(record.config["control"])],
        rows=record.maps[0].strongest,
    )


def lead(record: PatchRecord) -> str:
    """What the first map says, in a sentence."""
    first = record.maps[0]
    names, total = first.detected, len(first.components)
    if not names:
        return f"Patching finds none of {total} components ({first.label})."
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"Patching finds {len(names)} of {total} components: {shown}."


def _effect(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
