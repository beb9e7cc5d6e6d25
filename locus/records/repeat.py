"""Audits repeated with other seeds, repeat.json: how stable a verdict is over splits, random Locations and training."""

from typing import Literal

from pydantic import Field

from locus.records.base import Count, Long, Many, Number, Part, Short
from locus.records.findings import Standing

REPEAT_SCHEMA: Literal["locus-repeat/1"] = "locus-repeat/1"


class Answered(Part):
    """How one audit answered the four questions about one claim."""

    run: Short
    """Its folder, beside this file."""
    seed: Count
    """Of its split, draws, starts and resampling."""
    location: Many[Short]
    """The claimed heads, which a probe may choose anew."""
    standing: dict[Short, Standing]
    """Question -> its standing."""
    lead: Number | None
    """Of `special`: the claim's lead over random Locations, in the metric's units; null where the question could not be put."""
    margin: Number | None
    """What the lead is held against."""


class RepeatedClaim(Part):
    """One claim in one read mode, over all audits."""

    name: Long
    """What tables call the claim."""
    read: Short
    """What the edits read."""
    answers: Many[Answered] = Field(min_length=1)
    """By audit."""

    def count(self, question: str, standing: str) -> int:
        """In how many audits a question has a standing."""
        return sum(one.standing[question] == standing for one in self.answers)

    @property
    def leads(self) -> tuple[float, ...]:
        """The leads that are known, by audit."""
        return tuple(float(one.lead) for one in self.answers if one.lead is not None)

    @property
    def stable(self) -> bool:
        """Whether all audits answer all four questions alike."""
        return len({tuple(sorted(one.standing.items())) for one in self.answers}) == 1


class RepeatRecord(Part):
    """A repeat.json."""

    schema_: Literal["locus-repeat/1"] = Field(alias="schema")
    """Its version."""
    model: Short
    """Which model."""
    dataset: Long
    """Which questions."""
    metric: Short
    """The metric that decides."""
    receipts: dict[Short, Short]
    """Run -> the id of its receipt, which says what this file is a summary of."""
    claims: Many[RepeatedClaim] = Field(min_length=1)
    """What follows for each claim in each read mode, audit by audit."""
