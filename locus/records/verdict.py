"""The verdict of an audit, verdict.json: what was measured at every place, and what follows for every claim.

A function of plan and scores alone, but for versions and times, so that anyone can derive it again.
"""

from typing import Literal, cast

from pydantic import Field

from locus.records.base import Hash, Interval, Long, Many, Number, Part, Short
from locus.records.beside import CurvePoint, Departure, Labelled, Moved, Nested, Ranked, Transfer
from locus.records.cost import Cost, Seconds
from locus.records.findings import ClaimVerdict, Finding
from locus.records.judge import JudgeRecord
from locus.records.place import PlaceResult
from locus.records.plan import ArithmeticRecord, BlindRecord, DatasetRecord, ModelRecord
from locus.shown import visible

VERDICT_SCHEMA: Literal["locus-verdict/1"] = "locus-verdict/1"
# Kinds of edited places.
KINDS = ("claimed", "random", "complement", "ceiling", "single", "shift", "shift_random", "shift_everywhere", "random_in_layers")


class Baseline(Part):
    """What there is without an edit, and without the question."""

    base: Many[PlaceResult]
    """The unedited model; empty while it is not scored."""
    blind: Many[BlindRecord]
    """What rules that never read the question reach."""


class Gain(Part):
    """What the ceiling gains over no edit in the main metric: what every margin is a share of."""

    estimate: float | None
    """The mean difference."""
    interval: Interval
    """Its interval."""
    level: float
    """Of the interval."""
    n: int
    """Groups of questions."""
    margin_share: float
    """The share of the gain that is the margin."""
    inner: Long | None = None
    """The place inside it whose edit validation questions prefer to the one that was searched for everywhere, if there is one:
    then that is the ceiling's edit."""


class Unscored(Part):
    """Answers that the judge did not score."""

    answers: int
    """In all."""
    unscored: int
    """Without a score, but for those of a training that diverged."""
    worst: float
    """Share of them in the worst part of the run."""
    commonest: Long
    """The commonest reason."""


class PartSizes(Part):
    """Questions of each part."""

    test: int
    """Test questions."""
    train: int
    """Training questions."""
    validation: int
    """Validation questions."""


class PartSizesAsked(Part):
    """How many questions of each part were asked for; null for all."""

    test: int | None
    """Test questions."""
    train: int | None
    """Training questions."""
    validation: int | None
    """Validation questions."""


class Seeds(Part):
    """Seeds of everything random."""

    seed: int
    """Of split, random Locations and first training."""
    per_location: int
    """Trainings a Location."""


class RandomLocations(Part):
    """How many random Locations carry the verdict."""

    random: int | None
    """That the verdict is of; null while it is not reached."""
    planned: int
    """That were planned."""
    stopped_early: bool
    """Whether more could not have changed the verdict."""


class SecondSearch(Part):
    """What second searches gained, from the ends of those at some places; their edits are not used."""

    rounds: int
    """The most steps of one."""
    gained: dict[Short, Number]
    """Place -> by which the training loss was lowered once more, as a share of the loss at the start."""
    most: Number
    """The largest of these."""


