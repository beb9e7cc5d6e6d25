"""Wanted: the judge's probability that the wanted side of the behaviour is what the model says."""

from locus.metrics.base import SHARE, Metric, Spoken


def values(spoken: Spoken) -> float:
    """A probability for one question."""
    return spoken.wanted


METRIC = Metric(
    "wanted",
    "Wanted",
    SHARE,
    "Wanted (the judge's mean probability that the wanted side is what the model says)",
    "speech",
    values,
    tolerance=0.03,
    caption="Wanted, Unwanted: the judge's mean probability that this side is what the model says; the rest says neither.",
    page=0,
    terminal="judged",
    notions=("wanted",),
)
