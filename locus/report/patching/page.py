"""page.html of a patching run: self-contained, without scripts, in the style of the report."""

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup

from locus import atomic
from locus.patching.outcome import label
from locus.report import html
from locus.report.patching import figures

DECISIVE = {
    "max-statistic": "family-wise error, largest statistic over all components",
    "benjamini-hochberg": "false discovery rate, Benjamini and Hochberg",
}


def write(out: Path, found: dict[str, Any]) -> Path:
    """Write figures and page.

    Args:
        out: the run folder.
        found: what patch.json holds.

    Returns:
        The path of the page.
    """
    drawn = figures.write(found, out / "figures")
    pictures = {one["name"]: base64.b64encode((out / "figures" / f"{one['name']}.svg").read_bytes()).decode() for one in drawn}
    atomic.replace(out / "page.html", render(found, drawn, pictures))
    return out / "page.html"


def render(found: dict[str, Any], drawn: list[dict[str, str]], pictures: dict[str, str]) -> str:
    """The page's HTML.

    Args:
        found: what patch.json holds.
        drawn: name, caption and map of every figure.
        pictures: by name, the figure as base64 of SVG.
    """
    environment = html.environment("report/patching")
    environment.filters |= {"effect": _effect, "p": _p}
    return html.render(
        environment,
        "patch.html.j2",
        images=True,
        found=found,
        config=found["config"],
        first=found["maps"][0],
        lead=lead(found),
        labels=[label(entry) for entry in found["maps"]],
        drawn=drawn,
        pictures={name: Markup(picture) for name, picture in pictures.items()},
        control=DECISIVE[found["config"]["control"]],
        rows=sorted((one for one in found["maps"][0]["components"] if one["found"]), key=lambda one: -abs(one["mean"])),
    )


def lead(found: dict[str, Any]) -> str:
    """What the first map says, in a sentence."""
    first = found["maps"][0]
    names, total = first["detected"], len(first["components"])
    if not names:
        return f"Patching finds none of {total} components ({label(first)})."
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"Patching finds {len(names)} of {total} components: {shown}."


def _effect(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
