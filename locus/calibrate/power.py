"""What an audit of a given size can find, and what size finds an effect: before the hours are spent.

Effects at random Locations are in standard deviations between Locations; effects over questions are in standard deviations of
one question's paired difference. A finished run gives both scales from its own scores.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field
from scipy import optimize

from locus import stats
from locus.boundary import settings
from locus.conclude.derive import recorded
from locus.conclude.scores import ceiling_of, findings
from locus.errors import UserError
from locus.records.power import Power, PowerOfRun
from locus.stats.estimate import unit_values


def power(
    n_random: int,
    n_questions: int,
    *,
    effect: float = 2.5,
    noise: float = 0.3,
    alpha: float = 0.05,
    want: float = 0.8,
    n_claims: int = 1,
    seeds: int = 1,
) -> Power:
    """Power and smallest detectable effects of an audit, and the sizes that reach a wanted power.

    Args:
        n_random: random Locations.
        n_questions: test questions.
        effect: of the claim above the mean of random Locations, in sd between Locations.
        noise: sd of a Location's measured mean around its true value with one training seed, same units; seeds are averaged.
        alpha: level of the tests.
        want: wanted power.
        n_claims: claims that share the level (Holm; the least of their levels is alpha / n_claims).
        seeds: training seeds per Location.

    Returns:
        least_p; special (power, smallest_effect, random_for_effect); paired (smallest_effect in sd of a paired difference,
        questions_for of some effects).

    Raises:
        UserError: if n_random cannot reach alpha, or an argument cannot be used.
    """
    level = _level(n_random, alpha, n_claims)
    if seeds < 1:
        raise UserError("at least 1 training seed", str(seeds), "Mend --seeds.")
    noise /= math.sqrt(seeds)
    random_needed = stats.random_for_power(effect, want, level, noise)
    questions_needed = [stats.questions_for_effect(size, 1.0, level, want, two_sided=False) for size in (0.1, 0.2, 0.5)]
    return {
        "n_random": n_random,
        "n_questions": n_questions,
        "alpha": alpha,
        "n_claims": n_claims,
        "want": want,
        "noise": noise,
        "seeds": seeds,
        "least_p": stats.smallest_p(n_random),
        "special": {
            "effect": effect,
            "power": stats.rank_power(effect, n_random, alpha=level, noise=noise),
            "smallest_effect": _smallest_effect(n_random, level, noise, want),
            "random_for_effect": random_needed.n,
            "reason": random_needed.reason,
        },
        "paired": {
            "smallest_effect": stats.smallest_detectable_effect(1.0, n_questions, level, want, two_sided=False),
            "questions_for": {str(size): one.n for size, one in zip((0.1, 0.2, 0.5), questions_needed, strict=True)},
        },
        "curve": _curve(n_random, level, noise),
        "effects": list(EFFECTS),
    }


def _level(n_random: int, alpha: float, n_claims: int) -> float:
    """The least level of Holm's method; refused where the rank test cannot reach it."""
    level = alpha / n_claims
    if stats.smallest_p(n_random) > level:
        raise UserError(
            f"an alpha of at least {stats.smallest_p(n_random):.3f}, the least p that {n_random} random Locations can give",
            f"{alpha:g}" + (f" shared by {n_claims} claims" if n_claims > 1 else ""),
            f"Draw at least {stats.least_random_for(alpha, n_claims)} random Locations, or raise alpha.",
        )
    return level


EFFECTS = tuple(round(0.25 * step, 2) for step in range(0, 21))  # sd between Locations


def _curve(n_random: int, alpha: float, noise: float) -> dict[str, list[float]]:
    """Power of the rank test for every effect, by number of random Locations."""
    counts = [count for count in sorted({19, 39, 99, n_random}) if stats.smallest_p(count) <= alpha]
    return {str(count): [stats.rank_power(size, count, alpha=alpha, noise=noise) for size in EFFECTS] for count in counts}


def _smallest_effect(n_random: int, alpha: float, noise: float, want: float) -> float:
    """The least effect that the rank test finds with a power, in sd between Locations."""

    def excess(size: float) -> float:
        return stats.rank_power(size, n_random, alpha=alpha, noise=noise) - want

    if not excess(-5.0) < 0 < excess(50.0):
        raise UserError(
            f"a power that an effect between -5 and 50 sd reaches, with noise {noise:g}", f"{want:g}", "Mend --noise or --want."
        )
    return float(optimize.brentq(excess, -5.0, 50.0, xtol=1e-6))


