"""The command that lists the behaviours that come with the package, with what was measured of them."""

from collections.abc import Iterator

from rich.table import Table

from locus import behaviours, registry
from locus.behaviours import figures
from locus.boundary.terminal import Text, console
from locus.units import bare, difference

HEADINGS = ("behaviour", "wanted", "n", "kind", "base MC1 %", "ceiling MC1 %", "gain, points", "gain, nats", "receipt")
CAPTION = (
    "n questions. Base: the unedited model; ceiling: the optimal edit of all heads, on test questions; gain: of MC1 in points, "
    "and of the margin in nats. In brackets the 95 % interval of a rate, and the 90 % interval of a gain."
)


def show() -> None:
    """List the behaviours of the package: what is wanted, and what the unedited model and the best edit reach."""
    table = Table(caption=CAPTION)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for entry in registry.entries("behaviours").values():
        if entry.embedded:
            table.add_row(*map(Text, _row(entry)))
    console().print(table)


def _row(entry: registry.Entry) -> Iterator[str]:
    dataset = behaviours.load(entry.name)
    yield from (entry.name, entry.help, str(len(dataset.items)), "form" if dataset.form else "content")
    measured = figures.of(dataset)
    if measured is None:
        yield from ("not measured", "", "", "", "")
        return
    yield from (_rate(measured.base["mc1"]), _rate(measured.ceiling["mc1"]))
    yield from (_gain(measured.gain[metric], metric) for metric in ("mc1", "margin"))
    yield measured.receipt


def _rate(value: figures.Interval) -> str:
    middle, low, high = (bare(one, "mc1") for one in value)
    return f"{middle} ({low} to {high})"


def _gain(value: figures.Interval, metric: str) -> str:
    middle, low, high = (difference(one, metric, unit=False) for one in value)
    return f"{middle} ({low} to {high})"
