"""What was measured at one place with one edit."""

from typing import Any, cast

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic.config import JsonDict

from locus.records.base import Interval, JsonObject, Long, Many, Part, Short


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


NEAR = 0.8  # of all that could be gained in training loss
STRETCH = 3  # steps that together must bring nothing before a search has settled


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
    """Measure -> its mean over test questions (of other text, as kl and ce are: over passages). In the file they stand beside the
    other fields."""
    judged: JudgedShares | None = None
    """What follows from judged answers, where somebody judged."""
    trials: Many[Short] = Field(min_length=1)
    """Ids of the trials, by seed."""
    converged: Many[bool | None]
    """Whether each training settled; null where nothing was trained."""
    reasons: Many[Long]
    """Why something was not scored, or did not settle."""
    stopped: int | None = None
    """Of a search that was looked at on the way: rounds after which validation questions say that its edit is best, where that is
    before its end."""
    share: float | None = None
    """Of a search that states its loss: the least share of all that could be gained in training loss that the edit has gained,
    since no loss is below zero."""
    p_works: float | None = None
    """Of a single head: that its edit is not inferior to the ceiling's."""
    p_works_bh: float | None = None
    """The same, adjusted for all single heads (Benjamini and Hochberg)."""

    @property
    def settled(self) -> bool:
        """Whether every training that there was has settled."""
        return False not in self.converged

    @property
    def near(self) -> bool:
        """Whether nothing to speak of can be left to gain in training."""
        return self.settled or self.stopped is not None or (self.share is not None and self.share >= NEAR)

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
    def _flattened(self, plain: SerializerFunctionWrapHandler) -> JsonObject:
        written: JsonObject = {}
        for name, value in plain(self).items():
            written |= value if name == "measures" else {name: value}
        return written
