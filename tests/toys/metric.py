"""A toy metric: how many of the wanted answers are likelier than the mean of the unwanted ones, as a count."""

from locus.metrics.base import Answers, Metric


def values(answers: Answers) -> float:
    """A count for one question."""
    return float((answers.wanted > answers.unwanted.mean()).sum())


METRIC = Metric("above", "Above", "answers", "answers above the mean of the unwanted ones", "answers", values)
