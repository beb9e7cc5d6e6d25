"""The command that lists what can be named; it imports none of it."""

from typing import Annotated, Any

from rich.table import Table
from typer import Argument

from locus import registry
from locus.boundary.terminal import Text, console
from locus.models.packaged import MODELS


def show(
    kind: Annotated[str, Argument(help=f"One of {', '.join(registry.KINDS)}.")],
) -> None:
    """List what can be named: with the package, from other packages, and which extra it needs."""
    chosen: Any = kind
    table = Table()
    for heading in ("name", "what it is", "from", "extra"):
        table.add_column(heading, overflow="fold")
    for entry in registry.entries(chosen).values():
        source = "locus" if registry.shipped(chosen, entry.name) else entry.target
        table.add_row(*(Text(part) for part in (entry.name, entry.help, source, entry.extra)))
    console().print(table)
    if chosen == "models":
        packaged = ", ".join(MODELS)
        console().print(Text(f"Any other model is a hub id, a folder, a GGUF file, or comes as a Python package: {packaged}."))
