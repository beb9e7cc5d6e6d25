"""`locus table`: add an audit to a public table, verify all of it, and make its page."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from locus.boundary.terminal import Text, console
from locus.shown import visible

app = Typer(no_args_is_help=True, help="A public table of audits: add one, verify all, make its page.")

Folder = Annotated[Path, Argument(help="The table's folder.")]


@app.command()
def add(
    run: Annotated[Path, Argument(help="Finished, signed run folder.")],
    table: Annotated[Path, Option(help="The table's folder; begun where there is none.")] = Path("table"),
    name: Annotated[str, Option(help="Of the row; by default the folder's.")] = "",
    source: Annotated[str, Option(help="Whose claim it is: a paper, a heuristic.")] = "",
    url: Annotated[str, Option(help="Where that is written, https://...")] = "",
    note: Annotated[str, Option(help="Anything else to say of it.")] = "",
    scores: Annotated[bool, Option(help="Keep plan and scores, so that anybody can derive the verdict anew.")] = True,
) -> None:
    """Verify a run and write it into a table: what a pull request would contain."""
    from locus.table.folder import add as added

    written = added(table, run, name, {"source": source, "url": url, "note": note}, scores)
    shown = console()
    shown.print(Text(f"Added to {visible(str(table), 200)}; a pull request would contain:"))
    for one in written:
        shown.print(Text(f"  {visible(one, 200)}"))


@app.command()
def check(table: Folder) -> None:
    """Verify every row: receipt, files, and the verdict anew; exit status 3 if one does not hold."""
    from locus.report.words import counted
    from locus.table.family import family, sentences
    from locus.table.folder import check as checked

    found, shown = checked(table), console()
    audits = len({row.name for row in found.rows})
    shown.print(Text(f"verified: {counted(len(found.rows), 'claim')} of {counted(audits, 'audit')}"))
    if found.partial:
        shown.print(Text(f"Without their scores, held against what was signed: {', '.join(found.partial[:20])}"))
    for sentence in sentences(family(found.rows)):
        shown.print(Text(sentence))


@app.command()
def build(
    table: Folder,
    out: Annotated[Path, Option(help="New or empty folder for the site.")] = Path("site"),
    pages: Annotated[bool, Option(help="Also draw each audit's own page.")] = True,
) -> None:
    """Verify every row and write the table as a static site."""
    from locus.table.folder import check as checked
    from locus.table.page import build as built

    written = built(checked(table), table, out, pages)
    console().print(Text(f"{len(written)} pages; open {visible(str(out / 'index.html'), 200)} in a browser."))
