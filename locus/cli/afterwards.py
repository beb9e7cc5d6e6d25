"""The commands for a run that is there: its page, its receipt, what it leaves. They load nothing heavy until they are used."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import locus
from locus.boundary.terminal import Text, console
from locus.cli.options import (
    OwnAdapter,
    OwnAlso,
    OwnData,
    OwnJudge,
    OwnModel,
    OwnParts,
    OwnRevision,
    OwnText,
    OwnUrl,
    Trust,
    flags,
)
from locus.errors import UserError


def merge(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders of an audit's parts.")],
    out: Annotated[Path, Option(help="A new run folder.")],
    sign: Annotated[bool, Option(help="Sign the receipt with the user's key.")] = True,
) -> None:
    """Put the parts of an audit together into one run, and conclude: the same as if one machine had run it."""
    from locus.report.terminal import verdict_table

    verdict_table(console(), locus.merge(*runs, out=out, sign=sign).verdict, out)


def part_done(run: "locus.Run", part: str) -> str:
    """What there is to say of a part that was run to its end."""
    left, trials = run.verdict.unfinished, len(run.plan.trials)
    return f"Part {part}: {trials - left} of the plan's {trials} trials are in {run.folder}. `locus merge` joins all parts."


def report(
    runs: Annotated[
        list[Path], Argument(metavar="RUN...", help="Run folders, finished or not; a calibration's, a sweep's; a power file.")
    ],
    compare: Annotated[bool, Option("--compare", help="Set the runs side by side, on the page of the first.")] = False,
    sign: Annotated[bool, Option(help="Sign the list of what was drawn with the user's key.")] = True,
) -> None:
    """Write a run's report.html, its figures, and how to cite it; or the figures of a calibration or of a power file.

    Nothing is opened but these folders and files: no model, no data, no judge, whatever they name.
    """
    if compare and len(runs) < 2:
        raise UserError("two runs or more to set side by side", "one", "Name the others too: locus report --compare RUN RUN.")
    for run in runs[:1] if compare else runs:
        if run.is_file() or any((run / name).is_file() for name in ("calibration.json", "graded.json")):
            from locus.report.figures import errors

            console().print(Text(f"wrote figures: {', '.join(errors.write(run))}"))
        elif made := next((name for name in ("repeat", "sweep") if (run / f"{name}.json").is_file()), ""):
            from locus.report import repeat, sweep

            page = repeat.write_page(repeat.read(run), run) if made == "repeat" else sweep.write_page(sweep.read(run), run)
            console().print(Text(page), soft_wrap=True)
        else:
            page = locus.Run(run).report(compare=runs[1:] if compare else (), sign=sign)
            for written in (page, *sorted(page.parent.glob("cite.*")), page.parent / "figures"):
                console().print(Text(written), soft_wrap=True)


def verify(
    run_or_receipt: Annotated[Path, Argument(help="Run folder, receipt.json, or a numbered record of a paper.")],
    expect: Annotated[
        str | None, Option(help="Trusted name or public key that must have signed all of it; or its id or hash.")
    ] = None,
    rerun: Annotated[int, Option(min=0, help="Also repeat this many random trials on the model.")] = 0,
    seed: Annotated[int | None, Option(min=0, help="Of the draw of trials to repeat; unforeseeable by default.")] = None,
    model: OwnModel = None,
    adapter: OwnAdapter = None,
    revision: OwnRevision = None,
    behaviour: OwnData = None,
    also: OwnAlso = None,
    text: OwnText = None,
    judge: OwnJudge = None,
    judge_url: OwnUrl = None,
    own: OwnParts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Check hashes and signature, derive the verdict anew from the stored scores, and repeat random trials if asked to.

    A run chooses nothing that is opened, run or asked: what does not come with the package is what you give here, and it is held
    against the run's fingerprints.
    """
    verification = locus.verify(run_or_receipt, expect=expect)
    from locus.report.terminal import verified_table

    shown = console()
    verified_table(shown, verification)
    if rerun:
        from locus.door.afterwards import repeated
        from locus.report.rerun import sentences

        named = flags(None, model=model, adapter=adapter, revision=revision, behaviour=behaviour, also=also, text=text)
        asked = flags(None, judge=judge, judge_url=judge_url, own=own, trust_remote_code=trust_remote_code)
        for line in sentences(repeated(verification, run_or_receipt, rerun, seed, **named, **asked)):
            shown.print(Text(line), soft_wrap=True)


def export(
    run: Annotated[Path, Argument(help="Run folder.")],
    to: Annotated[Path, Option(help="A new or empty folder.")],
    trial: Annotated[
        str | None, Option(help="Whose edit: claim, ceiling, complement, random-11, shift, or a trial's id.")
    ] = None,
    form: Annotated[
        str,
        Option(
            "--as",
            help="peft (a rank-1 edit), bias (a shift, in a copy of the model), vector (a shift of the stream), "
            "scores, inspect, attestation, badge, card, cite.",
        ),
    ] = "auto",
    model: OwnModel = None,
    adapter: OwnAdapter = None,
    revision: OwnRevision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Export a trial's edit as a PEFT adapter or a bias, or what others' tools read of a run: scores, logs, receipt, card."""
    shown = console()
    given = flags(None, model=model, adapter=adapter, revision=revision)
    for line in locus.export(run, to, trial=trial, form=form, trust_remote_code=trust_remote_code, **given):
        shown.print(Text(line))
