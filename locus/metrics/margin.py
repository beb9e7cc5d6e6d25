"""The preference margin: how much more the wanted answers have gained than the unwanted, in nats.

The mean over wanted x unwanted pairs of the gain of one's log-prob over the base model's minus the other's; its IPO target is
1 / (2 tau).
"""

from locus.metrics.base import Answers, Metric


def values(answers: Answers) -> float:
    """Nats for one question."""
    assert answers.base_wanted is not None and answers.base_unwanted is not None, "a gain is over the base model"
    gained, lost = answers.wanted - answers.base_wanted, answers.unwanted - answers.base_unwanted
    return float(gained.mean() - lost.mean())


METRIC = Metric(
    "margin",
    "Margin",
    "nats",
    "preference margin (gain of true over false answers, in nats)",
    "answers",
    values,
    of_base=True,
    smooth=True,
    tolerance=0.05,
    axis="preference margin, nats",
    column="margin, nats",
    caption="Margin: gain of true over false answers.",
    page=5,
    terminal="unjudged",
)
