"""A badge of a claim's four answers, for a README: one SVG without script or request, which says in words what its marks mean."""

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from locus import atomic
from locus.boundary import outputs
from locus.conclude.rule import QUESTIONS
from locus.records.findings import ClaimVerdict
from locus.report.card import MARKS
from locus.report.results import verdict_of
from locus.shown import visible

LABEL = "localization"
GREEN, RED, GREY, DARK = "#1b6e37", "#a3231b", "#5a5a5a", "#333333"
WIDTH, HEIGHT, MARGIN = 6.6, 20, 8  # of a character, in pixels; the text is fitted to its place


def write(run: Path, to: Path) -> list[str]:
    """Write a badge for every claim of a run.

    Returns:
        Names of the files written.

    Raises:
        UserError: if the run has no verdict yet, or the folder to write to is not empty.
    """
    claims = verdict_of(run).claims
    outputs.empty_folder(to)
    names = [f"badge-{number}.svg" for number in range(len(claims))]
    for name, claim in zip(names, claims, strict=True):
        atomic.replace(to / name, svg(claim))
    return names


def svg(claim: ClaimVerdict) -> str:
    """The badge of a claim: green where it works and is special, red where either is refuted, grey elsewhere."""
    standings = {name: getattr(claim, name).standing for name in QUESTIONS}
    text = "  ".join(f"{name} {MARKS[standing]}" for name, standing in standings.items())
    words = ", ".join(f"{name}: {standing}" for name, standing in standings.items())
    title = f"{LABEL} of {visible(claim.name, 60)} ({len(claim.location)} heads): {words}"
    leading = {standings["works"], standings["special"]}
    colour = GREEN if leading == {"supported"} else RED if "refuted" in leading else GREY
    left, right = (round(len(one) * WIDTH + 2 * MARGIN) for one in (LABEL, text))

    def written(part: str, begin: int, width: int) -> str:
        inner = width - 2 * MARGIN
        return f'<text x="{begin + MARGIN}" y="14" textLength="{inner}" lengthAdjust="spacingAndGlyphs">{escape(part)}</text>'

    size = f'width="{left + right}" height="{HEIGHT}" viewBox="0 0 {left + right} {HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>'
        f"<title>{escape(title)}</title>"
        f'<rect width="{left}" height="{HEIGHT}" fill="{DARK}"/>'
        f'<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" xml:space="preserve">'
        f"{written(LABEL, 0, left)}{written(text, left, right)}</g></svg>\n"
    )
