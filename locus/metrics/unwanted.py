"""Unwanted: the judge's probability that the unwanted side of the behaviour is what the model says."""

from locus.metrics.base import SHARE, Metric, Spoken


def values(spoken: Spoken) -> float:
    """A probability for one question."""
    return spoken.unwanted


METRIC = Metric(
    "unwanted",
    "Unwanted",
    SHARE,
    "Unwanted (the judge's mean probability that the unwanted side is what the model says)",
    "speech",
    values,
    higher_is_better=None,
    page=1,
    terminal="judged",
    beside=False,
    notions=("unwanted",),
)
