"""The commands about sizes and error rates. They load nothing heavy until they are used."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import locus
from locus.boundary import outputs
from locus.boundary.terminal import console
from locus.cli.options import flags


def power(
    run: Annotated[Path | None, Argument(help="A finished run, to take effect and noise from.")] = None,
    random: Annotated[int | None, Option(help="Random Locations.", show_default="the run's, or 19")] = None,
    questions: Annotated[int | None, Option(help="Test questions.", show_default="the run's, or 100")] = None,
    effect: Annotated[float | None, Option(help="Claim above random, in sd of these.", show_default="the run's, or 2.5")] = None,
    noise: Annotated[float | None, Option(help="Of one seed's mean, in the same sd.", show_default="the run's, or 0.3")] = None,
    seeds: Annotated[int | None, Option(help="Training seeds a Location.", show_default="the run's, or 1")] = None,
    alpha: Annotated[float | None, Option(help="Level of the tests.", show_default="the run's, or 0.05")] = None,
    want: Annotated[float, Option(help="Wanted power.")] = 0.8,
    claims: Annotated[int | None, Option(help="Claims that share the level.", show_default="the run's, or 1")] = None,
    out: Annotated[Path | None, Option(help="Write the numbers to a JSON file.")] = None,
) -> None:
    """Say what an audit of a given size can find, and what size finds an effect."""
    given = flags(None, random=random, questions=questions, effect=effect, noise=noise, seeds=seeds, alpha=alpha, claims=claims)
    numbers = locus.power(run, want=want, **given)
    if out is not None:
        outputs.write_text(out, json.dumps(numbers, indent=1) + "\n")
    from locus.report.terminal import power_table

    power_table(console(), numbers)


def calibrate(
    out: Annotated[Path, Option(help="Folder; the same command again goes on where it stopped.")],
    draws: Annotated[int, Option(help="Planted models of each kind.")] = 200,
    kinds: Annotated[
        str | None,
        Option("--kinds", "--kind", help="Kinds of planted model, comma-separated, or of site (mlp); all of heads by default."),
    ] = None,
    alpha: Annotated[float, Option(help="Level of the tests.")] = 0.05,
    tolerance: Annotated[
        float, Option("--tolerance", "--margin", help="Margin of non-inferiority, as a share of the ceiling's gain.")
    ] = 0.25,
    random: Annotated[int, Option(help="Random Locations.")] = 19,
    shares: Annotated[str | None, Option(help="Audit graded models of these shares instead: 0,0.4,0.9 or all.")] = None,
    search: Annotated[str, Option(help="Of graded models: newton or adamw.")] = "newton",
    steps: Annotated[int | None, Option(help="Of graded models: most steps of a search.", show_default="an audit's")] = None,
    workers: Annotated[int | None, Option(help="Processes; one a core by default.")] = None,
) -> None:
    """Audit many models whose true location is known, and count how often each answer is wrong."""
    tally = locus.calibrate(
        out,
        draws=draws,
        kinds=kinds,
        alpha=alpha,
        tolerance=tolerance,
        random=random,
        shares=shares,
        search=search,
        steps=steps,
        workers=workers,
    )
    from locus.calibrate import grades, table
    from locus.records.calibration import Calibration, GradedCalibration

    shown = table.table(Calibration.parse(tally)) if shares is None else grades.table(GradedCalibration.parse(tally))
    console().print(shown, soft_wrap=True)
