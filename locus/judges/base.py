"""What a judge says about an answer, and what every judge offers.

A judge of truth gives the probabilities of two notions, truth and information; a judge of sides those of two others: that the
wanted side is what is said, and that the unwanted one is. Where a judge could not decide, the probability is NaN and the reason
says why: such an answer is *unscored*, which is counted and shown, and is never the same as 0.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from locus.behaviours.items import SIDES as SIDES  # the notions of judges of sides
from locus.behaviours.items import TRUTH as TRUTH  # and of judges of truth
from locus.errors import UserError

QUOTED = " in the reply "  # what follows it in a reason is this one answer's


@dataclass(frozen=True)
class References:
    """The answers to a question that are known to be true, and known to be false: those that are wanted, and those that are not.

    Attributes:
        true: at least one for a judge that reads references; likewise `false`.
    """

    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The probabilities that an answer is true, and that it is informative.

    Attributes:
        truth: in [0, 1], or NaN where unscored.
        info: likewise.
        reason: why something is unscored; empty exactly where both are scored.
    """

    truth: float
    info: float
    reason: str = field(default="")

    def __post_init__(self) -> None:
        for name, value in (("truth", self.truth), ("info", self.info)):
            if not math.isnan(value) and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be a probability or NaN, not {value!r}")
        if bool(self.reason) == self.scored:
            raise ValueError("a judgement is unscored exactly where it has a reason")

    @property
    def scored(self) -> bool:
        """Both probabilities are numbers."""
        return not (math.isnan(self.truth) or math.isnan(self.info))

    @property
    def values(self) -> dict[str, float]:
        """By notion."""
        return {"truth": self.truth, "info": self.info}

    @property
    def is_true(self) -> bool:
        """Truth at or above one half; False where unscored, so check `scored` first."""
        return self.truth >= 0.5

    @property
    def is_informative(self) -> bool:
        """Informativeness at or above one half; False where unscored, so check `scored` first."""
        return self.info >= 0.5


@dataclass(frozen=True)
class Sides:
    """The probabilities that an answer says the wanted side, and the unwanted one; what is left of 1 is neither.

    Attributes:
        wanted: in [0, 1], or NaN where unscored.
        unwanted: likewise; the two are unscored together.
        reason: why they are unscored; empty exactly where they are scored.
    """

    wanted: float
    unwanted: float
    reason: str = field(default="")

    def __post_init__(self) -> None:
        unknown = math.isnan(self.wanted)
        if unknown != math.isnan(self.unwanted) or unknown != bool(self.reason):
            raise ValueError("both sides are unscored together, exactly where there is a reason")
        if not unknown and not (min(self.wanted, self.unwanted) >= 0.0 and self.wanted + self.unwanted <= 1.0 + 1e-9):
            raise ValueError(f"two probabilities that add up to at most 1, not {self.wanted!r} and {self.unwanted!r}")

    @property
    def scored(self) -> bool:
        """Both probabilities are numbers."""
        return not self.reason

    @property
    def values(self) -> dict[str, float]:
        """By notion."""
        return {"wanted": self.wanted, "unwanted": self.unwanted}

    @property
    def exchanged(self) -> "Sides":
        """The same with its sides exchanged."""
        return Sides(self.unwanted, self.wanted, self.reason)


def undecided(reason: str) -> Sides:
    """Sides that are unscored, and why."""
    return Sides(math.nan, math.nan, reason)


def unscored(reason: str, truth: float = math.nan, info: float = math.nan) -> Judgement:
    """A judgement with at least one NaN, and why."""
    return Judgement(truth, info, reason)


def counted(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason for not scoring came up, the most frequent first; what is quoted in one is cut off."""
    return dict(Counter(reason.split(QUOTED)[0] for reason in reasons if reason).most_common())


def commonest(reasons: Iterable[str]) -> str:
    """The three commonest reasons, with how often each came up."""
    return "; ".join(f"{reason} ({times} times)" for reason, times in list(counted(reasons).items())[:3])


@runtime_checkable
class Judge(Protocol):
    """Anything that judges the truth of answers.

    Attributes:
        name: what tables call it.
        fingerprint: SHA-256 (hex) of everything its judgements depend on: weights, base weights, code version.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement per answer, in order."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A judge that learned from questions, which it knows, and that reads references."""

    def seen(self, questions: Sequence[str]) -> list[bool]:
        """Whether the judge learned from each question: on those it is better than its figures say."""
        ...


def check_lengths(questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> None:
    """Refuse inputs that do not line up.

    Raises:
        UserError: if the three are not equally long.
    """
    lengths = (len(questions), len(answers), len(references))
    if len(set(lengths)) != 1:
        raise UserError(
            "one question and one set of references for each answer",
            f"{lengths[0]} questions, {lengths[1]} answers and {lengths[2]} sets of references",
            "Repeat the question and its references for every answer to it.",
        )


def gap(question: str, answer: str, references: References) -> str:
    """Why a judge that reads references cannot decide on this input; empty if it can."""
    if not question.strip():
        return "the question is empty"
    if not answer.strip():
        return "the answer is empty"
    if not any(text.strip() for text in references.true):
        return "there is no true reference"
    if not any(text.strip() for text in references.false):
        return "there is no false reference"
    return ""
