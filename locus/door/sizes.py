"""How large an audit should be, and how often its answers are wrong: before any is begun."""

from collections.abc import Sequence
from pathlib import Path

from locus.door.run import Run
from locus.door.showing import Wanted, showing
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.records.power import PowerOfRun


def calibrate(
    out: str | Path,
    *,
    draws: int = 200,
    kinds: str | Sequence[str] | None = None,
    alpha: float = 0.05,
    tolerance: float = 0.25,
    random: int = 19,
    shares: str | Sequence[float] | None = None,
    search: str = "newton",
    steps: int | None = None,
    workers: int | None = None,
    progress: Wanted = None,
) -> JsonObject:
    """Audit many models whose true location is known, and count how often each answer is wrong.

    With `shares` the models are graded: the claimed head carries a share of the behaviour, and other heads carry the rest.

    Args:
        out: folder; the same call again goes on where it stopped.
        draws: planted models of each kind.
        kinds: of planted model, or of site (neuron, attn, mlp, resid) for all of its own; all of heads by default.
        alpha: level of the tests.
        tolerance: margin of non-inferiority, as a share of the ceiling's gain.
        random: random Locations.
        shares: of graded models, whole percents, such as `0,0.4,0.9` or `all` for 0, 0.1, ... 0.9; `draws` is of each.
        search: of graded models, how optimal edits are found: newton or adamw.
        steps: of graded models, the most steps of a search; fewer than an audit takes make it under-trained.
        workers: processes; one a core by default.
        progress: as of `audit`.

    Returns:
        The tally, as in `calibration.json`, or `graded.json`.

    Raises:
        UserError: for an unknown kind or share, or a folder with draws of other settings.
    """
    from locus.calibrate.grades import grade
    from locus.calibrate.table import ALL
    from locus.calibrate.table import calibrate as run_calibration
    from locus.plan.config import resolve

    config = resolve(alpha=alpha, tolerance=tolerance, random=random, search=search)
    if shares is not None:
        if kinds is not None:
            raise UserError("either kinds of planted model or shares of graded ones", "both", "Leave out --kinds or --shares.")
        with showing(progress) as say:
            return grade(Path(out), draws, _shares(shares), config, steps, workers, say).to_json()
    if steps is not None:
        raise UserError("--steps with --shares", "--steps alone", "Name the shares of graded models, or leave out --steps.")
    chosen = ALL if kinds is None else tuple(kinds.split(",") if isinstance(kinds, str) else kinds)
    with showing(progress) as say:
        return run_calibration(Path(out), draws, chosen, config, workers, say).to_json()


def _shares(given: str | Sequence[float]) -> Sequence[float]:
    """Shares as a command line has them."""
    from locus.calibrate.grades import SHARES

    if not isinstance(given, str):
        return given
    if given == "all":
        return SHARES
    try:
        return [float(one) for one in given.split(",")]
    except ValueError as error:
        raise UserError("shares such as 0,0.4,0.9, or all", repr(given[:80]), "Mend --shares.") from error


def power(
    run: str | Path | Run | None = None,
    *,
    random: int | None = None,
    questions: int | None = None,
    effect: float | None = None,
    noise: float | None = None,
    seeds: int | None = None,
    alpha: float | None = None,
    want: float = 0.8,
    claims: int | None = None,
) -> PowerOfRun:
    """Say what an audit of a given size can find, and what size finds an effect.

    Args:
        run: a finished run, to take effect and noise from.
        random: random Locations; the run's, or 19.
        questions: test questions; the run's, or 100.
        effect: of the claim above the mean of random Locations, in standard deviations between these; the run's, or 2.5.
        noise: of one seed's mean, in the same unit; the run's, or 0.3.
        seeds: training seeds a Location; the run's, or 1.
        alpha: level of the tests; the run's, or 0.05.
        want: wanted power.
        claims: that share the level; the run's, or 1.

    Returns:
        `least_p`, `special` (power, smallest_effect, random_for_effect), `paired` (smallest_effect in standard deviations of one
        question's difference), and more.

    Raises:
        UserError: if so few random Locations cannot reach alpha, or an argument cannot be used.

    Example:
        >>> import locus
        >>> round(locus.power(random=19)["special"]["power"], 2)
        0.82
    """
    from locus.calibrate.power import power_of

    given = {"n_random": random, "n_questions": questions, "effect": effect, "noise": noise, "alpha": alpha, "n_claims": claims}
    given["seeds"] = seeds
    return power_of(_folder(run), want=want, **{name: value for name, value in given.items() if value is not None})


def _folder(run: str | Path | Run | None) -> Path | None:
    return run.folder if isinstance(run, Run) else None if run is None else Path(run)
