"""A place of a verdict as a report shows it: with the claim that it belongs to and what it gains over no edit."""

import math
from dataclasses import dataclass

from locus.records.place import JudgedShares, Measured, PlaceResult


@dataclass(frozen=True)
class Advantage:
    """A mean difference from no edit, paired by question.

    Attributes:
        metric: in which it was measured.
        mean: the difference.
        interval: 95 %, over groups of questions.
        n: groups of questions.
    """

    metric: str
    mean: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Place:
    """A place of a verdict.

    Attributes:
        result: as in the verdict.
        claim: the claim that it belongs to, or nothing.
        gain: over no edit; None where that was not measured.
    """

    result: PlaceResult
    claim: str = ""
    gain: Advantage | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.result.name

    @property
    def setting(self) -> str:
        """The point of the grid."""
        return self.result.setting

    @property
    def read(self) -> str:
        """What the edit reads."""
        return self.result.read

    @property
    def measures(self) -> dict[str, Measured]:
        """Measure -> its mean over test questions."""
        return self.result.measures

    @property
    def judged(self) -> JudgedShares | None:
        """What follows from judged answers."""
        return self.result.judged

    def mean(self, measure: str) -> float | None:
        """Mean of a measure; None where it was not measured, or nothing was scored."""
        return self.result.mean(measure)

    def ends(self, metric: str) -> tuple[float, float]:
        """An interval about a mean that was measured: of its difference from no edit where that is known in this metric, else its
        own.
        """
        measured, gain = self.measures[metric], self.gain
        mean = measured.mean
        assert mean is not None, f"{metric} of {self.name} was not measured"
        if gain and gain.metric == metric and all(math.isfinite(one) for one in (gain.mean, *gain.interval)):
            return mean + gain.interval[0] - gain.mean, mean + gain.interval[1] - gain.mean
        low, high = (mean if one is None else one for one in measured.interval)
        return low, high
