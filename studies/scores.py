"""Exported scores as the tables of the studies read them: means and paired differences, with intervals."""

from pathlib import Path

import numpy as np
import pyarrow.parquet

from locus import stats

MARGIN = 0.25  # of the ceiling's gain, as in a verdict
ALPHA = 0.05
LEVEL = 1 - 2 * ALPHA
SCALE = {"true_info": (100, 1, "points"), "mc1": (100, 1, "points"), "mc2": (100, 1, "points"), "margin": (1, 2, "nats")}
NAMES = {"true_info": "True\\*Info", "mc1": "MC1", "mc2": "MC2"}
Values = dict[str, np.ndarray]  # by measure, one a question
Key = tuple[str, str, str, str]  # role, arm, read mode, setting


class StudyScores:
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

    def of(self, role: str, measure: str, setting: str = "", read: str = "", arm: str = "") -> np.ndarray:
        """[places, questions]; of a setting such as "tau=0.1,lr=0.02" the first part is enough."""
        asked = [
            values
            for (kind, name, mode, point), values in self.arms.items()
            if kind == role and setting in ("", point, point.split(",")[0]) and read in ("", mode) and arm in ("", name)
        ]
        return np.array([values[measure] for values in asked])

    def best(self, role: str, measure: str) -> str:
        """The setting of ITI with the highest mean."""
        settings = {key[3] for key in self.arms if key[0] == role}
        return max(settings, key=lambda setting: float(np.nanmean(self.of(role, measure, setting))))

    def tolerated(self, measure: str) -> np.ndarray:
        """[questions], a quarter of the ceiling's gain over no edit: a margin with its own sampling error, as in a verdict."""
        return MARGIN * (self.of("ceiling", measure, arm="ceiling:heads")[0] - self.of("base", measure)[0])

    def difference(self, one: np.ndarray, other: np.ndarray) -> stats.Estimate:
        """Mean of the first places less that of the others, over questions, and over places where there are several."""
        if len(one) == len(other) == 1:
            return stats.paired_bootstrap(one[0], other[0], groups=self.groups, level=LEVEL)
        spread = one - other.mean(axis=0) if len(one) > 1 else one[0] - other
        return stats.crossed_mean(spread[:, None, :], self.groups).interval(LEVEL)


def told(estimate: stats.Estimate, measure: str, tolerance: float | None = None) -> str:
    """A difference with its interval, and the margin it is held against."""
    scale, digits, unit = SCALE[measure]
    low, high = (f"{scale * value:+.{digits}f}" for value in (estimate.low, estimate.high))
    against = "" if tolerance is None else f", tolerated {scale * tolerance:.{digits}f}"
    return f"{measure}: {scale * estimate.value:+.{digits}f} {unit} [{low}, {high}]{against}"


def above(estimate: stats.Estimate) -> str:
    """Whether a difference is positive."""
    return "holds" if estimate.low > 0 else "does not" if estimate.high < 0 else "undecided"


def compared(scores: StudyScores, sides: dict[str, tuple[np.ndarray, np.ndarray]], rule: str) -> tuple[str, str]:
    """What holds by each measure, and the differences between the two sides of each."""
    standings, texts = [], []
    for measure, (one, other) in sides.items():
        tolerated = scores.tolerated(measure) if rule == "no worse" else np.zeros(one.shape[1])
        standings.append(above(scores.difference(one + tolerated, other)))
        texts.append(told(scores.difference(one, other), measure, tolerated.mean() if rule == "no worse" else None))
    words = "; ".join(f"{standing} by {measure}" for standing, measure in zip(standings, sides, strict=True))
    return standings[0] if len(set(standings)) == 1 else words, "; ".join(texts)
