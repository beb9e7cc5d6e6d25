"""Do prediction-powered intervals hold what they say, whatever the judge is like? Simulated, printed as Markdown tables.

Answers of edits to the same questions are true or not; a judge of known bias says how probable that is, of all of them, and
people label some. Three contrasts: an edit's gain; that of *works*; and a claim's lead over random Locations, of which one is
labelled a question, in turn.

Run: python -m studies.powered [--runs 4000] [--seed 0] > studies/powered.md
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from locus.stats import clopper_pearson, crossed_mean, powered_mean

Array = NDArray[np.float64]
Run = dict[str, tuple[bool, float]]  # by weight: whether the interval holds the truth, and its width
QUESTIONS, LABELLED, LOCATIONS, LEVEL = 160, (20, 40, 80), 19, 0.95
MARGIN, ALIKE = 0.25, 0.8  # of *works*: the margin's share, and how often claim and ceiling give the very same answer
WEIGHTS = {"tuned": None, "1": 1.0, "labels alone": 0.0}
HEAD = "| judge | labelled | tuned | weight 1 | labels alone | judge alone |\n" + "| --- " * 6 + "|"


@dataclass(frozen=True)
class SimulatedJudge:
    """A judge whose log-odds are strength times +1 or -1 by the truth, plus a lean towards each edit, plus noise.

    Attributes:
        strength: 0 knows nothing.
        leans: towards a claim's edit, and any other.
        scale: by which its probabilities are multiplied.
    """

    strength: float
    leans: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0

    def probability(self, truth: Array, edit: int, rng: np.random.Generator) -> Array:
        """Of each answer, that it is true."""
        odds = self.strength * (2 * truth - 1) + self.leans[edit] + rng.normal(size=truth.shape)
        return self.scale / (1 + np.exp(-odds))


JUDGES = {
    "good": SimulatedJudge(1.5),
    "lenient": SimulatedJudge(1.0, (1.0, 1.0)),
    "leans to the claim by one unit of log-odds": SimulatedJudge(1.0, (1.0, 0.0)),
    "timid (probabilities times 0.4)": SimulatedJudge(1.5, scale=0.4),
    "knows nothing": SimulatedJudge(0.0),
    "knows nothing and leans to the claim": SimulatedJudge(0.0, (1.0, 0.0)),
    "says the opposite": SimulatedJudge(-1.0),
}


def share(shift: float, spread: float = 1.2) -> float:
    """Share of true answers over all questions that could be asked, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    return float((1 / (1 + np.exp(0.8 - spread * nodes - shift))) @ weights / math.sqrt(2 * math.pi))


def said(rng: np.random.Generator, hard: Array, shift: Array | float) -> Array:
    """Whether answers are true."""
    odds = 1.2 * hard + shift - 0.8
    return (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)


