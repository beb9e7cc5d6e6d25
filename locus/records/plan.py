"""The shape of a plan: what a plan.json must hold for anything to be concluded from it, whoever wrote it.

Only shapes and sizes are checked here; whether the plan is the one that a receipt names, and whether its parts follow from one
another, is the receipt's business (locus/report/verify.py).
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError

Short = Annotated[str, Field(max_length=4096)]
Long = Annotated[str, Field(max_length=1 << 22)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Head = Annotated[str, Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}$")]
FEW = 100  # names in a table of a few
PLACES = 1_000_000  # attention heads of one model
HEAD = re.compile(r"[0-9]{1,6}\.[0-9]{1,6}")
First = FailFast()  # a list is read up to its first wrong entry: one error, not millions


def _scored(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores of heads, looked at up to the first that is none."""
    if len(scores) > PLACES:
        raise ValueError(f"more than {PLACES:,} scores")
    if (wrong := next((name for name in scores if not HEAD.fullmatch(name)), None)) is not None:
        raise ValueError(f"the score of {wrong[:40]!r}, which is no head")
    if not all(type(value) in (int, float) for value in scores.values()):
        raise ValueError("a score that is no number")
    return scores


def _few(values: dict[str, Any]) -> dict[str, Any]:
    """A table of a few names, counted before they are looked at."""
    if isinstance(values, dict) and len(values) > FEW:
        raise ValueError(f"more than {FEW} names")
    return values


class Shape(BaseModel):
    """A part of a plan; what a later version adds to it is let be."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False)


class AnatomyShape(Shape):
    """How many layers and heads the model has."""

    n_layers: int = Field(ge=1, le=100_000)
    n_heads: int = Field(ge=1, le=100_000)
    n_kv_heads: int = Field(ge=1, le=100_000)
    head_dim: int = Field(ge=1, le=1 << 20)
    width: int = Field(ge=1, le=1 << 24)


class ModelShape(Shape):
    """Which model."""

    name: Short
    quantised: bool
    anatomy: AnatomyShape
    checks: Annotated[list[Short], First]


class BlindShape(Shape):
    """What a rule that never reads the question reaches."""

    name: Long
    mc1: float
    mc1_chance: float
    mc1_interval: Annotated[list[float], First] = Field(min_length=2, max_length=2)


class DatasetShape(Shape):
    """Which questions."""

    name: Long
    licence: Short
    n_items: Count
    sha256: Hash
    blind: Annotated[list[BlindShape], First] = Field(max_length=16)


class ItemShape(Shape):
    """One question."""

    id: Short
    group: Long
    question: Long


class ItemsShape(Shape):
    """The questions of each part."""

    train: Annotated[list[ItemShape], First]
    validation: Annotated[list[ItemShape], First]
    test: Annotated[list[ItemShape], First]


class ClaimShape(Shape):
    """A claim."""

    name: Long
    origin: Short
    heads: Annotated[list[Head], First] = Field(max_length=PLACES)
    scores: Annotated[dict[str, Any], AfterValidator(_scored)]
    about: dict[str, Any]


class RecipeShape(Shape):
    """How an edit is trained."""

    tau: float
    lr: float


class TrialShape(Shape):
    """A trial; its id is checked where a run is verified."""

    id: Id
    role: Short
    arm: Short
    claim: Long
    location: Annotated[list[Head], First] = Field(max_length=PLACES)
    edit: Short
    read: Short
    form: Short
    alpha: float | None
    recipe: RecipeShape | None
    seed: Count
    context: Hash


class PromptShape(Shape):
    """How a question is put."""

    name: Short
    template: Long


class ConfusionShape(Shape):
    """What is known of a judge's errors."""

    sensitivity: float | None
    specificity: float | None
    positives: float
    negatives: float


class JudgeShape(Shape):
    """Who judges."""

    name: Short
    fingerprint: Short
    confusion: Annotated[dict[Short, ConfusionShape], BeforeValidator(_few)] = Field(max_length=8)
    seen: Count | None


class PlanShape(Shape):
    """A plan.json."""

    schema_: Literal["locus-plan/1", "locus-plan/2"] = Field(alias="schema")
    sha256: Hash
    rule_sha256: Hash
    config: dict[str, Any]
    context: dict[str, Any]
    rule: dict[str, Any]
    model: ModelShape
    dataset: DatasetShape
    prompt: PromptShape
    judge: JudgeShape | None = None
    items: ItemsShape
    claims: Annotated[list[ClaimShape], First] = Field(min_length=1, max_length=10_000)
    trials: Annotated[list[TrialShape], First] = Field(min_length=1)
    banks: Annotated[list[Annotated[list[Id], First]], First]


def check(plan: dict[str, Any]) -> None:
    """Check the shape of a parsed plan.json.

    Raises:
        ValueError: naming the first part that is missing or of another kind.
    """
    try:
        shape = PlanShape.model_validate(plan)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the plan'}: {first['msg']}") from error
    anatomy = shape.model.anatomy
    if anatomy.n_layers * anatomy.n_heads > PLACES:
        raise ValueError(f"model.anatomy: more than {PLACES:,} heads")
    planned = {trial.id for trial in shape.trials}
    if {identity for bank in shape.banks for identity in bank} != planned or len(planned) < len(shape.trials):
        raise ValueError("banks: not made of the plan's trials, each once")
    # What is concluded of a claim is found by its name. The first edition gave one name to all heads of a text.
    earlier = shape.schema_ == "locus-plan/1"
    names = [(claim.name, tuple(claim.heads) if earlier else ()) for claim in shape.claims]
    if len(set(names)) < len(names):
        raise ValueError("claims: two of one name")
