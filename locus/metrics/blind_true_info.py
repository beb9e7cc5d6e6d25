"""True*Info by a judge that reads only the wording: a gain that it also sees is no evidence of truthfulness."""

from locus.metrics.base import SHARE, Metric, Spoken


def values(spoken: Spoken) -> float:
    """A fraction for one question."""
    return spoken.blind_truth * spoken.blind_info


METRIC = Metric(
    "blind_true_info",
    "Wording",
    SHARE,
    "True*Info by a judge that reads only the wording",
    "speech",
    values,
    higher_is_better=None,
    heading="Wording, % True*Info",
    column="blind %",
    caption="Blind: True*Info by a judge of wording alone.",
    page=None,
    terminal="judged",
    beside=False,
    notions=("truth", "info"),
)
