"""The plan of an audit, plan.json: what will be done and by which rule it will be judged, fixed before the first result.

Only shapes and sizes are checked here; whether the plan is the one that a receipt names, and whether its parts follow from one
another, is the receipt's business (locus/report/verify.py). Plans of both editions are read, each under its own schema.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from locus.records.base import (
    SITE,
    Count,
    Hash,
    Id,
    Interval,
    JsonObject,
    Long,
    Many,
    Number,
    OpenPart,
    Part,
    Short,
    SiteName,
    at_most,
)
from locus.records.judge import JudgeRecord

PlanSchema = Literal["locus-plan/1", "locus-plan/2"]
FIRST_PLAN: PlanSchema = "locus-plan/1"
PLAN_SCHEMA: PlanSchema = "locus-plan/2"
PLAN_SCHEMAS = (FIRST_PLAN, PLAN_SCHEMA)
PLACES = 1_000_000  # attention heads of one model, and names of sites in a list
# Roles of random Locations: those that a verdict is by, and those beside them.
DRAWN = ("random", "random-layer", "random-shuffled", "random-isotropic")
THREADS = 1024  # and layers: a plan that asks for more is none of ours
NAME = re.compile(SITE)


def put_as(name: str) -> str:
    """The split under which a store has scores of test questions that are put in another prompt format, by its name."""
    return f"test as {name}"


def asked_of(name: str) -> str:
    """The split under which a store has scores of another behaviour's test questions, by that behaviour's name."""
    return f"test of {name}"


def _scored(scores: Any) -> Any:
    """Scores of sites, looked at up to the first that is none."""
    if not isinstance(scores, dict):
        return scores
    if len(scores) > PLACES:
        raise ValueError(f"more than {PLACES:,} scores")
    if (wrong := next((name for name in scores if not NAME.fullmatch(name)), None)) is not None:
        raise ValueError(f"the score of {wrong[:40]!r}, which is no site")
    if not all(type(value) in (int, float) for value in scores.values()):
        raise ValueError("a score that is no number")
    return scores


def roles_of(nulls: Sequence[str]) -> tuple[str, ...]:
    """The roles of random Locations that are drawn in some ways, in order."""
    return (DRAWN[0], *(f"{DRAWN[0]}-{way}" for way in nulls[1:]))


class LayoutRecord(OpenPart):
    """How many layers and heads the model has, under the first edition's names."""

    head_dim: int = Field(ge=1, le=1 << 20)
    """Width of one head (d_head)."""
    n_heads: int = Field(ge=1, le=100_000)
    """Query heads a layer."""
    n_kv_heads: int = Field(ge=1, le=100_000)
    """Key-value heads a layer."""
    n_layers: int = Field(ge=1, le=100_000)
    """Layers."""
    shape: Short = ""
    """Where the output projections are, as a path; in the first edition, the name of a family's arrangement."""
    width: int = Field(ge=1, le=1 << 24)
    """Width of the residual stream (d_model)."""
    layers: Many[Many[Count]] = Field(default=(), max_length=100_000)
    """Where layers are not alike: of each, its query heads (0 for none), key-value heads, and the width of a head."""
    points: Annotated[dict[Short, Many[Count]], at_most(16)] = Field(default_factory=dict)
    """Where edits do not act on what heads say: the width of what they act on, in every layer (0 for none)."""

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads of each layer."""
        return tuple(one[0] for one in self.layers) if self.layers else (self.n_heads,) * self.n_layers

    @model_validator(mode="after")
    def _together(self) -> Self:
        sizes = (self.n_heads, self.n_kv_heads, self.head_dim)
        within = all(len(one) == 3 and all(size <= most for size, most in zip(one, sizes, strict=True)) for one in self.layers)
        if self.layers and not (len(self.layers) == self.n_layers and within):
            raise ValueError("layers: not as many, or of other sizes, than the whole")
        if any(len(widths) != self.n_layers for widths in self.points.values()):
            raise ValueError("points: widths of other layers than the model's")
        return self


class ModelRecord(OpenPart):
    """Which model was edited, and what was checked of it."""

    anatomy: LayoutRecord
    """Its sizes."""
    checks: Many[Short]
    """Each shortcut of the engine held against the plain path on this model, with the difference found."""
    without: Annotated[dict[Short, Short], at_most(100)] = Field(default_factory=dict)
    """Shortcuts that this model does not allow, and why: it was run without them."""
    name: Short
    """Hub id, folder, file, or planted:KIND:SEED."""
    quantised: bool
    """Whether its weights come from a quantised file."""


class BlindRecord(OpenPart):
    """What a rule that never reads the question reaches."""

    mc1: Number
    """Share of questions whose best answer it picks."""
    mc1_chance: Number
    """What guessing would reach."""
    mc1_interval: Interval
    """95 % interval of `mc1`."""
    n_items: int = 0
    """Questions that it was asked."""
    n_pairs: int = 0
    """Pairs of a wanted and an unwanted answer."""
    name: Long
    """The rule."""
    pair_accuracy: Number | None = None
    """Share of pairs in which it prefers the wanted answer."""
    pair_chance: Number | None = None
    """What guessing would reach."""
    pair_interval: Interval = (None, None)
    """95 % interval of `pair_accuracy`."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if None in self.mc1_interval:
            raise ValueError("an interval without ends")
        return self


