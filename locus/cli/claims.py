"""The commands about claims that others published: what a file says, and the same as a claim file of ours."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer import Argument, Option

import locus
from locus.boundary import outputs
from locus.boundary.terminal import Text, console
from locus.errors import UserError

app = typer.Typer(help="Show how a file of somebody's claim is read, and convert it.")
Source = Annotated[
    str,
    Argument(metavar="FILE", help="A file or folder that one of `locus list importers` reads, also as IMPORTER:FILE, FILE#16."),
]
Size = Annotated[str | None, Option(help="So many of the highest scores are claimed, or all.")]
Budget = Annotated[float | None, Option(help="Instead, this share of the heads that have a score.")]
Rank = Annotated[str | None, Option(help="largest or absolute: by value or by magnitude, where scores are negative.")]


@app.command()
def show(
    source: Source,
    size: Size = None,
    budget: Budget = None,
    rank: Rank = None,
    top: Annotated[int, Option(min=1, help="Scores to print.")] = 20,
) -> None:
    """Print how a file will be read: its shape, the top of its scores, and what it claims."""
    from locus.report.terminal.tables import published_table

    try:
        claim, why = locus.claim(source, size=_size(size), budget=budget, rank=cast(Any, rank)), ""
    except UserError as error:
        claim, why = None, str(error)
    published_table(console(), locus.published(source), claim, why, cast(Any, rank), top)


@app.command()
def convert(
    source: Source,
    out: Annotated[Path, Option(help="Claim file to write, which --claim reads.")],
    name: Annotated[str | None, Option(help="What tables call it.", show_default="the file's name")] = None,
    size: Size = None,
    budget: Budget = None,
    rank: Rank = None,
) -> None:
    """Write the claim of a published file as one of ours, with its scores and where it came from."""
    outputs.check_file(out)
    claim = locus.claim(source, name, size=_size(size), budget=budget, rank=cast(Any, rank))
    claim.save(out)
    console().print(Text(f"{out} holds the claimed heads: {', '.join(claim.location.names)}."), soft_wrap=True)


def _size(size: str | None) -> Any:
    """A size as the library takes it.

    Raises:
        UserError: if it is neither a number nor all.
    """
    if size is None or size == "all":
        return size
    if not (size.isascii() and size.isdigit() and len(size) < 7):
        raise UserError("--size with a number, or all", repr(size[:40]), "Give one of these.")
    return int(size)
