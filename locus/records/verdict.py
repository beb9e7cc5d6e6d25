"""The verdict of an audit, verdict.json: what was measured at every place, and what follows for every claim.

A function of plan and scores alone, but for versions and times, so that anyone can derive it again.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic.config import JsonDict

from locus.records.base import Hash, Interval, Long, Many, Number, Part, Short
from locus.records.plan import ArithmeticRecord, BlindRecord, DatasetRecord, JudgeRecord, ModelRecord

VERDICT_SCHEMA: Literal["locus-verdict/1"] = "locus-verdict/1"
QUESTIONS = ("works", "special", "unique", "necessary")
# Kinds of edited places.
KINDS = ("claimed", "random", "complement", "ceiling", "single", "shift", "shift_random", "shift_everywhere")
Standing = Literal["supported", "refuted", "undecided", "invalid"]


class Measured(Part):
    """A mean over questions (or passages) with its interval."""

    mean: float | None
    """As a fraction, or in nats; null where nothing was scored."""
    interval: Interval
    """95 % interval, over groups of questions."""
    n: int
    """Groups of questions that were scored."""
    reason: Short = ""
    """Why something is null, or why the interval says less than its level."""


class Finding(Part):
    """How one question about one claim is answered, and by which numbers."""

    standing: Standing
    """supported, refuted, undecided (too little data), or invalid (the question could not be put)."""
    estimate: float | None = None
    """What was measured: a difference in the metric's units, or of `unique` a share of Locations."""
    interval: Interval = (None, None)
    """Its interval."""
    level: float | None = None
    """Of the interval: 1 - 2 alpha."""
    n: int | None = None
    """Groups of questions (of `unique`: random Locations) that were used."""
    p: float | None = None
    """Of the test that would support it, adjusted for the claims that share the level."""
    p_refuted: float | None = None
    """Of the test that would refute it, adjusted for claims and looks."""
    margin: float | None = None
    """In the metric's units: a share of the ceiling's gain."""
    n_random: int | None = None
    """Random Locations that were used; 0 where the question needs none."""
    sentence: Long
    """The answer in words."""
    to_decide: Long = ""
    """What would settle it, if it is undecided."""
    p_permutation: float | None = None
    """Of `works`: a paired permutation test of claim against ceiling, for comparison."""
    rank_p: float | None = None
    """Of `special`: the Monte-Carlo rank p before it is adjusted."""
    reached: float | None = None
    """Of `special`: random Locations that do at least as well as the claim."""
    p_parametric_for_comparison_only: float | None = None
    """Of `special`: what a normal distribution of random Locations would give."""
    as_good: float | None = None
    """Of `unique`: random Locations that are not inferior to the claim."""
    worse: float | None = None
    """Of `unique`: random Locations that are shown to be inferior."""


class _FourAnswers:
    """Whatever answers the four questions."""

    def finding(self, question: str) -> Finding:
        """The answer to a question by its name.

        Raises:
            KeyError: if it is none of the four.
        """
        if question not in QUESTIONS:
            raise KeyError(f"{question!r} is none of {', '.join(QUESTIONS)}")
        return cast(Finding, getattr(self, question))

    @property
    def by_question(self) -> dict[str, Finding]:
        """Question -> its answer."""
        return {question: self.finding(question) for question in QUESTIONS}


class Findings(Part, _FourAnswers):
    """The answers to the four questions about one claim."""

    works: Finding
    """Is the optimal edit at the claim as good as the optimal edit everywhere?"""
    special: Finding
    """Is it better than the optimal edits at random Locations of the same size?"""
    unique: Finding
    """Do only few random Locations do as well?"""
    necessary: Finding
    """Does the optimal edit everywhere but there fall short?"""


class Variance(Part):
    """Where the variance of the main metric at a claim's random Locations comes from, in squared units of the metric."""

    location: float | None
    """Between Locations."""
    seed: float | None
    """Between training seeds of one Location."""
    question: float | None
    """Between questions, shared by all Locations."""
    location_question: float | None
    """Questions that answer differently to different Locations."""
    residual: float | None
    """The rest."""
    n_locations: int
    """Locations that were used."""
    n_seeds: int
    """Seeds a Location."""
    n_questions: int
    """Questions that are scored everywhere."""
    reasons: dict[Short, Short]
    """Component -> why it is null, or 0."""


