"""A toy judge: what is short is true, and what is said is informative."""

from collections.abc import Sequence

from locus.judges.base import Judgement, References
from locus.judges.kind import JudgeKind


class Brief:
    """Judges by the number of words."""

    name, fingerprint = "brief", "0" * 64

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement an answer."""
        return [Judgement(1 / (1 + len(answer.split())), 1.0) for answer in answers]


JUDGE = JudgeKind(lambda argument, endpoint: Brief())