def sample(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Which questions are labelled."""
    labelled = np.zeros(QUESTIONS, dtype=bool)
    labelled[rng.permutation(QUESTIONS)[:count]] = True
    return labelled


def gains(judge: SimulatedJudge, count: int, runs: int, seed: int) -> Iterator[Run]:
    """Of an edit over the unedited model."""
    truth, rng = share(0.6) - share(0.0), np.random.default_rng([seed, count])
    for _ in range(runs):
        hard = rng.normal(size=QUESTIONS)
        claim, base = said(rng, hard, 0.6), said(rng, hard, 0.0)
        judged = judge.probability(claim, 0, rng) - judge.probability(base, 1, rng)
        yield _held(judged, np.where(sample(rng, count), claim - base, np.nan), truth)


def works(judge: SimulatedJudge, count: int, runs: int, seed: int) -> Iterator[Run]:
    """Of claim - ceiling + margin * (ceiling - base), where claim and ceiling often give the very same answer."""
    truth, rng = MARGIN * (share(0.6) - share(0.0)), np.random.default_rng([seed, count])
    for _ in range(runs):
        hard, same = rng.normal(size=QUESTIONS), rng.random(QUESTIONS) < ALIKE
        base, claim, ceiling = (said(rng, hard, shift) for shift in (0.0, 0.6, 0.6))
        scores = [judge.probability(one, edit, rng) for one, edit in ((base, 1), (claim, 0), (ceiling, 1))]
        labels, judged = (_works(same, *one) for one in ((base, claim, ceiling), scores))
        yield _held(judged, np.where(sample(rng, count), labels, np.nan), truth)


def _works(same: NDArray[np.bool_], base: Array, claim: Array, ceiling: Array) -> Array:
    best = np.where(same, claim, ceiling)
    contrast: Array = claim - best + MARGIN * (best - base)
    return contrast


def _held(judged: Array, labels: Array, truth: float) -> Run:
    intervals = {name: powered_mean(judged, labels, weight=weight).interval(LEVEL) for name, weight in WEIGHTS.items()}
    half = 1.96 * float(judged.std()) / math.sqrt(QUESTIONS)
    held = {name: (one.low <= truth <= one.high, one.high - one.low) for name, one in intervals.items()}
    return held | {"judge alone": (abs(float(judged.mean()) - truth) <= half, 2 * half)}


def leads(judge: SimulatedJudge, count: int, runs: int, seed: int) -> Iterator[Run]:
    """Of a claim over the mean of random Locations, which differ by 0.3 of log-odds."""
    rng, at = np.random.default_rng([seed, count, 1]), np.arange(QUESTIONS)
    truth = share(0.6) - share(0.3, math.hypot(1.2, 0.3))
    for _ in range(runs):
        hard, gain = rng.normal(size=QUESTIONS), 0.3 + 0.3 * rng.normal(size=(LOCATIONS, 1))
        claim, random = said(rng, hard, 0.6), said(rng, hard, gain)
        judged = judge.probability(claim, 0, rng) - judge.probability(random, 1, rng)
        labelled, place = sample(rng, count), np.zeros(QUESTIONS, dtype=int)
        place[labelled] = np.arange(count) % LOCATIONS
        labels, crossed = np.where(labelled, claim - random[place, at], np.nan), crossed_mean(judged[:, None, :])
        powered = partial(powered_mean, judged.mean(axis=0), labels, read=judged[place, at], error=crossed.error, clusters=place)
        intervals = {name: powered(weight=weight).interval(LEVEL) for name, weight in WEIGHTS.items()}
        intervals["judge alone"] = crossed.interval(LEVEL)
        yield {name: (one.low <= truth <= one.high, one.high - one.low) for name, one in intervals.items()}


TABLES = {
    "The gain of an edit over the unedited model": gains,
    f"*works*: claim and ceiling give the same answer {ALIKE:.0%} of the time": works,
    f"The lead of a claim over {LOCATIONS} random Locations": leads,
}


def row(label: str, count: int, runs: list[Run]) -> str:
    """One line of the table."""
    cells = []
    for name in (*WEIGHTS, "judge alone"):
        covered = clopper_pearson(sum(one[name][0] for one in runs), len(runs))
        width = 100 * float(np.nanmean([one[name][1] for one in runs]))
        cells.append(f"{100 * covered.value:.1f} ({100 * covered.low:.1f} to {100 * covered.high:.1f}), {width:.0f}")
    return f"| {label} | {count} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        "# Prediction-powered intervals: do they hold what they say?\n\n"
        f"Percent of {options.runs:,} simulated audits whose {LEVEL:.0%} interval holds the truth, with the exact 95 % interval\n"
        f"of that, and the mean width in points. {QUESTIONS} questions, seed {options.seed}; the script has the judges.\n"
        f"Made by `python -m studies.powered --runs {options.runs} --seed {options.seed}`.\n"
    )
    for title, simulated in TABLES.items():
        print(f"## {title}\n\n{HEAD}")
        for name, judge in JUDGES.items():
            for count in LABELLED:
                print(row(name, count, list(simulated(judge, count, options.runs, options.seed))), flush=True)
        print()


if __name__ == "__main__":
    main()