class Verdict(Part):
    """A verdict.json."""

    schema_: Literal["locus-verdict/1"] = Field(alias="schema")
    """Its version."""
    model: ModelRecord
    """Which model."""
    dataset: DatasetRecord
    """Which questions."""
    prompt: Short
    """Name of the prompt format."""
    metric: Short
    """The metric that decides."""
    selected_by: Short
    """The metric by which settings were chosen on validation questions."""
    judge: JudgeRecord | None
    """Who judged what the model says; null where nobody did."""
    rule_sha256: Hash
    """Of the rule, fixed before the first result."""
    plan_sha256: Hash
    """Of the plan."""
    claims: Many[ClaimVerdict] = Field(min_length=1)
    """What follows for each claim in each read mode."""
    baseline: Baseline
    """No edit, and no question."""
    ceiling: Many[PlaceResult]
    """The optimal edit everywhere."""
    complement: Many[PlaceResult]
    """The optimal edit everywhere but at the claim."""
    claimed: Many[PlaceResult]
    """The optimal edit at the claim."""
    random: Many[PlaceResult]
    """The optimal edits at random Locations."""
    random_in_layers: Many[PlaceResult] = ()
    """The optimal edits at random Locations of the claim's layers, where these stand beside the others."""
    single: Many[PlaceResult]
    """The optimal edits at single heads."""
    gain: Gain | None = None
    """What the ceiling gains over no edit; null before both are done."""
    unscored: Unscored | None = None
    """Answers that the judge did not score, where there are any."""
    shift: Many[PlaceResult]
    """ITI at the claim."""
    shift_random: Many[PlaceResult]
    """ITI at random Locations."""
    shift_everywhere: Many[PlaceResult] = ()
    """ITI at all heads, where it was asked for."""
    n: PartSizes
    """Questions of each part."""
    asked: PartSizesAsked
    """How many were asked for."""
    seeds: Seeds
    """Of everything random."""
    arithmetic: ArithmeticRecord | None = None
    """Threads with which numbers were computed; of a plan of the first edition it is not known."""
    curve: Many[CurvePoint] = ()
    """Verdicts of all searches after so many rounds, where they were looked at; the last is of the whole ones, nearest to the
    optimum."""
    second: SecondSearch | None = None
    """What a second search would gain, where a sample of places was searched twice."""
    departures: Many[Departure] = ()
    """How far claims' edits take activations from where the unedited model's lie, where that was measured."""
    ranks: Many[Ranked] = ()
    """What edits of higher ranks find at the same places, where they were searched for."""
    transfer: Many[Transfer] = ()
    """What edits do in other prompt formats, where they were scored there."""
    also: Many[Moved] = ()
    """What edits do to other behaviours, where they were scored on these."""
    labelled: Labelled | None = None
    """What people say of some answers, where they were asked."""
    nested: Nested | None = None
    """Whether the optimum is one, as far as places inside one another can tell; where searches state their losses."""
    drawn: RandomLocations
    """How many random Locations carry the verdict."""
    unfinished: int
    """Trials of the plan that are neither done nor unnecessary."""
    versions: dict[Short, Short] = Field(default_factory=dict)
    """Of what computed the numbers."""
    seconds: Seconds | None = None
    """How long it took; null in a verdict that was only derived."""
    cost: Cost | None = None
    """The work, counted; null in a verdict of before work was counted."""

    @property
    def works(self) -> Finding:
        """The first claim's answer: is the optimal edit there as good as the optimal edit everywhere?"""
        return self.claims[0].works

    @property
    def special(self) -> Finding:
        """The first claim's answer: is it better than the optimal edits at random Locations of the same size?"""
        return self.claims[0].special

    @property
    def unique(self) -> Finding:
        """The first claim's answer: do only few random Locations do as well?"""
        return self.claims[0].unique

    @property
    def necessary(self) -> Finding:
        """The first claim's answer: does the optimal edit everywhere but there fall short?"""
        return self.claims[0].necessary

    @property
    def sentence(self) -> str:
        """The first claim's four answers in one sentence."""
        return self.claims[0].sentence

    def claim(self, name: str, read: str | None = None) -> ClaimVerdict:
        """What follows for a claim by its name; the first read mode unless one is named.

        Raises:
            KeyError: if there is no such claim.
        """
        for claim in self.claims:
            if claim.name == name and read in (None, claim.read):
                return claim
        raise KeyError(f"no claim {name!r}{f' in read mode {read!r}' if read else ''}")

    def lines(self) -> list[str]:
        """The answers to each claim's four questions, what follows, and why what is invalid is so."""
        lines = []
        for claim in self.claims:
            answers = ", ".join(f"{question} {finding.standing}" for question, finding in claim.by_question.items())
            lines += [f"  {visible(claim.name, 60)} (reads {visible(claim.read, 60)}): {answers}."]
            reasons = dict.fromkeys(one.sentence for one in claim.by_question.values() if one.standing == "invalid")
            lines += [f"    {visible(said, 300)}" for said in (claim.sentence, *reasons)]
        return lines

    def __repr__(self) -> str:
        """What it says; its parts are its attributes, and `to_json()` has them all."""
        name = f"Verdict on {visible(self.model.name, 120)} and {visible(self.dataset.name, 120)}, by {visible(self.metric, 60)}"
        return "\n".join((name, *self.lines()))

    __str__ = __repr__

    def places(self, kind: str) -> tuple[PlaceResult, ...]:
        """The places of one of `KINDS`, or of `base`.

        Raises:
            KeyError: if there is no such kind.
        """
        if kind == "base":
            return self.baseline.base
        if kind not in KINDS:
            raise KeyError(f"{kind!r} is none of {', '.join(KINDS)}")
        return cast(tuple[PlaceResult, ...], getattr(self, kind))
