"""The commands about behaviours: those that come with the package with what was measured of them, and any as a model sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from typer import Argument, Option

from locus import behaviours, registry
from locus.behaviours import figures
from locus.boundary.terminal import Text, console
from locus.units import bare, difference

HEADINGS = ("behaviour", "wanted", "n", "kind", "base MC1 %", "ceiling MC1 %", "gain, points", "gain, nats")
CAPTION = (
    "n questions. Base: the unedited model; ceiling: the optimal edit of all heads, on test questions; gain: of MC1 in points, "
    "and of the margin in nats. In brackets the 95 % interval of a rate, and the 90 % interval of a gain."
)
app = typer.Typer(help="List the behaviours of the package, and show any as a model will see it.")


@app.callback(invoke_without_command=True)
def listing(context: typer.Context) -> None:
    """List the behaviours of the package: what is wanted, and what the unedited model and the best edit reach."""
    if context.invoked_subcommand is not None:
        return
    table = Table(caption=CAPTION)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=heading == HEADINGS[0])
    for entry in registry.entries("behaviours").values():
        if entry.embedded:
            table.add_row(*map(Text, _row(entry)))
    console().print(table)
    console().print(Text("Receipts, in the repository: studies/behaviours/NAME.json"), soft_wrap=True)


@app.command()
def show(
    path: Annotated[str, Argument(metavar="PATH", help="As for --data: a name, a file, READER:FILE.")],
    model: Annotated[
        str | None, Option(help="Whose tokenizer and template are used.", show_default="smollm2-135m-instruct")
    ] = None,
    items: Annotated[int, Option(help="Questions to print.")] = 3,
    prompt: Annotated[str, Option(help="Prompt format: auto, chat, qa, primer or bare.")] = "auto",
    revision: Annotated[str | None, Option(help="Of a hub model.")] = None,
) -> None:
    """Print some questions of a behaviour as a model will see them, with its tokens marked; no weights are loaded."""
    import locus

    seen = locus.behaviour(path).preview(model, items=items, prompt=prompt, revision=revision)
    for one in repr(seen).splitlines():
        console().print(Text(one), soft_wrap=True)


@app.command()
def export(
    path: Annotated[str, Argument(metavar="PATH", help="As for --data: a name, a file, READER:FILE.")],
    to: Annotated[Path, Option(help="A new or empty folder.")],
) -> None:
    """Write a behaviour as a data set: its questions as JSON lines, and Croissant metadata."""
    import locus

    for name in locus.behaviour(path).export(to):
        console().print(Text(f"wrote {name}"))


def _row(entry: registry.Entry) -> Iterator[str]:
    dataset = behaviours.load(entry.name)
    yield from (entry.name, entry.help, str(len(dataset.items)), "form" if dataset.form else "content")
    measured = figures.of(dataset)
    if measured is None:
        yield from ("not measured", "", "", "")
        return
    yield from (_rate(measured.base["mc1"]), _rate(measured.ceiling["mc1"]))
    yield from (_gain(measured.gain[metric], metric) for metric in ("mc1", "margin"))


def _rate(value: figures.Interval) -> str:
    middle, low, high = (bare(one, "mc1") for one in value)
    return f"{middle} ({low} to {high})"


def _gain(value: figures.Interval, metric: str) -> str:
    middle, low, high = (difference(one, metric, unit=False) for one in value)
    return f"{middle} ({low} to {high})"
