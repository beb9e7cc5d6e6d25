"""The paper's eight statements, each by a test on committed scores: holds, does not, or undecided here.

`python studies/truthfulqa/statements.py > studies/truthfulqa/statements.md`; reads scores.parquet here, in singles/ and in
../read-modes, and singles/heads.json. By True*Info of the judge where answers were judged, and by the preference margin.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
from scipy.stats import spearmanr

from locus import stats

HERE = Path(__file__).parent
MARGIN = 0.25  # of the ceiling's gain, as in a verdict
ALPHA = 0.05
LEVEL = 1 - 2 * ALPHA
SCALE = {"true_info": (100, 1, "points"), "mc1": (100, 1, "points"), "mc2": (100, 1, "points"), "margin": (1, 2, "nats")}
NAMES = {"true_info": "True\\*Info", "mc1": "MC1", "mc2": "MC2"}
Values = dict[str, np.ndarray]  # by measure, one a question
Key = tuple[str, str, str, str]  # role, arm, read mode, setting


class Scores:
    """What an exported run says of test questions: by role, arm, read mode and setting."""

    def __init__(self, folder: Path):
        table = pyarrow.parquet.read_table(folder / "scores.parquet").to_pydict()
        named = ("role", "arm", "read", "setting", "heads", "measure", "item", "group", "value")
        rows = [row for row in zip(*(table[name] for name in named), table["split"], strict=True) if row[-1] == "test"]
        items = sorted({(row[6], row[7]) for row in rows})
        place = {item: number for number, (item, _) in enumerate(items)}
        self.groups = [group for _, group in items]
        self.arms: dict[Key, Values] = {}
        self.heads: dict[str, str] = {}
        for role, arm, read, setting, heads, measure, item, _, value, _ in rows:
            values = self.arms.setdefault((role, arm, read, setting), {})
            values.setdefault(measure, np.full(len(items), np.nan))[place[item]] = np.nan if value is None else value
            self.heads[arm] = heads

    def of(self, role: str, measure: str, setting: str = "", read: str = "") -> np.ndarray:
        """[places, questions]."""
        asked = [key for key in self.arms if key[0] == role and setting in ("", key[3]) and read in ("", key[2])]
        return np.array([self.arms[key][measure] for key in asked])

    def best(self, role: str, measure: str) -> str:
        """The setting of ITI with the highest mean."""
        settings = {key[3] for key in self.arms if key[0] == role}
        return max(settings, key=lambda setting: float(np.nanmean(self.of(role, measure, setting))))

    def tolerated(self, measure: str) -> np.ndarray:
        """[questions], a quarter of the ceiling's gain over no edit: a margin with its own sampling error, as in a verdict."""
        return MARGIN * (self.of("ceiling", measure).mean(axis=0) - self.of("base", measure)[0])

    def difference(self, one: np.ndarray, other: np.ndarray) -> stats.Estimate:
        """Mean of the first places less that of the others, over questions, and over places where there are several."""
        if len(one) == len(other) == 1:
            return stats.paired_bootstrap(one[0], other[0], groups=self.groups, level=LEVEL)
        spread = one - other.mean(axis=0) if len(one) > 1 else one[0] - other
        return stats.crossed_mean(spread[:, None, :], self.groups).interval(LEVEL)


def told(found: stats.Estimate, measure: str, tolerance: float | None = None) -> str:
    """A difference with its interval, and the margin it is held against."""
    scale, digits, unit = SCALE[measure]
    low, high = (f"{scale * value:+.{digits}f}" for value in (found.low, found.high))
    against = "" if tolerance is None else f", tolerated {scale * tolerance:.{digits}f}"
    return f"{measure}: {scale * found.value:+.{digits}f} {unit} [{low}, {high}]{against}"


def above(found: stats.Estimate) -> str:
    """Whether a difference is positive."""
    return "holds" if found.low > 0 else "does not" if found.high < 0 else "undecided"


def compared(scores: Scores, sides: dict[str, tuple[np.ndarray, np.ndarray]], rule: str) -> tuple[str, str]:
    """What holds by each measure, and the differences between the two sides of each."""
    standings, said = [], []
    for measure, (one, other) in sides.items():
        tolerated = scores.tolerated(measure) if rule == "no worse" else np.zeros(one.shape[1])
        standings.append(above(scores.difference(one + tolerated, other)))
        said.append(told(scores.difference(one, other), measure, tolerated.mean() if rule == "no worse" else None))
    words = "; ".join(f"{standing} by {measure}" for standing, measure in zip(standings, sides, strict=True))
    return standings[0] if len(set(standings)) == 1 else words, "; ".join(said)


def single_heads(alone: Scores, measure: str) -> tuple[list[str], np.ndarray, str]:
    """Single heads that are no worse than the ceiling after Holm's correction, the gain of each, and all of it in words."""
    ceiling, tolerated = alone.of("ceiling", measure)[0], alone.tolerated(measure)
    arms = [key[1] for key in alone.arms if key[0] == "single"]
    values = alone.of("single", measure)
    tests = [stats.noninferiority(one + tolerated, ceiling, 0.0, groups=alone.groups) for one in values]
    good = [alone.heads[arm] for arm, p in zip(arms, stats.holm([test.p for test in tests]), strict=True) if p <= ALPHA]
    gains = (values - alone.of("base", measure)[0]).mean(axis=1)
    scale, digits, unit = SCALE[measure]
    low, high, whole = (f"{scale * gain:.{digits}f}" for gain in (gains.min(), gains.max(), tolerated.mean() / MARGIN))
    words = (
        f"{measure}: {len(good)} of {len(arms)} ({', '.join(good) or 'none'}); gains {low} to {high} {unit}, everywhere {whole}"
    )
    return good, gains, words


def accuracy(alone: Scores, good: list[str], gains: np.ndarray, measure: str) -> tuple[str, str]:
    """Whether single heads that match have no high probe accuracy, and how gain goes with accuracy."""
    known: dict[str, float] = next(iter(json.loads((HERE / "singles" / "heads.json").read_text()).values()))
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
    run, alone, modes = Scores(HERE), Scores(HERE / "singles"), Scores(HERE.parent / "read-modes")
    best = run.best("shift", "true_info")
    optimal = {m: {role: run.of(role, m) for role in ("claim", "random", "ceiling")} for m in SCALE}
    steered = {m: [run.of(role, m, best) for role in ("shift", "shift-random")] for m in SCALE}
    judged = ("true_info", "margin")
    everywhere = {
        m: (modes.of("shift", m, modes.best("shift", m)), modes.of("shift-everywhere", m, modes.best("shift-everywhere", m)))
        for m in ("mc2", "margin")
    }
    found = {m: single_heads(alone, m) for m in judged}
    several = [f"{'holds' if len(found[m][0]) > 1 else 'not shown'} by {m}" for m in judged]
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
        ("several single heads match the edit everywhere", "; ".join(several), "; ".join(found[m][2] for m in judged)),
        ("those heads have no high probe accuracy", *accuracy(alone, found["margin"][0], found["margin"][1], "margin")),
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