class DatasetRecord(OpenPart):
    """Which questions were asked."""

    blind: Many[BlindRecord] = Field(max_length=16)
    """What rules that never read the question reach on them."""
    form: bool = False
    """Whether the wanted side is a form, which shows without the question; left out where it is not."""
    licence: Short
    """Under which the questions may be used."""
    n_items: Count
    """Questions in all."""
    name: Long
    """What the behaviour is called."""
    sha256: Hash
    """Of all questions and answers."""


class ItemRecord(OpenPart):
    """One question."""

    group: Long
    """Questions of one group are never split, and count as one."""
    id: Short
    """Its name in scores."""
    question: Long
    """What is asked."""


class ItemsRecord(OpenPart):
    """The questions of each part."""

    test: Many[ItemRecord]
    """Reported on; nothing was fitted to them."""
    train: Many[ItemRecord]
    """Edits are trained on them."""
    validation: Many[ItemRecord]
    """Settings are chosen on them."""

    @property
    def by_part(self) -> dict[str, tuple[ItemRecord, ...]]:
        """Part -> its questions, in the order in which records list them."""
        return {"test": self.test, "train": self.train, "validation": self.validation}


class ClaimRecord(OpenPart):
    """A claim that the behaviour is at some sites, all of one kind."""

    about: JsonObject
    """How it was found."""
    heads: Many[SiteName] = Field(default=(), max_length=PLACES)
    """The claimed heads, LAYER.HEAD; left out where sites of another kind are claimed."""
    sites: Many[SiteName] = Field(default=(), max_length=PLACES)
    """The claimed sites of another kind, as it writes them."""
    name: Long
    """What tables call it."""
    origin: Short
    """probe, given, null, patch ..."""
    scores: Annotated[dict[SiteName, Number], BeforeValidator(_scored)]
    """What ranked the sites, by site (for a probe, accuracy on validation questions as a fraction)."""

    @property
    def location(self) -> tuple[str, ...]:
        """The claimed sites, whatever their kind."""
        return self.heads or self.sites

    @model_validator(mode="after")
    def _of_one_list(self) -> Self:
        if bool(self.heads) == bool(self.sites):
            raise ValueError("no sites, or heads and sites of another kind")
        return self


class RecipeRecord(OpenPart):
    """How an edit is trained."""

    lr: Number
    """Learning rate."""
    tau: Number
    """Target of the objective, in nats."""
    rounds: Count = 0
    """The most steps of a newton search; 0 where the search is by epochs."""


class TrialSpec(OpenPart):
    """One edit to be made and measured."""

    alpha: Number | None
    """Strength of an edit that is not trained; of a shift, in standard deviations."""
    arm: Short
    """What tables call the place; trials of one arm differ in the grid and the seed."""
    claim: Long
    """The claim that it belongs to, or nothing."""
    context: Hash
    """Hash of what it is run on."""
    edit: Short
    """none, or a kind of edit by its name: shift, rank1, full, complement, or another package's."""
    form: Short
    """heads or free, for full alignment."""
    location: Many[SiteName] = Field(max_length=PLACES)
    """The sites that are edited."""
    read: Short
    """layer, heads or constant; empty where the edit reads nothing."""
    recipe: RecipeRecord | None
    """How it is trained, if it is."""
    role: Short
    """base, shift, shift-random, shift-everywhere, claim, random, random-layer (or another), single, ceiling or complement."""
    seed: Count
    """Of its start and its order of questions."""
    starts: Many[Id] = Field(default=(), max_length=PLACES)
    """Trials of places inside it, from the best of whose edits it is searched for as well."""
    further: Count = 0
    """The most steps of a second search from its end, whose edit is not used; 0 where there is none."""
    rank: int = Field(1, ge=1, le=1 << 16)
    """Of the edit, where it is trained; left out where it is 1."""


