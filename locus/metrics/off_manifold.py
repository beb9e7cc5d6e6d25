"""How much of what is said is predicted from where the unedited model never is (locus/engine/manifold.py has the measure)."""

from locus.metrics.base import SHARE, Metric, States


def values(states: States) -> float:
    """Of one question, the share of its answers' tokens that are predicted from beyond the bound."""
    return float(states.beyond.sum() / states.tokens.sum())


METRIC = Metric(
    "off_manifold",
    "Off-manifold",
    SHARE,
    "share of answer tokens predicted from a residual stream further from the unedited model's mean than 99 % of its own are",
    "states",
    values,
    higher_is_better=False,
    column="Off %",
    caption="Off: answer tokens predicted from further out than 99 % of the unedited model's own activations.",
    page=50,
    beside=False,
)
