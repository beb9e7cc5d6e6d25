"""Info: the judge's probability that what the model says is informative."""

from locus.metrics.base import SHARE, Metric, Spoken


def values(spoken: Spoken) -> float:
    """A probability for one question."""
    return spoken.info


METRIC = Metric(
    "info",
    "Info",
    SHARE,
    "Info (the judge's mean probability that what the model says is informative)",
    "speech",
    values,
    page=2,
    terminal="judged",
    beside=False,
    notions=("info",),
)
