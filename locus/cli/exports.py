"""The command that exports what a run leaves for others; it loads nothing heavy until it is used."""

from pathlib import Path
from typing import Annotated, get_args

from typer import Argument, Option

from locus.boundary.terminal import Text, console
from locus.cli.options import OwnAdapter, OwnModel, OwnRevision, Trust
from locus.errors import UserError


def export(
    run: Annotated[Path, Argument(help="Run folder.")],
    to: Annotated[Path, Option(help="A new or empty folder.")],
    trial: Annotated[
        str | None, Option(help="Whose edit: claim, ceiling, complement, random-11, shift, or a trial's id.")
    ] = None,
    form: Annotated[
        str, Option("--as", help="peft (a rank-1 edit), bias (a shift, in a copy of the model), scores, or auto.")
    ] = "auto",
    model: OwnModel = None,
    adapter: OwnAdapter = None,
    revision: OwnRevision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Export a trial's edit as a PEFT adapter or a bias, or a run's per-item scores as Parquet and CSV."""
    from locus.report.consent import Given
    from locus.report.export import Form, export_edit, export_scores

    forms: dict[str, Form] = {name: name for name in get_args(Form)}
    if form != "scores" and form not in forms:
        raise UserError("--as auto, peft, bias or scores", repr(form), "Choose one of them.")
    if form == "scores" or (form == "auto" and trial is None):
        said = [f"wrote {name}" for name in export_scores(run, to)]
    elif trial is None:
        raise UserError("--trial with a name or an id", "none", "Give --trial claim, for example, or --as scores.")
    else:
        given = Given(model=model, revision=revision, trust_remote_code=trust_remote_code, adapter=adapter)
        said = [f"wrote {to}", *export_edit(run, trial, to, forms[form], given)]
    shown = console()
    for line in said:
        shown.print(Text(line))
