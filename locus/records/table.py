"""A table of audits, table.json: which audits are its rows, and what their contributors say of them."""

from typing import Annotated, Literal

from pydantic import Field

from locus.records.base import Part, at_most

TABLE_SCHEMA: Literal["locus-table/1"] = "locus-table/1"
ROW = r"[a-z0-9][a-z0-9._-]{0,79}"  # what a row may be called: a folder's name on any system
MOST_ROWS = 10_000

Words = Annotated[str, Field(max_length=400)]


class RowRecord(Part):
    """What is said of a row, by whoever added it; nothing of it decides anything."""

    receipt: Annotated[str, Field(pattern="^[A-Z2-7]{26}$")]
    """The id of the audit's receipt."""
    source: Words = ""
    """Whose claim it is: a paper, a heuristic."""
    url: Annotated[str, Field(max_length=400, pattern=r"^(https://[!-~]+)?$")] = ""
    """Where that is written."""
    note: Words = ""
    """Anything else."""


class TableRecord(Part):
    """A table.json."""

    schema_: Literal["locus-table/1"] = Field(alias="schema")
    """Its version."""
    title: Words
    """Of the page."""
    rows: Annotated[dict[Annotated[str, Field(pattern=f"^{ROW}$")], RowRecord], at_most(MOST_ROWS)]
    """The rows by name, which is also that of their folder."""