class Asked(settings.Settings):
    """What may be said of an audit's size, level and scales."""

    n_random: int | None = Field(None, ge=1)
    n_questions: int | None = Field(None, ge=2)
    effect: float | None = None
    noise: float | None = Field(None, ge=0)
    alpha: float | None = Field(None, gt=0, lt=0.5)
    want: float = Field(0.8, gt=0, lt=1)
    n_claims: int | None = Field(None, ge=1)
    seeds: int | None = Field(None, ge=1)


def power_of(run: Path | None, **options: float) -> PowerOfRun:
    """Power as asked for, or else of the size, the level and the scales of a finished run, if there is one.

    Args:
        run: the run folder, or None.
        options: arguments of `power`; what is missing is the run's, or 19 random Locations, 100 questions and `power`'s defaults.

    Returns:
        As `power`, with `run` (the run's scales, or nothing) and `warning` (why they may mean little, or nothing).

    Raises:
        UserError: as `power` and `scales`.
    """
    settings.build(Asked, options, "sizes, levels and scales that an audit can have", "See `locus power --help`.")
    if run is None:
        return {**_power(Asked(n_random=19, n_questions=100), options), "run": {}, "warning": ""}
    measured = scales(run)
    with recorded(run) as record:
        verdicts = findings(record, record.config.reads[0], record.config.metric)
    config, first = record.config, verdicts.findings[0].works if verdicts is not None else None
    own = Asked.model_construct(
        n_random=config.random,
        n_questions=len(record.items["test"]),
        alpha=config.alpha,
        n_claims=config.sharing,
        effect=measured["effect"],
        seeds=config.seeds,
        noise=measured["noise"] * math.sqrt(config.seeds),  # what one seed would leave
    )
    warning = ""
    if first is not None and first.standing == "invalid" and first.margin is None:
        warning = f"This run's verdict is invalid, so its effect and noise may be of nothing. {first.sentence}"
    return {**_power(own, options), "run": measured, "warning": warning}


def _power(own: Asked, options: Mapping[str, float]) -> Power:
    """Power as asked for, and otherwise of one's own size, level and scales."""
    arguments = dict(own.model_copy(update=options))
    return power(**{name: value for name, value in arguments.items() if value is not None})


def scales(run: Path) -> dict[str, float]:
    """What a finished run says of effect and noise, in its main metric.

    Args:
        run: a run folder with random Locations.

    Returns:
        effect (the first claim above the mean of random Locations, in sd between Locations), noise (same units), paired_sd (of
        claim minus ceiling, in the metric's units), location_sd (in the metric's units).

    Raises:
        UserError: if the run has fewer than 3 finished random Locations.
    """
    with recorded(run) as record:
        claim, metric = record.plan.claims[0].name, record.config.metric
        arms, claim_arms, ceiling = record.find("random", claim), record.find("claim", claim), ceiling_of(record)
        if len(arms) < 3 or not claim_arms or not ceiling:
            raise UserError(
                "at least 3 random Locations, the claim and the ceiling", f"{len(arms)} finished", "Let the run go on."
            )
        random = np.array([record.of(arm, metric) for arm in arms])
        claim_scores, ceiling_scores = record.of(claim_arms[0], metric).mean(axis=0), record.of(ceiling, metric).mean(axis=0)
    components = stats.variance_components(random, record.groups)
    spread = float(np.nanmean(random, axis=(1, 2)).std(ddof=1))
    if spread == 0:
        raise UserError("random Locations that differ", "all the same", "Give --effect and --noise instead of a run.")
    root = {
        name: math.sqrt(max(0.0, np.nan_to_num(getattr(components, name)))) for name in ("location_question", "seed", "residual")
    }
    noise = stats.measurement_noise(
        components.n_questions, components.n_seeds, root["location_question"], root["seed"], root["residual"]
    )
    # What is left of the spread of measured means once their noise is taken out; never less than a tenth of it.
    true = math.sqrt(max(spread**2 - noise**2, 0.01 * spread**2))
    return {
        "effect": float((np.nanmean(claim_scores) - np.nanmean(random)) / true),
        "noise": noise / true,
        "paired_sd": float(unit_values(claim_scores - ceiling_scores, record.groups).std(ddof=1)),
        "location_sd": true,
    }
