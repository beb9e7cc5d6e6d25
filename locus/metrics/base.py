"""What a metric is: one object, in a file of its own, that carries all that the flow asks about it.

Another package's metric comes through the entry points `locus.metrics`, a script's through `registry.register`. It is measured
where a run's settings name it (`metric`, `metrics`), and nowhere else: what a run measures follows from its plan alone.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from locus import registry
from locus.behaviours.items import Item
from locus.errors import UserError
from locus.records.place import PlaceResult

Floats = npt.NDArray[np.float64]
SHARE = "share"
LEAST_GAINS = {SHARE: 0.05, "nats": 0.5}
# What verdicts and tables hold besides metrics, under other names.
TAKEN = frozenset(PlaceResult.model_fields) | frozenset(
    "claim gain role strength chosen label kind text question n "
    "product both share corrected_both corrected_truth corrected_info "
    "share_wanted share_unwanted corrected_wanted corrected_unwanted".split()
)
ORDERS = {"answers": 1, "speech": 0, "text": 2, "states": 3}  # in tables


@dataclass(frozen=True)
class Answers:
    """One question as a model sees its answers.

    Attributes:
        item: the question with its answers.
        wanted: [wanted answers], summed log-probs (nats).
        unwanted: [unwanted answers], likewise.
        base_wanted: [wanted answers], of the unedited model; None where that is not known.
        base_unwanted: likewise.
    """

    item: Item
    wanted: Floats
    unwanted: Floats
    base_wanted: Floats | None = None
    base_unwanted: Floats | None = None


@dataclass(frozen=True)
class Spoken:
    """What a model says to one question, and what judges make of it.

    Attributes:
        item: the question.
        text: what is said.
        truth, info: the judge's probabilities that it is true, and informative; NaN where unscored, or not judged.
        blind_truth, blind_info: likewise, of the judge that reads only the wording.
        wanted, unwanted: the judge's probabilities that it is on the wanted side, and on the unwanted one; likewise.
    """

    item: Item
    text: str
    truth: float = math.nan
    info: float = math.nan
    blind_truth: float = math.nan
    blind_info: float = math.nan
    wanted: float = math.nan
    unwanted: float = math.nan


@dataclass(frozen=True)
class Tokens:
    """Tokens of ordinary text under two models; torch tensors, whose own methods are enough.

    Attributes:
        base: [tokens, vocabulary], log-probs of the unedited model (nats).
        edited: [tokens, vocabulary], of the model that is measured.
        token: [tokens], the ids that follow.
    """

    base: Any
    edited: Any
    token: Any


@dataclass(frozen=True)
class States:
    """The activations from which one question's answers are predicted, held against the unedited model's.

    Attributes:
        item: the question.
        beyond: [answers], how many tokens of each are predicted from further out than 99 % of the unedited model's activations.
        tokens: [answers], how many tokens each has.
    """

    item: Item
    beyond: Floats
    tokens: Floats


@dataclass(frozen=True)
class Metric:
    """Something that is measured.

    Attributes:
        name: in settings, stores and verdicts.
        label: in tables, without the unit.
        unit: `share` (held as a fraction, shown in percent), `nats`, `nats a token`, or any other.
        about: what it is, in words.
        of: what it is measured on: test questions' `answers`, what is said to them (`speech`, which needs a judge), other
            `text`, or the `states` from which the answers are predicted.
        values: gives a question's value from its `Answers`, `Spoken` or `States`; of text, a tensor of a value a token from
            `Tokens`.
        higher_is_better: whether more is better; None where neither is. A verdict is drawn only from what is better with more.
        of_base: whether its values are changes from the unedited model.
        smooth: whether it moves a little where probabilities do; one that jumps may differ in a few items on another machine.
        tolerance: how far, in its own unit, a mean may lie from a committed one that another machine computed; None where that is
            not compared.
        heading: of a column of the page; label and unit by default.
        axis: of figures; the heading by default.
        column: of the terminal's table; label and unit by default.
        caption: what the terminal says below its table; nothing by default.
        page: place among the page's columns; None leaves it out.
        terminal: in which of the terminal's tables it stands: those of judged runs, of others, always or never.
        beside: whether findings by it stand beside the main metric's wherever it is measured.
        least_gain: what the ceiling must gain before a verdict is drawn from it, in its own unit; 5 points of a share and half a
            nat unless told otherwise, and nothing for other units.
        notions: of speech, those of which the judge must give a probability (truth, info, wanted, unwanted); by default any
            judge's words will do.
    """

    name: str
    label: str
    unit: str
    about: str
    of: Literal["answers", "speech", "text", "states"]
    values: Callable[[Any], Any]
    higher_is_better: bool | None = True
    of_base: bool = False
    smooth: bool = False
    tolerance: float | None = None
    heading: str = ""
    axis: str = ""
    column: str = ""
    caption: str = ""
    page: int | None = 50
    terminal: Literal["always", "judged", "unjudged", "never"] = "always"
    beside: bool = True
    least_gain: float | None = None
    notions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UserError for a name that could not be a setting's or is taken, and a label or unit that is empty."""
        if not re.fullmatch("[a-z][a-z0-9_]{0,40}", self.name) or self.name in TAKEN or not self.label or not self.unit:
            wanted = "a metric with a name of small letters, digits and '_' that verdicts do not use, a label and a unit"
            raise UserError(wanted, f"{self.name!r:.80}", "Name it otherwise.")
        heading = self.heading or f"{self.label}, {'%' if self.is_share else self.unit}"
        object.__setattr__(self, "heading", heading)
        if self.least_gain is None:
            object.__setattr__(self, "least_gain", LEAST_GAINS.get(self.unit))
        object.__setattr__(self, "axis", self.axis or heading)
        object.__setattr__(self, "column", self.column or f"{self.label} {'%' if self.is_share else self.unit}")

    @property
    def is_share(self) -> bool:
        """Whether it is a fraction that is shown in percent."""
        return self.unit == SHARE

    @property
    def needs_judge(self) -> bool:
        """Whether it is measured only where somebody judges what is said."""
        return self.of == "speech"

    @property
    def decides(self) -> bool:
        """Whether a verdict may be drawn from it."""
        return self.of in ("answers", "speech") and self.higher_is_better is True

    def judged_by(self, notions: Collection[str]) -> bool:
        """Whether it is measured on what is said where a judge gives the probabilities of some notions."""
        return self.needs_judge and set(self.notions) <= set(notions)

    @property
    def split(self) -> str:
        """Where its values stand in a store."""
        return "text" if self.of == "text" else "test"


def metric(name: str) -> Metric:
    """A metric by its name.

    Raises:
        UserError: if there is none of the name, suggesting the nearest; or what is registered is no metric of it.
    """
    return registry.one_of("metrics", name, Metric)


@cache
def shipped() -> tuple[Metric, ...]:
    """The metrics of this package, in the order in which a verdict has them."""
    return tuple(metric(one.name) for one in registry.OWN["metrics"])


def measured(*named: str) -> tuple[Metric, ...]:
    """What a run measures: all metrics of this package, and those that its settings name."""
    own = shipped()
    known = {one.name for one in own}
    return (*own, *(metric(name) for name in dict.fromkeys(named) if name not in known))


def deciding(notions: Collection[str]) -> Metric:
    """The metric by which a verdict is drawn from what is said, unless told otherwise.

    Args:
        notions: of which the judge gives probabilities.
    """
    return next(one for one in reversed(shipped()) if one.decides and one.judged_by(notions))


def tabled(metrics: Iterable[Metric]) -> list[Metric]:
    """Metrics in the order of tables: speech, answers, other text."""
    return sorted(metrics, key=lambda one: ORDERS[one.of])
