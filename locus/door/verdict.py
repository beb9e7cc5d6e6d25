"""A verdict as values with names, over verdict.json: what stands, with which interval and which p."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from locus.errors import UserError

Standing = Literal["supported", "refuted", "undecided", "invalid"]
NAN = float("nan")
QUESTIONS = ("works", "special", "unique", "necessary")


@dataclass(frozen=True)
class Finding:
    """The answer to one of the four questions.

    Attributes:
        standing: supported, refuted, undecided or invalid.
        estimate: in the metric's own unit (a fraction, or nats); NaN where it is not defined.
        interval: of the estimate, at `level`.
        level: of the interval, as a fraction.
        p: of the test that supports it.
        p_refuted: of the test that refutes it.
        margin: that it is refuted within, in the metric's unit.
        n: test questions.
        n_random: random Locations.
        sentence: all of it in words, with the reason where it cannot be answered.
        to_decide: what would settle it, where it is undecided.
    """

    standing: Standing
    estimate: float
    interval: tuple[float, float]
    level: float
    p: float
    p_refuted: float
    margin: float
    n: int | None
    n_random: int | None
    sentence: str
    to_decide: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Finding":
        """From verdict.json."""
        low, high = found.get("interval") or (None, None)
        numbers: dict[str, Any] = {name: _number(found.get(name)) for name in ("estimate", "level", "p", "p_refuted", "margin")}
        rest = {"n": found.get("n"), "n_random": found.get("n_random"), "to_decide": found.get("to_decide", "")}
        ends = (_number(low), _number(high))
        return cls(standing=found["standing"], interval=ends, sentence=found["sentence"], **rest, **numbers)


@dataclass(frozen=True)
class ClaimVerdict:
    """What follows for one claim, in one read mode.

    Attributes:
        name, origin: of the claim.
        location: its sites by name.
        read: what the edits read: layer, heads or constant.
        works: is the optimal edit at the claim as good as the optimal edit everywhere?
        special: is it better than the optimal edits at random Locations of the same size?
        unique: do only few random Locations do as well?
        necessary: does the optimal edit everywhere but there fall short?
        sentence: the four, joined.
    """

    name: str
    origin: str
    location: tuple[str, ...]
    read: str
    works: Finding
    special: Finding
    unique: Finding
    necessary: Finding
    sentence: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "ClaimVerdict":
        """From verdict.json."""
        answers: dict[str, Any] = {question: Finding.of(found[question]) for question in QUESTIONS}
        named = {name: found[name] for name in ("name", "origin", "read", "sentence")}
        return cls(location=tuple(found["location"]), **named, **answers)


class Claims(tuple[ClaimVerdict, ...]):
    """Claims by their place or by their name."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if (found := next((one for one in self if one.name == key), None)) is None:
            raise UserError("the name of a claim", repr(key), f"There are: {', '.join(one.name for one in self)}.")
        return found


@dataclass(frozen=True)
class Verdict:
    """What an audit says.

    Attributes:
        claims: by place or name, one for every claim and read mode.
        metric: that it is drawn from.
        n_test: test questions.
        n_random: random Locations that were drawn.
        stopped_early: whether no more of them could change it.
        unfinished: trials that are still to be run.
    """

    claims: Claims
    metric: str
    n_test: int
    n_random: int | None
    stopped_early: bool
    unfinished: int

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Verdict":
        """From verdict.json."""
        drawn = found["drawn"]
        counts = {"n_test": found["n"]["test"], "n_random": drawn["random"], "unfinished": found["unfinished"]}
        claims = Claims(ClaimVerdict.of(claim) for claim in found["claims"])
        return cls(claims, found["metric"], stopped_early=drawn["stopped_early"], **counts)

    @property
    def works(self) -> Finding:
        """Of the first claim, as are the next four."""
        return self.claims[0].works  # type: ignore[no-any-return]

    @property
    def special(self) -> Finding:
        """Is the edit at the claim better than at random Locations of its size?"""
        return self.claims[0].special  # type: ignore[no-any-return]

    @property
    def unique(self) -> Finding:
        """Do only few random Locations do as well?"""
        return self.claims[0].unique  # type: ignore[no-any-return]

    @property
    def necessary(self) -> Finding:
        """Does the edit everywhere but there fall short?"""
        return self.claims[0].necessary  # type: ignore[no-any-return]

    @property
    def sentence(self) -> str:
        """The four answers in one sentence."""
        return str(self.claims[0].sentence)

    def __iter__(self) -> Iterator[ClaimVerdict]:
        return iter(self.claims)


def _number(value: Any) -> float:
    return NAN if value is None else float(value)
