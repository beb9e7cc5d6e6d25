"""True: the judge's probability that what the model says is true."""

from locus.metrics.base import SHARE, Metric, Spoken


def values(spoken: Spoken) -> float:
    """A probability for one question."""
    return spoken.truth


METRIC = Metric(
    "truth",
    "True",
    SHARE,
    "True (the judge's mean probability that what the model says is true)",
    "speech",
    values,
    caption="True, Info: the judge's mean probability that what the model says is true, and informative.",
    page=1,
    terminal="judged",
    beside=False,
    notions=("truth",),
)
