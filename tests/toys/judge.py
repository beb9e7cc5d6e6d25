"""A toy judge: what is short is on the wanted side, and its errors are counted on two answers."""

from collections.abc import Sequence

from locus.judges.base import SIDES, References, Sides
from locus.judges.kind import JudgeKind
from locus.judges.sides import Labelled, SideJudge


class Brief(SideJudge):
    """Judges by the number of words."""

    name, fingerprint = "brief", "0" * 64

    def side(self, question: str, answer: str, references: References) -> Sides:
        """The more words, the less wanted."""
        wanted = 1 / len(answer.split())
        return Sides(wanted, 1 - wanted)

    def labelled(self) -> Sequence[Labelled]:
        """One of each side."""
        return Labelled("Yes.", "wanted"), Labelled("It is a long story.", "unwanted")


JUDGE = JudgeKind(lambda argument, endpoint: Brief(), notions=SIDES)
