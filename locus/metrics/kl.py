"""KL(original || edited) on ordinary text, in nats a token."""

from typing import Any

from locus.metrics.base import Metric, Tokens


def values(tokens: Tokens) -> Any:
    """[tokens], nats."""
    return (tokens.base.exp() * (tokens.base - tokens.edited)).sum(-1)


METRIC = Metric(
    "kl",
    "KL",
    "nats a token",
    "KL (divergence of the edited model from the original, on other text, in nats a token)",
    "text",
    values,
    higher_is_better=False,
    smooth=True,
    tolerance=0.005,
    column="KL",
    caption="KL: to the unedited model, on other text, nats a token.",
    beside=False,
)
