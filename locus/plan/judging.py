"""Who judges what is said unless told otherwise: the judge that a behaviour names, and the metric that follows from it."""

from locus import behaviours
from locus.behaviours.items import TRUTH, Dataset
from locus.errors import UserError
from locus.metrics.base import deciding


def named(data: str, dataset: Dataset | None = None) -> str:
    """The judge that a behaviour names, or none.

    Args:
        data: the behaviour, as settings have it.
        dataset: its questions, where they are open.
    """
    try:
        return (dataset or behaviours.load(data)).judge or "none"
    except UserError:
        return "none"  # what is wrong with it is said with all else that is


def decided_by(judge: str) -> str:
    """The metric by which a verdict is drawn from what a judge says."""
    from locus.judges.kind import parse_judge

    try:
        return deciding(parse_judge(judge)[0].notions).name
    except UserError:
        return deciding(TRUTH).name  # likewise
