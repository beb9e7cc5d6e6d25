"""What all records have in common: they are typed, frozen, strict, and written back as they came.

A record is read from JSON that anyone may have written, so nothing is guessed: a number is no text, a text no number, and what is
missing or of another kind is named. A list is read up to its first wrong entry: one error, not millions. What was not there when
a record was read is not there when it is written.
"""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

T = TypeVar("T")

Short = Annotated[str, Field(max_length=4096)]
Long = Annotated[str, Field(max_length=1 << 22)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
SITE = r"[A-Za-z0-9_.@+-]{1,120}"  # how a site of any kind is written, or a run of them
SiteName = Annotated[str, Field(pattern=f"^{SITE}$")]
Number = int | float  # as it came: a whole number that is written 1 stays one
Many = Annotated[tuple[T, ...], Field(strict=False, fail_fast=True)]  # a list in JSON, a tuple here
Interval = Annotated[tuple[Number | None, Number | None], Field(strict=False)]
JsonObject = dict[str, JsonValue]  # JSON that is kept as it came, and read elsewhere
MOST_PARTS = 1000  # of any part of a record


def at_most(number: int) -> BeforeValidator:
    """Entries of a table are counted before they are looked at: every wrong one would be an error of its own."""

    def count(table: Any) -> Any:
        if isinstance(table, dict) and len(table) > number:
            raise ValueError(f"more than {number:,} entries")
        return table

    return BeforeValidator(count)


class Part(BaseModel):
    """A part of a record, all of whose fields are known."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _countable(cls, content: Any) -> Any:
        if isinstance(content, dict) and len(content) > MOST_PARTS:
            raise ValueError(f"more than {MOST_PARTS:,} parts")
        return content

    @classmethod
    def parse(cls, content: Any) -> Self:
        """A record from parsed JSON.

        Raises:
            ValueError: naming the first part that is missing, added or of another kind.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))[:200] or "the whole"
            raise ValueError(f"{where}: {first['msg']}") from error

    def to_json(self) -> dict[str, Any]:
        """As JSON values: what it was read from, or made of; what was not given is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class OpenPart(Part):
    """A part of a record to which a later version may have added something, which is let be."""

    model_config = ConfigDict(extra="allow")
