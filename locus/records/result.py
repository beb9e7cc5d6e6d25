"""What came out of one trial: as a run hands it to the store, and as the store gives it back."""

from dataclasses import dataclass, field

from locus.records.base import Long, Many, Number, OpenPart, Part, Short
from locus.records.plan import TrialSpec


class FitRecord(OpenPart):
    """How training went."""

    diverged: bool = False
    """Whether it was stopped because the loss blew up."""
    first_loss: Number | None = None
    """Mean loss of the first step, in nats; null where it is no number."""
    loss_by_quarter: Many[Number | None] = ()
    """Mean loss of each quarter of the steps; null where it is no number."""
    steps: int = 0
    """Steps that were made; 0 where nothing was trained."""
    start: Number | None = None
    """Mean loss of all training pairs under the unedited model; nothing where the search was by epochs."""
    loss: Number | None = None
    """The same under the edit."""
    promised: Number | None = None
    """Share of `start` by which the next step would lower the loss, by the quadratic model at the end."""
    second: Number | None = None
    """Mean loss after a second search, from the end of the first; nothing where there was none."""


class TrialResult(Part):
    """A finished trial as the store has it, without its scores and texts."""

    id: Short
    """Content id."""
    role: Short
    """As in the plan."""
    arm: Short
    """As in the plan."""
    claim: Long
    """As in the plan."""
    spec: TrialSpec
    """The trial as the plan has it."""
    state: Short
    """done: all its scores were written with it."""
    seconds: Number | None
    """Its share of the bank's time."""
    converged: bool | None
    """Whether training settled; null where nothing was trained."""
    reason: Long
    """Why it did not."""
    finished: Number | None
    """When it was written, in seconds since 1970."""
    fit: FitRecord
    """How training went."""

    @property
    def setting(self) -> str:
        """The point of the grid in words: what the trial's hyper-parameters are, the seed aside."""
        if self.spec.alpha is not None:
            return f"alpha={self.spec.alpha:g}"
        if (recipe := self.spec.recipe) is None:
            return ""
        return f"tau={recipe.tau:g},rounds={recipe.rounds}" if recipe.rounds else f"tau={recipe.tau:g},lr={recipe.lr:.3g}"


@dataclass
class Result:
    """What came out of one trial, for the store.

    Attributes:
        id: of the trial.
        spec: the trial as the plan has it.
        seconds: its share of the bank's time.
        converged: whether training settled; None where nothing was trained.
        reason: why not.
        fit: how training went.
        scores: (split, measure) -> {item id: value}, NaN where unscored.
        reasons: (split, measure) -> {item id: why it is unscored}; where there is none, the trial's own reason stands.
        texts: (split) -> {item id: generated text}.
        cost: kind of work -> its counts, as `cost.Work.counts` gives them.
    """

    id: str
    spec: TrialSpec
    seconds: float = 0.0
    converged: bool | None = None
    reason: str = ""
    fit: FitRecord = field(default_factory=FitRecord)
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    cost: dict[str, dict[str, float]] = field(default_factory=dict)
