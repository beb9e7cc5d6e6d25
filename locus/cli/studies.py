"""The command that runs a committed study again; it loads nothing heavy until it is used."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from locus.boundary.terminal import console
from locus.cli.options import OwnAdapter, OwnAlso, OwnData, OwnJudge, OwnModel, OwnParts, OwnRevision, OwnText, OwnUrl, Trust


def reproduce(
    study: Annotated[str, Argument(help="Name of a study in studies/, or its folder.")],
    out: Annotated[Path | None, Option(help="Run folder of the new audit.", show_default="runs/reproduce-STUDY")] = None,
    data: OwnData = None,
    also: OwnAlso = None,
    size: Annotated[str, Option(help="full, or small: the first three random Locations and single heads.")] = "full",
    model: OwnModel = None,
    adapter: OwnAdapter = None,
    revision: OwnRevision = None,
    text: OwnText = None,
    judge: OwnJudge = None,
    judge_url: OwnUrl = None,
    own: OwnParts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Run a committed study again and compare its numbers with what is committed; exit status 3 if they differ.

    A study chooses nothing that is opened, run or asked: what does not come with the package is what you give here.
    """
    from locus.report.consent import Given
    from locus.report.terminal import numbers_table, progress
    from locus.reproduce import default_run, held
    from locus.reproduce import reproduce as again

    given = Given(model, revision, data, text, judge, judge_url, trust_remote_code, adapter, tuple(own or ()), tuple(also or ()))
    with progress() as say:
        numbers = again(study, out, given, size, say)
    numbers_table(console(), numbers, out or default_run(study))
    held(numbers)
