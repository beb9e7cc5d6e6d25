"""How long a run took, and the work of its trials, counted."""

from typing import Annotated

from pydantic import Field

from locus.records.base import Number, Part, Short


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
