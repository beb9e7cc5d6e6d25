"""Fill the table of audits: run what is listed, add it to the table, and write the head of its page.

    LOCUS_DATA=FOLDER python -m studies.table.fill --out runs/table        # all that the table lacks; goes on where it stopped
    python -m studies.table.fill planted-localized-0 --out /tmp/t          # one
    python -m studies.table.fill --plan                                    # what is lacking, in order, and what each would take
    python -m studies.table.fill NAME --small --out /tmp/t                 # tiny, of which nothing is kept: does it run?
    python -m studies.table.fill --add RUN NAME SOURCE                     # a finished run that somebody else made
    python -m studies.table.fill --page                                    # the head of README.md anew, from the rows

A row keeps receipt and verdict. Whoever repeats an audit runs it by its name here: the settings are in listed.py.
"""

import argparse
import math
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill as wrapped

import locus
from locus.errors import UserError
from locus.table.family import Family, family, sentences
from locus.table.folder import add, check, read
from locus.table.rows import Row
from locus.units import share
from studies.behaviours.tour import enter
from studies.table.listed import SMALL, Listed, core_minutes, listed

TABLE = Path(__file__).resolve().parent
PAGE = TABLE / "README.md"
BEGIN, END = "<!-- what came out -->", "<!-- end of what came out -->"
PUBLISHED = Path(os.environ.get("LOCUS_DATA", "data")).resolve() / "behaviours"


def main() -> None:
    """Run what is named, or all that the table lacks, one after the other; a row is added as its audit ends."""
    known = {one.name: one for one in listed()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="all that the table lacks by default")
    parser.add_argument("--out", type=Path, help="for the run folders")
    parser.add_argument("--small", action="store_true", help="tiny audits, of which nothing is kept")
    parser.add_argument("--plan", action="store_true", help="only reckon what each would take")
    parser.add_argument("--add", nargs=3, metavar=("RUN", "NAME", "SOURCE"), help="add a finished run")
    parser.add_argument("--page", action="store_true", help="only the head of the page")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - known.keys()):
        parser.error(f"no audit of the table: {', '.join(unknown)}")
    there = set() if given.small else read(TABLE).rows.keys()
    chosen = [known[name] for name in given.names or known if name not in there]
    if given.add or given.page:
        if given.add:
            add(TABLE, Path(given.add[0]), given.add[1], {"source": given.add[2]}, scores=False)
        write()
    elif given.plan:
        print(planned(chosen))
    elif given.out is None:
        parser.error("--out with a folder for the runs")
    else:
        made(chosen, given.out.resolve(), given.small)


def made(chosen: Sequence[Listed], out: Path, small: bool) -> None:
    """Make the audits, and say at the end which could not be made: a night's work does not end at the first that fails.

    Raises:
        SystemExit: if one could not.
    """
    failed = []
    for one in chosen:
        try:
            filled(one, out, TABLE, small)
        except Exception as error:
            failed.append(one.name)
            if not isinstance(error, UserError):
                traceback.print_exc()
            print(f"{one.name}: {error}", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} audits could not be made: {', '.join(failed)}")


def filled(one: Listed, out: Path, table: Path, small: bool = False) -> locus.Run:
    """Make one audit, or go on with it, and add its rows to a table, with the head of its page.

    Args:
        one: the audit.
        out: for the run folders.
        table: its folder; its README.md, if it has one with marks, is written anew.
        small: whether it is tiny, and nothing is added.

    Raises:
        UserError: as `locus.audit`; a model whose package is not installed is named with what installs it.
    """
    if one.stop is not None:
        enter(one.stop, PUBLISHED)
    settings = {**one.settings, **(SMALL if small else {})}
    run = locus.audit(one.model, one.data, list(one.claims), out=out / one.name, **settings)
    if not small:
        add(table, run.folder, one.name, {"source": one.source, "url": one.url, "note": one.note}, scores=False)
        write(table)
    standings = ", ".join(f"{claim.name} {claim.special.standing}" for claim in run.verdict.claims)
    took = run.verdict.seconds
    print(f"{one.name}: {standings}; {took.trials / 60 if took else math.nan:.0f} core-minutes of trials", flush=True)
    return run


def planned(chosen: Sequence[Listed]) -> str:
    """What each audit would take of one core, and add to the table."""
    lines, total = [], 0.0
    for one in chosen:
        took = core_minutes(one)
        total += 0.0 if math.isnan(took) else took
        what = f"{len(one.claims) - one.negatives} claims, {one.negatives} negative controls"
        lines.append(f"{one.name:<36} {'under a minute' if math.isnan(took) else f'{took:.0f} core-minutes'}, {what}")
    return "\n".join([*lines, f"{len(chosen)} audits, {total / 60:.1f} core-hours"])


def write(table: Path = TABLE) -> None:
    """Put what came out between the marks of a table's page, if it has them."""
    page = table / "README.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or not (table / "table.json").is_file():
        return
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{came_out(check(table).rows)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def came_out(rows: Sequence[Row]) -> str:
    """The head of the page, in Markdown: how many rows, the sentence and what follows, and the claims by kind and heuristic."""
    found = family(rows)
    parts = {part: sum(row.part == part for row in rows) for part in ("claim", "negative", "positive")}
    audits = len({row.name for row in rows})
    so_far = f"{len(rows)} rows of {audits} audits so far: {parts['claim']} claims, {parts['negative']} negative controls, "
    so_far += f"{parts['positive']} positive controls."
    paragraphs = [wrapped(one, 100, break_on_hyphens=False) for one in (*sentences(found), so_far)]
    return "\n\n".join([*paragraphs, *([by_kind(found)] if found.groups else [])])


def by_kind(found: Family) -> str:
    """The claims by kind of site and heuristic, a row each."""
    lines = [
        "| site | origin | claims | led | special | refuted | undecided | of those that led, special |",
        "| --- " * 8 + "|",
    ]
    for one in found.groups:
        held = f"{share(one.held.value)} of {one.held.n} ({share(one.held.low)} to {share(one.held.high)})"
        cells = [one.kind, one.origin, one.claims, f"{one.led} of {one.tried}", one.special, one.refuted, one.undecided]
        lines.append(f"| {' | '.join(map(str, cells))} | {held if one.held.n else '–'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