class ClaimVerdict(Part, _FourAnswers):
    """What follows for one claim in one read mode, by the main metric."""

    name: Long
    """What tables call the claim."""
    origin: Short
    """probe, given, null, patch ..."""
    location: Many[Short]
    """The claimed heads, LAYER.HEAD."""
    n_sites: int
    """How many these are."""
    variance: Variance | None
    """Where the variance at its random Locations comes from; null with fewer than two."""
    read: Short
    """What the edits read: layer, heads or constant."""
    works: Finding
    """Is the optimal edit at the claim as good as the optimal edit everywhere?"""
    special: Finding
    """Is it better than the optimal edits at random Locations of the same size?"""
    unique: Finding
    """Do only few random Locations do as well?"""
    necessary: Finding
    """Does the optimal edit everywhere but there fall short?"""
    sentence: Long
    """The four answers in one sentence."""
    by_metric: dict[Short, Findings]
    """The answers by other metrics, which decide nothing."""


class JudgedShares(Part):
    """What follows from a place's judged answers besides the plain means."""

    product_of_means: Measured
    """Mean True times mean Info, as Li et al. 2023 report it."""
    share: dict[Short, Measured]
    """Share of answers judged true, informative, and both, at one half or more."""
    corrected: dict[Short, Measured]
    """The same with the judge's known errors taken out; empty where nobody measured them."""
    unscored: int
    """Answers without a score."""
    silent: int
    """Answers that are empty."""


def _flat(schema: JsonDict) -> None:
    """A place's measures stand beside its other fields, under their own names."""
    properties = cast(JsonDict, schema["properties"])
    schema["additionalProperties"] = {**cast(JsonDict, properties.pop("measures")), "title": "Measures"}["additionalProperties"]
    cast(list[Any], schema["required"]).remove("measures")


class PlaceResult(Part):
    """One place with one edit, under the setting of the grid that did best on validation questions."""

    model_config = ConfigDict(json_schema_extra=_flat)

    name: Long
    """What tables call the place."""
    setting: Short
    """The point of the grid."""
    read: Short
    """What the edit reads; empty where it reads nothing."""
    location: Many[Short] | Short
    """The heads that are edited; where there are very many, how many."""
    measures: dict[Short, Measured]
    """Measure -> its mean over test questions (kl and ce: over passages). In the file they stand beside the other fields."""
    judged: JudgedShares | None = None
    """What follows from judged answers, where somebody judged."""
    trials: Many[Short] = Field(min_length=1)
    """Ids of the trials, by seed."""
    converged: Many[bool | None]
    """Whether each training settled; null where nothing was trained."""
    reasons: Many[Long]
    """Why something was not scored, or did not settle."""
    p_works: float | None = None
    """Of a single head: that its edit is not inferior to the ceiling's."""
    p_works_bh: float | None = None
    """The same, adjusted for all single heads (Benjamini and Hochberg)."""

    @property
    def settled(self) -> bool:
        """Whether every training that there was has settled."""
        return False not in self.converged

    def mean(self, measure: str) -> float | None:
        """Mean of a measure; None where it was not measured, or nothing was scored."""
        return one.mean if (one := self.measures.get(measure)) else None

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "measures" in given:
            return given
        fields = {name: value for name, value in given.items() if name in cls.model_fields}
        return {**fields, "measures": {name: value for name, value in given.items() if name not in cls.model_fields}}

    @model_serializer(mode="wrap")
    def _flattened(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, value in plain(self).items():
            written |= value if name == "measures" else {name: value}
        return written


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


class Seconds(Part):
    """How long it took."""

    trials: Annotated[Number, Field(ge=0)]
    """All trials, added up over the processes that ran side by side."""
    this_call: Annotated[Number, Field(ge=0)] = 0.0
    """The command that finished the run."""


class Took(Part):
    """What some trials took; a sum of nothing counted is null, never 0."""

    trials: int
    """How many."""
    counted: int
    """Of how many the work was counted."""
    seconds: float
    """Added up over processes."""
    tokens: float | None
    """That went through the model."""
    macs: float | None
    """Multiply-adds in matrices."""
    spared: float | None
    """Multiply-adds that reuse of prefixes made unnecessary."""


class Cost(Part):
    """The work of a run, counted."""

    total: Took
    """Of all trials."""
    by_role: dict[Short, Took]
    """Role -> what its trials took."""
    by_work: dict[Short, dict[Short, Number]]
    """Kind of work -> all its counts."""
    macs_per_second: float | None
    """Of one process, over the counted trials."""
    reason: Short
    """Why something was not counted."""


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
