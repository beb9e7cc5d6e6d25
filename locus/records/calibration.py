"""What a calibration writes: a line of draws.jsonl for every planted model, and the tally of all, calibration.json."""

from typing import Literal

from pydantic import Field

from locus.records.base import Many, Number, OpenPart, Short

Way = Literal["all", "sequential"]


class DrawnClaim(OpenPart):
    """The verdict on one claim about a planted model, whose truth is known."""

    name: Short
    """The claim."""
    read: Short
    """What the edits read."""
    metric: Short
    """The metric that decides."""
    expected: dict[Short, Short]
    """Question -> the right answer, where construction settles it."""
    standings: dict[Short, Short]
    """Question -> the answer, with all random Locations."""
    sequential: dict[Short, Short]
    """Question -> the answer, with sequential stopping."""
    rank_p: Number | None
    """Of the rank test; null where the answer is invalid."""
    drawn: int
    """Random Locations after which it stopped."""
    planned: int
    """Random Locations that were planned."""


class Draw(OpenPart):
    """One planted model and the verdicts on every claim about it."""

    kind: Short
    """Of planted model."""
    seed: int
    """Of the model and of the random Locations."""
    shuffled: bool
    """Whether its labels are shuffled."""
    claims: Many[DrawnClaim]
    """The verdicts."""
    named: dict[Short, bool]
    """Heuristic -> whether the head that it ranks first does the work."""


class CalibrationSettings(OpenPart):
    """What the rates are of."""

    alpha: Number
    """Level of the tests."""
    margin: Number
    """Margin of non-inferiority, as a share of the ceiling's gain."""
    random: int
    """Random Locations."""


class ShareCount(OpenPart):
    """A count with its share and exact 95 % interval."""

    count: int
    """How many."""
    n: int
    """Of how many."""
    share: float
    """As a fraction."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


class StandingCounts(OpenPart):
    """How often a question got each answer, and how often that was right and wrong."""

    supported: int
    """How often."""
    refuted: int
    """How often."""
    undecided: int
    """How often."""
    invalid: int
    """How often."""
    right: ShareCount | None = None
    """Of the answer that construction settles."""
    wrong: ShareCount | None = None
    """Of what contradicts it: support or refutation."""

    def of(self, standing: str) -> int:
        """How often an answer was given."""
        counts = {"supported": self.supported, "refuted": self.refuted, "undecided": self.undecided, "invalid": self.invalid}
        return counts[standing]


class CalibrationRow(OpenPart):
    """One question about one claim of one kind of planted model."""

    kind: Short
    """Of planted model, or shuffled."""
    claim: Short
    """The claim."""
    read: Short
    """What the edits read."""
    metric: Short
    """The metric that decides."""
    question: Short
    """Of the verdict."""
    expected: Short
    """The right answer; empty where construction does not settle it."""
    n: int
    """Audits."""
    all: StandingCounts
    """With all random Locations."""
    sequential: StandingCounts
    """With sequential stopping."""

    def by_way(self, way: Way) -> StandingCounts:
        """The answers with all random Locations, or with sequential stopping."""
        return self.all if way == "all" else self.sequential


class Calibration(OpenPart):
    """A calibration.json."""

    settings: CalibrationSettings
    """What the rates are of."""
    draws: int
    """Planted models."""
    rows: Many[CalibrationRow] = Field(max_length=1_000_000)
    """Every question about every claim."""
    saved: dict[Short, float]
    """Kind and claim -> mean share of random Locations that stopping early saved."""
    named: dict[Short, dict[Short, ShareCount]]
    """Kind -> heuristic -> how often the head that it ranks first does the work."""
    rank_p: dict[Short, Many[Number]]
    """Kind and claim -> every rank p-value."""