class TrialRecord(TrialSpec):
    """A trial with its name."""

    id: Id
    """Content id: a hash of all the rest, which is checked where a run is verified."""

    @property
    def spec(self) -> JsonObject:
        """All that its id is a hash of, as the store has it."""
        return {name: value for name, value in self.to_json().items() if name != "id"}


class PromptRecord(OpenPart):
    """How a question is put."""

    joint: Long = ""
    """What stands between the text and the answer."""
    name: Short
    """Of the prompt format."""
    special_tokens: bool = True
    """Whether the tokenizer adds its own beginning of a text."""
    template: Long
    """The text around the question."""


class OtherRecord(OpenPart):
    """Another behaviour, on whose test questions every edit is scored and none is trained."""

    name: Long
    """What it is called."""
    sha256: Hash
    """Of all its questions and answers."""
    licence: Short
    """Under which the questions may be used."""
    form: bool = False
    """Whether the wanted side is a form, which shows without the question; left out where it is not."""
    prompt: PromptRecord
    """How a question is put."""
    items: Many[ItemRecord]
    """The questions that are asked."""


class ArithmeticRecord(Part):
    """What decides in which order sums are taken, and with it the last digits of every number."""

    bank: int = Field(ge=1, le=THREADS)
    """Threads with which a bank of trials is computed."""
    held: int = Field(ge=1, le=THREADS)
    """Layers, counted from the last, whose base residuals are read from the base model's own pass."""
    threads: int = Field(ge=1, le=THREADS)
    """Threads with which the base model's passes, the checks and the probes are computed."""


class PlanBasis(OpenPart):
    """What a plan's trials follow from: settings, what they are run on, and the rule."""

    schema_: PlanSchema = Field(alias="schema")
    """Of which edition it is."""
    rule_sha256: Hash
    """Of the rule."""
    config: JsonObject
    """The settings, as that edition names them."""
    context: JsonObject
    """What can change a trial's numbers: hashes of model, data, split, prompt and texts."""
    rule: JsonObject
    """By which the verdict is reached."""
    model: ModelRecord
    """Which model."""
    dataset: DatasetRecord
    """Which questions."""
    prompt: PromptRecord
    """How a question is put."""
    judge: JudgeRecord | None = None
    """Who judges what the model says; nothing where nobody does."""
    items: ItemsRecord
    """The questions of each part."""
    taus: Many[PositiveFloat] | None = None
    """The values of tau that the unedited model's margins ask for, where the settings leave them to it."""
    also: Many[OtherRecord] = ()
    """Other behaviours on which edits are scored; left out where there are none."""

    @property
    def first_edition(self) -> bool:
        """Whether the first edition began it."""
        return self.schema_ == FIRST_PLAN


class PlanRecord(PlanBasis):
    """A plan.json."""

    sha256: Hash
    """Of all the rest."""
    arithmetic: ArithmeticRecord | None = None
    """Threads with which its numbers are computed; plans of the first edition do not say."""
    claims: Many[ClaimRecord] = Field(min_length=1, max_length=10_000)
    """What is audited."""
    trials: Many[TrialRecord] = Field(min_length=1)
    """Every edit to be made."""
    banks: Many[Many[Id]]
    """Which trials share a forward, and are committed together."""

    @property
    def hashed(self) -> JsonObject:
        """All that `sha256` is a hash of."""
        return {name: value for name, value in self.to_json().items() if name != "sha256"}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        layout = self.model.anatomy
        if layout.n_layers * layout.n_heads > PLACES:
            raise ValueError(f"model.anatomy: more than {PLACES:,} heads")
        planned = {trial.id for trial in self.trials}
        if {identity for bank in self.banks for identity in bank} != planned or len(planned) < len(self.trials):
            raise ValueError("banks: not made of the plan's trials, each once")
        # What is concluded of a claim is found by its name. The first edition gave one name to all heads of a text.
        names = [(claim.name, claim.location if self.first_edition else ()) for claim in self.claims]
        if len(set(names)) < len(names):
            raise ValueError("claims: two of one name")
        if len({one.name for one in self.also}) < len(self.also):
            raise ValueError("also: two behaviours of one name")
        if "arithmetic" in self.model_fields_set and self.arithmetic is None:
            raise ValueError("arithmetic that is not threads, bank and held")
        if not self.first_edition and self.arithmetic is None:
            raise ValueError("without arithmetic")
        return self
