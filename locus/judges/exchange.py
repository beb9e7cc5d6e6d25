"""exchange:JUDGE, a judge of sides with its sides exchanged: what it calls unwanted is wanted, and the other way round.

A behaviour with its sides exchanged (`exchange:NAME`) is judged so. What says neither side, silence included, says neither still.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from locus.errors import UserError
from locus.judges.api import Endpoint
from locus.judges.base import SIDES, References, Sides
from locus.judges.kind import JudgeKind, open_judge, parse_judge
from locus.judges.sides import Labelled, SideJudge
from locus.stats.judged import Confusion

TURNED = dict(zip(SIDES, reversed(SIDES), strict=True))


class ExchangedJudge(SideJudge):
    """Judges as another does, with the sides exchanged.

    Args:
        judge: the other.
    """

    def __init__(self, judge: SideJudge):
        self.inner = judge

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"exchange:{self.inner.name}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the judge within."""
        return hashlib.sha256(f"exchange/1 {self.inner.fingerprint}".encode()).hexdigest()

    def side(self, question: str, answer: str, references: References) -> Sides:
        """The other's, exchanged; it is given the references as they are without the exchange."""
        return self.inner.side(question, answer, References(references.false, references.true)).exchanged

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Sides]:
        """One judgement per answer, in order, all asked of the other at once.

        Raises:
            UserError: as the other does.
        """
        turned = [References(one.false, one.true) for one in references]
        return [one.exchanged for one in self.inner.judge(questions, answers, turned)]

    def labelled(self) -> Sequence[Labelled]:
        """The other's, exchanged."""
        return [
            replace(one, side=TURNED.get(one.side, one.side), references=References(one.references.false, one.references.true))
            for one in self.inner.labelled()
        ]

    def errors(self) -> dict[str, Confusion]:
        """The other's, exchanged."""
        return {TURNED[side]: one for side, one in self.inner.errors().items()}


def _open(name: str, endpoint: Endpoint) -> ExchangedJudge:
    judge = open_judge(name, endpoint)
    assert isinstance(judge, SideJudge), "was checked"
    return ExchangedJudge(judge)


def _check(name: str, endpoint: Endpoint) -> None:
    kind, argument = parse_judge(name)
    if kind.notions != SIDES or name.startswith("exchange:"):
        raise UserError("a judge of sides behind exchange:", repr(name[:80]), "Judges of truth have no sides to exchange.")
    kind.check(argument, endpoint)


KIND = JudgeKind(_open, _check, "required", SIDES)
