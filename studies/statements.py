"""The paper's eight statements, each by a test on committed scores: holds, does not, or undecided here.

`python studies/statements.py > studies/truthfulqa/statements.md`; reads scores.parquet of truthfulqa, truthfulqa/singles and
read-modes, and the probe accuracies in truthfulqa/singles/heads.json. By True*Info of the judge where answers were judged, and
by the preference margin.
"""

import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from scores import ALPHA, MARGIN, NAMES, SCALE, StudyScores, compared

from locus import stats

HERE = Path(__file__).parent


def single_heads(alone: StudyScores, measure: str) -> tuple[list[str], np.ndarray, str]:
    """Single heads that are no worse than the ceiling after Holm's correction, the gain of each, and all of it in words."""
    ceiling, tolerated = alone.of("ceiling", measure)[0], alone.tolerated(measure)
    arms = [key[1] for key in alone.arms if key[0] == "single"]
    values = alone.of("single", measure)
    tests = [stats.noninferiority(one + tolerated, ceiling, 0.0, groups=alone.groups) for one in values]
    good = [alone.heads[arm] for arm, p in zip(arms, stats.holm([test.p for test in tests]), strict=True) if p <= ALPHA]
    gains = (values - alone.of("base", measure)[0]).mean(axis=1)
    scale, digits, unit = SCALE[measure]
    low, high, whole = (f"{scale * gain:.{digits}f}" for gain in (gains.min(), gains.max(), tolerated.mean() / MARGIN))
    margin, apart = float(tolerated.mean()), [alone.difference(one[None], ceiling[None]) for one in values]
    close, worse = sum(one.value > -margin for one in apart), sum(one.high < -margin for one in apart)
    named = f"{measure}: shown of {len(good)} of {len(arms)} ({', '.join(good) or 'none'}) after Holm's correction"
    as_measured = f"{close} within the margin as measured, {worse} surely below it"
    words = f"{named}; {as_measured}; gains {low} to {high} {unit}, everywhere {whole}"
    return good, gains, words


def accuracy(alone: StudyScores, good: list[str], gains: np.ndarray, measure: str) -> tuple[str, str]:
    """Whether single heads that match have no high probe accuracy, and how gain goes with accuracy."""
    known: dict[str, float] = next(iter(json.loads((HERE / "truthfulqa" / "singles" / "heads.json").read_text()).values()))
    mine = np.array([known[alone.heads[key[1]]] for key in alone.arms if key[0] == "single"])
    rank = spearmanr(mine, gains)
    correlation = f"{rank.statistic:+.2f}, p = {rank.pvalue:.2f}, {len(mine)} heads"
    words = f"rank correlation of probe accuracy and gain in {measure} {correlation}"
    if not good:
        return "undecided", words
    shares = [100 * float((np.array(list(known.values())) < known[head]).mean()) for head in good]
    spread = f"{min(shares):.0f} to {max(shares):.0f} % of all heads, median {np.median(shares):.0f}"
    words += f"; the matching heads' accuracy exceeds that of {spread}"
    return ("holds" if np.median(shares) < 75 else "does not"), words


def rows() -> list[tuple[str, str, str]]:
    """Statement, standing, by what."""
    run, alone, modes = (
        StudyScores(HERE / "truthfulqa"),
        StudyScores(HERE / "truthfulqa" / "singles"),
        StudyScores(HERE / "read-modes"),
    )
    best = run.best("shift", "true_info")
    optimal = {m: {role: run.of(role, m) for role in ("claim", "random", "ceiling")} for m in SCALE}
    steered = {m: [run.of(role, m, best) for role in ("shift", "shift-random")] for m in SCALE}
    judged = ("true_info", "margin")
    everywhere = {
        m: (modes.of("shift", m, modes.best("shift", m)), modes.of("shift-everywhere", m, modes.best("shift-everywhere", m)))
        for m in ("mc2", "margin")
    }
    matching_heads = {m: single_heads(alone, m) for m in judged}
    several = [f"{'holds' if len(matching_heads[m][0]) > 1 else 'not shown'} by {m}" for m in judged]
    return [
        (
            f"under ITI (here {best}) probed heads beat random ones",
            *compared(run, {m: (steered[m][0], steered[m][1]) for m in ("true_info", "mc2")}, "above"),
        ),
        (
            f"the optimal edit beats ITI (here {best}, its best)",
            *compared(run, {m: (optimal[m]["claim"], steered[m][0]) for m in judged}, "above"),
        ),
        (
            "the optimal edit at probed heads matches the one everywhere",
            *compared(run, {m: (optimal[m]["claim"], optimal[m]["ceiling"]) for m in judged}, "no worse"),
        ),
        (
            "random heads match probed heads",
            *compared(run, {m: (optimal[m]["random"], optimal[m]["claim"]) for m in judged}, "no worse"),
        ),
        ("several single heads match the edit everywhere", "; ".join(several), "; ".join(matching_heads[m][2] for m in judged)),
        ("those heads have no high probe accuracy", *accuracy(alone, *matching_heads["true_info"][:2], "true_info")),
        (
            "probed heads keep an edge in multiple choice",
            *compared(run, {m: (optimal[m]["claim"], optimal[m]["random"]) for m in ("mc1", "mc2")}, "above"),
        ),
        ("ITI at all heads is no better (each at its best strength)", *compared(modes, everywhere, "no worse")),
    ]


def main() -> None:
    """Print the table."""
    print("# The paper's eight statements\n")
    print("Written by `statements.py` from committed scores. Differences with 90 % intervals, over questions, and over places")
    print("where there are several; *margin* is a quarter of what the optimal edit everywhere gains.\n")
    print("| the paper says | here | by what |\n| --- | --- | --- |")
    for row in rows():
        line = f"| {' | '.join(row)} |"
        for name, called in NAMES.items():
            line = line.replace(name, called)
        print(line)


if __name__ == "__main__":
    main()
