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

    @property
    def key(self) -> tuple[str, int, bool]:
        """What it was drawn from."""
        return self.kind, self.seed, self.shuffled


class CalibrationSettings(OpenPart):
    """What the rates are of."""

    alpha: Number
    """Level of the tests."""
    margin: Number
    """Margin of non-inferiority, as a share of the ceiling's gain."""
    random: int
    """Random Locations."""
    rule: Short = ""
    """By which verdicts were drawn; empty where an earlier version did not write it down."""


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


class GradedClaim(OpenPart):
    """The verdict on one claim about a graded planted model, from so many random Locations."""

    name: Short
    """planted, or other: a head drawn from the others."""
    random: int
    """Random Locations."""
    reach: Number
    """The share of the ceiling's gain that the ideal edit there has, by construction."""
    lead: Number
    """The same, above the mean of all other heads."""
    expected: dict[Short, Short]
    """Question -> the right answer, by construction."""
    standings: dict[Short, Short]
    """Question -> the answer, with all these random Locations."""
    sequential: dict[Short, Short]
    """Question -> the answer, with sequential stopping."""
    rank_p: Number | None
    """Of the rank test; null where the answer is invalid."""


class GradedDraw(OpenPart):
    """One graded planted model and the verdicts on claims about it."""

    percent: int
    """The share of the behaviour that the claimed head carries."""
    seed: int
    """Of the model and of the random Locations."""
    claims: Many[GradedClaim]
    """The verdicts."""
    ceiling: Number
    """The share of all that could be gained in training loss that the ceiling has gained."""
    unsettled: dict[Short, Number]
    """Part -> the share of its searches that had not settled and were not near the optimum."""
    compared: int
    """Searches that were held against those of the places inside them."""
    beaten: int
    """Of these, how many ended above the place inside."""
    seconds: Number
    """That it took."""

    @property
    def key(self) -> tuple[int, int]:
        """What it was drawn from."""
        return self.percent, self.seed


class GradedSettings(OpenPart):
    """What the rates of a graded calibration are of."""

    rule: Short
    """By which verdicts are drawn."""
    alpha: Number
    """Level of the tests."""
    margin: Number
    """Margin of non-inferiority, as a share of the ceiling's gain."""
    random: int
    """Random Locations."""
    metric: Short
    """The metric that decides."""
    search: Short
    """How optimal edits are found."""
    steps: int
    """The most gradients of the whole loss that a search takes."""
    near: Number
    """Of all that could be gained in training loss, the share from which a search counts as near the optimum."""


class GradedCell(OpenPart):
    """How often a question about a claim got each answer, in all draws of one share."""

    percent: int
    """The share of the behaviour that the claimed head carries."""
    claim: Short
    """planted, or other."""
    random: int
    """Random Locations."""
    question: Short
    """Of the verdict."""
    expected: Short
    """The right answer where it is the same in all draws; else empty."""
    n: int
    """Audits."""
    false: ShareCount
    """Audits that said yes where no is right."""
    missed: ShareCount
    """Audits that said no where yes is right."""
    all: StandingCounts
    """With all random Locations."""
    sequential: StandingCounts
    """With sequential stopping."""


class GradedSearch(OpenPart):
    """How far the searches of one share came."""

    percent: int
    """The share of the behaviour that the claimed head carries."""
    n: int
    """Audits."""
    short: int
    """Audits whose ceiling is not near the optimum."""
    recognised: ShareCount | None = None
    """Of these, how many say that the ceiling had not settled; nothing where there are none."""
    unsettled: dict[Short, Number]
    """Part -> the mean share of its searches that had not settled."""
    compared: int
    """Searches that were held against those of places inside them."""
    beaten: int
    """Of these, how many ended above the place inside."""
    seconds: Number
    """An audit, on average."""


class GradedCalibration(OpenPart):
    """A graded.json."""

    settings: GradedSettings
    """What the rates are of."""
    draws: int
    """Planted models."""
    cells: Many[GradedCell] = Field(max_length=1_000_000)
    """Every question about every claim at every share."""
    searches: Many[GradedSearch]
    """How far searches came, by share."""
