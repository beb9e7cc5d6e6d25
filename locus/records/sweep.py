"""A sweep, sweep.json: many audits in one folder, what each says of its claims, and what holds over all of them together."""

from typing import Annotated, Literal

from pydantic import Field

from locus.records.base import Count, Long, Many, Number, Part, Short
from locus.records.findings import Standing

SWEEP_SCHEMA: Literal["locus-sweep/1"] = "locus-sweep/1"


class Controlled(Part):
    """How one question about one claim stands, in its audit and over the sweep."""

    standing: Standing
    """In its own audit, where the claims of that audit share the level (Holm)."""
    p: Number | None
    """Of the test that would support it, of this claim alone; null where the question could not be put."""
    p_sweep: Number | None
    """The same, adjusted over all claims of the sweep (Benjamini and Hochberg)."""
    p_refuted: Number | None
    """Of the test that would refute it, of this claim alone."""
    p_refuted_sweep: Number | None
    """The same, adjusted over all claims of the sweep."""


class SweptClaim(Part):
    """One claim of one audit in one read mode."""

    audit: Short
    """The folder of its audit, beside this file."""
    source: Long
    """The claim as the sweep names it."""
    name: Long = ""
    """What its audit calls it; left out where there is none yet."""
    read: Short
    """What the edits read."""
    location: Many[Short] = ()
    """The claimed sites, which a probe finds in each audit."""
    lead: Number | None = None
    """Of `special`: its lead over random Locations, in the metric's units; null where the question could not be put."""
    margin: Number | None = None
    """What the lead is held against."""
    answers: dict[Short, Controlled] = Field(default_factory=dict)
    """Question -> how it stands; nothing where the claim is not audited."""
    failed: Long = ""
    """Why it could not be audited."""


class SweptAudit(Part):
    """One audit of a sweep."""

    folder: Short
    """Beside this file: a run folder with a receipt of its own."""
    model: Short
    """Which model."""
    behaviour: Long
    """Which questions, as the sweep names them."""
    seed: Count
    """Of split, random Locations, starts and resampling."""
    kind: Short
    """Of the claimed sites."""
    metric: Short
    """By which it is decided."""
    random: Count
    """Random Locations that it plans."""
    receipt: Short = ""
    """The id of its receipt; left out while it is not finished."""


class SweepRecord(Part):
    """A sweep.json."""

    schema_: Literal["locus-sweep/1"] = Field(alias="schema")
    """Its version."""
    level: Annotated[Number, Field(gt=0, lt=1)]
    """The rate of false discoveries that is controlled, in each list of them."""
    audits: Many[SweptAudit] = Field(min_length=1)
    """Every audit, in order."""
    claims: Many[SweptClaim] = Field(min_length=1)
    """Every claim of every audit in every read mode, in order: the family, fixed before the first result."""

    def found(self, question: str, against: bool = False) -> tuple[SweptClaim, ...]:
        """The claims that a question is answered for, at the rate of false discoveries of the sweep.

        Args:
            question: works, special, unique or necessary.
            against: those for which it is refuted instead.
        """
        found = []
        for claim in self.claims:
            answer = claim.answers.get(question)
            refuted = answer is not None and answer.p_refuted_sweep is not None and answer.p_refuted_sweep <= self.level
            supported = answer is not None and answer.p_sweep is not None and answer.p_sweep <= self.level and not refuted
            found += [claim] if (refuted if against else supported) else []
        return tuple(found)

    @property
    def unfinished(self) -> int:
        """Audits that have no receipt yet."""
        return sum(not one.receipt for one in self.audits)
