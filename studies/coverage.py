"""Do the intervals cover, and do the tests err, as often as they say? Simulated, printed as a Markdown table.

Run: python studies/coverage.py [--runs 500] [--draws 500] [--seed 0] [--parts intervals verdict ...] > studies/coverage.md
"""

import argparse
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from locus.conclude import tests as findings
from locus.conclude.tests import Scores
from locus.plan.config import AuditConfig
from locus.records.findings import QUESTIONS
from locus.stats import (
    bootstrap_mean,
    clopper_pearson,
    crossed_mean,
    hierarchical_bootstrap,
    monte_carlo_rank,
    noninferiority,
    paired_permutation,
    ppi_mean,
    rogan_gladen,
)
from locus.stats.bootstrap import METHODS
from locus.stats.paired import t_interval

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]
SIZES = (20, 50, 200)
LEVEL = 0.95

# Differences per question with their true mean: smooth, skewed, and what a 0 / 1 metric gives.
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "skewed (exponential)": (lambda rng, n: rng.exponential(size=n), 1.0),
    "flips of a 0/1 metric (5% worse, 15% better)": (
        lambda rng, n: rng.choice([-1.0, 0.0, 1.0], size=n, p=[0.05, 0.8, 0.15]),
        0.1,
    ),
}


def percent(hits: int, runs: int) -> str:
    """A share of runs with its exact 95% interval, in percent."""
    share = clopper_pearson(hits, runs)
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def interval_rows(runs: int, draws: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Coverage of the mean of paired differences, by shape, number of questions and method."""
    for shape, (draw, truth) in SHAPES.items():
        for method in ("t", *METHODS):
            cells = []
            for n in SIZES:
                rng, hits = np.random.default_rng([seed, n]), 0
                for run in range(runs):
                    values = np.sort(draw(rng, n))
                    interval = (
                        t_interval(values, LEVEL)
                        if method == "t"
                        else bootstrap_mean(values, level=LEVEL, method=method, draws=draws, seed=run)
                    )
                    hits += interval.low <= truth <= interval.high
                cells.append(percent(hits, runs))
            yield (shape, method, *cells)


def hierarchical_rows(runs: int, draws: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Coverage of the mean over random Locations (sd 1 between them), 2 seeds, shared questions."""
    for method, n_locations in itertools.product(("percentile", "expanded percentile", "crossed t"), (8, 16, 32)):
        cells = []
        for n in SIZES:
            rng, hits = np.random.default_rng([seed, n_locations, n]), 0
            for run in range(runs):
                scores = (
                    rng.normal(size=(n_locations, 1, 1))
                    + 0.5 * rng.normal(size=(n_locations, 2, 1))
                    + rng.normal(size=(1, 1, n))
                    + rng.normal(size=(n_locations, 2, n))
                )
                if method == "crossed t":
                    interval = crossed_mean(scores).interval(LEVEL)
                else:
                    interval = hierarchical_bootstrap(
                        scores, level=LEVEL, draws=draws, seed=run, expanded=method.startswith("expanded")
                    )
                hits += interval.low <= 0.0 <= interval.high
            cells.append(percent(hits, runs))
        yield (f"{n_locations} Locations x 2 seeds", method, *cells)


def judged_rows(runs: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Coverage of a rate of 0.3 seen through a judge (sensitivity 0.85, specificity 0.85), 40 + 40 labels."""
    for method in ("lang-reiczigel", "delta", "uncorrected", "prediction-powered", "prediction-powered, tuned"):
        cells = []
        for n in SIZES:
            rng, hits = np.random.default_rng([seed, n]), 0
            for _ in range(runs):
                truth = rng.random(n + 80) < 0.3
                # Lang-Reiczigel and delta get 40 labels of each kind; prediction-powered a random sample of 80.
                if not method.startswith("prediction"):
                    truth[n:] = np.arange(80) < 40
                judge = np.where(truth, rng.random(n + 80) < 0.85, rng.random(n + 80) >= 0.85)
                if method == "uncorrected":
                    interval = clopper_pearson(int(judge[:n].sum()), n, LEVEL)
                elif method.startswith("prediction"):
                    weight = None if method.endswith("tuned") else 1.0
                    interval = ppi_mean(judge[:n], judge[n:], truth[n:], level=LEVEL, weight=weight)
                else:
                    interval = rogan_gladen(judge[:n], judge[n:], truth[n:], level=LEVEL, method=method)
                hits += interval.low <= 0.3 <= interval.high
            cells.append(percent(hits, runs))
        yield ("judged rate", method, *cells)


def error_rows(runs: int, seed: int) -> Iterator[tuple[str, ...]]:
    """How often a test at alpha = 0.05 says yes where the truth is at the edge of no."""
    shapes = {**SHAPES, "skewed to losses (minus exponential)": (lambda rng, n: -rng.exponential(size=n), -1.0)}
    for shape, (draw, truth) in shapes.items():
        for method in ("t", "bootstrap", "sign-flip"):
            cells = []
            for n in SIZES:
                # The bootstrap inside the test draws 10 000 resamples each time; fewer runs keep the study short.
                rng, some = np.random.default_rng([seed, n, 1]), runs // 4 if method == "bootstrap" else runs
                wrong = 0
                for run in range(some):
                    values, zeros = draw(rng, n) - truth - 0.2, np.zeros(n)
                    if method == "sign-flip":
                        p = paired_permutation(values + 0.2, zeros, alternative="greater", draws=999, seed=run).p
                    else:
                        p = noninferiority(values, zeros, 0.2, method=method, seed=run).p
                    wrong += p <= 0.05
                cells.append(percent(wrong, some))
            yield (shape, {"sign-flip": "sign-flip, mean 0"}.get(method, f"non-inferiority, {method}"), *cells)


def rank_rows(runs: int, seed: int) -> Iterator[tuple[str, ...]]:
    """How often the rank test calls an exchangeable claim special at alpha = 0.05."""
    rng = np.random.default_rng([seed, 2])
    for n_random in (16, 19, 30, 39, 99):
        values = rng.standard_t(3, size=(10 * runs, n_random + 1))
        wrong = sum(monte_carlo_rank(row[0], row[1:]).p <= 0.05 for row in values)
        exact = ((n_random + 1) // 20) / (n_random + 1)
        yield (str(n_random), f"{100 * exact:.2f}", percent(wrong, 10 * runs))


def at_the_edge(rng: np.random.Generator, n: int, noise: Callable[..., Array], config: AuditConfig, share: float) -> Scores:
    """Scores of an audit whose truth lies on the bound of every question.

    The ceiling gains 1 over the base model. The claim's edit and the optimal edit everywhere but there fall short of it by just
    the margin, random Locations (sd 0.2 between them) fall short of the claim by the margin on average; with a share, that share
    of them is as good as the ceiling and the others do nothing.
    """

    def scored(*shape: int) -> Array:
        return noise(rng, (*shape, n))

    shared, short = scored(), 1.0 - config.margin
    places = short - config.margin + 0.2 * rng.normal(size=config.random)
    if share:
        places = (rng.random(config.random) < share).astype(float)
    return Scores(
        base=shared + scored(),
        claim=shared + short + scored(1),
        ceiling=shared + 1.0 + scored(1),
        complement=shared + short + scored(1),
        random=shared + places[:, None, None] + scored(config.random, 1),
        groups=[str(number) for number in range(n)],
    )


NOISES: dict[str, Callable[..., Array]] = {
    "normal": lambda rng, shape: 0.4 * rng.normal(size=shape),
    "skewed to losses": lambda rng, shape: 0.4 * (1.0 - rng.exponential(size=shape)),
}


def verdict_rows(runs: int, seed: int) -> Iterator[tuple[str, ...]]:
    """How often each question is answered, yes or no, by a truth on its bound; 19 random Locations."""
    config = AuditConfig()
    asked = [(question, 0.0) for question in QUESTIONS if question != "unique"]
    asked += [("unique", findings.UNIQUE_MOST), ("unique", findings.UNIQUE_LEAST)]
    for (shape, noise), (question, share) in itertools.product(NOISES.items(), asked):
        cells_of_way: dict[str, list[str]] = {"supported": [], "refuted": []}
        for n in SIZES:
            rng = np.random.default_rng([seed, n, 3])
            tests = [getattr(findings, question)(at_the_edge(rng, n, noise, config, share), config) for _ in range(runs)]
            for way, cells in cells_of_way.items():
                cells.append(percent(sum(getattr(test, f"p_{way}") <= config.alpha for test in tests), runs))
        for way, cells in cells_of_way.items():
            edge = f"{100 * share:.0f} % of places are as good" if share else "the margin"
            on_it = not (question == "special" and way == "supported")  # that is the rank test, whose edge is another
            on_it &= not share or (way == "supported") == (share == findings.UNIQUE_MOST)
            if on_it:
                yield (shape, question, edge, way, *cells)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """Print rows as a Markdown table."""
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def main() -> None:
    """Run all parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("--runs", 500), ("--draws", 500), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    print("# Coverage and error rates of locus.stats\n")
    head = f"Percent of {options.runs} simulated data sets per cell (exact 95% interval), {options.draws} bootstrap draws,"
    print(f"{head} seed {options.seed};")
    print("n counts questions. An undefined interval counts as a miss. Where a test itself draws 10 000 resamples, a")
    print("quarter of the data sets is used. Made by `python studies/coverage.py`.\n")
    for part in options.parts:
        title, columns, rows = PARTS[part]
        print(f"## {title}\n")
        table(columns, rows(options.runs, options.draws, options.seed))


Rows = Callable[[int, int, int], Iterator[tuple[str, ...]]]
BY_SIZE = tuple(f"n = {n}" for n in SIZES)
PARTS: dict[str, tuple[str, tuple[str, ...], Rows]] = {
    "intervals": (
        "Intervals of level 95 %: how often they hold the true mean difference",
        ("differences", "interval", *BY_SIZE),
        interval_rows,
    ),
    "locations": ("Mean over random Locations, 95 %", ("design", "interval", *BY_SIZE), hierarchical_rows),
    "judged": (
        "Judged rates, 95 %: 80 labelled answers beside n judged ones",
        ("quantity", "interval", *BY_SIZE),
        lambda runs, draws, seed: judged_rows(runs, seed),
    ),
    "tests": (
        "Tests at alpha = 5 %: how often they say yes at the edge of the null hypothesis",
        ("differences", "test", *BY_SIZE),
        lambda runs, draws, seed: error_rows(runs, seed),
    ),
    "verdict": (
        "The four questions at alpha = 5 %: how often they are answered where the truth is on the bound",
        ("scores", "question", "bound", "answer", *BY_SIZE),
        lambda runs, draws, seed: verdict_rows(runs, seed),
    ),
    "rank": (
        "Rank test at alpha = 5 %: an exchangeable claim called special",
        ("random Locations", "exact, %", "simulated, %"),
        lambda runs, draws, seed: rank_rows(runs, seed),
    ),
}


if __name__ == "__main__":
    main()
