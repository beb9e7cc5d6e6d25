"""The command for many audits at once. It loads nothing heavy until it is used."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import locus
from locus.boundary.terminal import Text, console
from locus.cli.options import flags

FAILED, OURS = 2, 1  # exit statuses


def sweep(
    file: Annotated[Path, Argument(metavar="SWEEP.toml", help="models, behaviours, claims and seeds, and \\[settings].")],
    out: Annotated[Path, Option(help="Folder for all runs; the same command again goes on, and tries again what failed.")],
    level: Annotated[
        float | None, Option(help="Rate of false discoveries over the sweep.", show_default="the file's, or 0.1")
    ] = None,
    part: Annotated[
        str | None, Option(metavar="K/N", help="Do only this share of the audits; without it the table is put together.")
    ] = None,
    ray_address: Annotated[
        str | None, Option(metavar="ADDRESS", help="Run the banks on this Ray cluster (auto: the one that is here).")
    ] = None,
    settings: Annotated[list[str] | None, Option("--set", help="A setting of every audit, as name=value; repeat.")] = None,
    sign: Annotated[bool, Option(help="Sign the receipts with the user's key.")] = True,
) -> None:
    """Audit every combination of some models, behaviours, claims and seeds, with one table over all of them."""
    given = flags(settings, level=level, part=part, executor=None if ray_address is None else f"ray:{ray_address}")
    swept = locus.sweep(file, out=out, sign=sign, **given)
    shown = console()
    if part is not None:
        left = swept.record.unfinished
        shown.print(Text(f"Part {part}: {len(swept.runs)} of {len(swept.record.audits)} audits are finished in {out}."))
        shown.print(Text("The same command without --part puts the table together." if not left else f"{left} are left."))
    else:
        from locus.report.terminal import sweep_table

        sweep_table(shown, swept.record, out)
    if any(one.failed for one in swept.record.claims):
        raise typer.Exit(OURS if swept.bugs else FAILED)
