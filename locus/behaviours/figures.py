"""What was measured of the behaviours that come with the package, on the model that comes with it.

`figures.json` is written by a study (its module is `studies.behaviours.ceilings`) from receipts that lie beside it in the
repository. Figures are of exactly these questions: where the hash of a behaviour is another, it has none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from locus.behaviours.items import Dataset

PATH = Path(__file__).with_name("figures.json")
METRICS = ("mc1", "mc2", "margin")

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Figures:
    """Base rate and ceiling of a behaviour.

    Attributes:
        model: measured on.
        train: training questions of the optimal edit of all heads.
        test: test questions.
        groups: of test questions, which are what was resampled.
        settled: whether the search for the optimum ended by itself.
        base: by metric, what the unedited model reaches, with its 95 % interval.
        ceiling: likewise what the edit reaches.
        gain: the difference, with its 90 % interval.
        receipt: where the scores lie in the repository.
    """

    model: str
    train: int
    test: int
    groups: int
    settled: bool
    base: Mapping[str, Interval]
    ceiling: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    receipt: str


def of(dataset: Dataset) -> Figures | None:
    """The figures of a data set; None where none were measured on these questions."""
    row = _rows().get(dataset.sha256)
    if row is None:
        return None
    plain = {name: row[name] for name in ("model", "train", "test", "groups", "settled", "receipt")}
    parts = {part: {name: tuple(row[name][part]) for name in METRICS} for part in ("base", "ceiling", "gain")}
    return Figures(**plain, base=parts["base"], ceiling=parts["ceiling"], gain=parts["gain"])


@cache
def _rows() -> Mapping[str, Any]:
    return {row["sha256"]: row for row in json.loads(PATH.read_text(encoding="utf-8"))}
