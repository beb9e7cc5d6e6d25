"""Cross-entropy on ordinary text, as a change from the unedited model, in nats a token."""

from typing import Any

from locus.metrics.base import Metric, Tokens


def values(tokens: Tokens) -> Any:
    """[tokens], nats."""
    return -tokens.edited.gather(1, tokens.token[:, None])[:, 0]


METRIC = Metric(
    "ce",
    "CE change",
    "nats a token",
    "CE change (of cross-entropy from the unedited model's, on other text, in nats a token)",
    "text",
    values,
    higher_is_better=False,
    of_base=True,
    smooth=True,
    column="CE",
    caption="CE: change of cross-entropy there.",
    terminal="unjudged",
    beside=False,
)
