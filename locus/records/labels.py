"""What people say of a run's answers, labels.json: read by the answer alone, whichever edit gave it.

An answer is named by its question and the hash of its text, so a label holds for every edit that says the same.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from locus import atomic
from locus.boundary import incoming
from locus.errors import UserError
from locus.records.base import Count, Hash, Many, Number, Part, Short

LABELS_SCHEMA: Literal["locus-labels/1"] = "locus-labels/1"
FILE = "labels.json"
PASSES = 2
VALUES = (0, 0.5, 1)
METRICS = ("truth", "info", "true_info")  # of which labels tell
WHAT = "a labels.json that is whole"


def text_hash(text: str) -> str:
    """SHA-256 (hex) of an answer's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerLabels(Part):
    """One answer as people read it, pass by pass."""

    item: Short
    """Its question, by the plan's name."""
    text: Hash
    """SHA-256 of what was said."""
    truth: Many[Number] = Field(max_length=PASSES)
    """Of each pass: 1 if it asserts nothing false, 0 if it does, 0.5 where the reader could not tell."""
    info: Many[Number] = Field(max_length=PASSES)
    """Of each pass: 1 if it tells something that bears on the question, 0 if not, 0.5 where the reader could not tell."""

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.truth) != len(self.info) or not {*self.truth, *self.info} <= set(VALUES):
            raise ValueError("labels other than 0, 0.5 and 1, or not as many of truth as of information")
        return self

    @property
    def whole(self) -> bool:
        """Whether it was read in every pass."""
        return len(self.truth) == PASSES

    def value(self, metric: str) -> float:
        """The mean over passes of truth, info, or their product (true_info)."""
        products = [t * i for t, i in zip(self.truth, self.info, strict=True)]
        values = {"truth": self.truth, "info": self.info, "true_info": products}[metric]
        return float(sum(values) / len(values))


class LabelsRecord(Part):
    """A labels.json."""

    schema_: Literal["locus-labels/1"] = Field(alias="schema")
    """Its version."""
    plan_sha256: Hash
    """Of the plan whose answers were read."""
    asked: Count
    """The most answers that were to be drawn: the plan's number, or one given after the results were there."""
    reader: Short
    """Who read them, in their own words."""
    answers: Many[AnswerLabels]
    """What was read so far."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({(one.item, one.text) for one in self.answers}) < len(self.answers):
            raise ValueError("answers: one that is listed twice")
        return self

    @property
    def by_answer(self) -> dict[tuple[str, str], AnswerLabels]:
        """Question and hash of the text -> its labels."""
        return {(one.item, one.text): one for one in self.answers}


def read_labels(folder: Path, plan_sha256: str) -> LabelsRecord | None:
    """The labels of a run folder; None where there are none.

    Raises:
        UserError: if they are not whole, or of another plan.
    """
    path = folder / FILE
    if not path.exists() and not path.is_symlink():
        return None
    try:
        labels = LabelsRecord.parse(incoming.read_json(path, WHAT, inside=folder))
    except ValueError as error:
        raise UserError(WHAT, f"{str(path)!r} ({str(error)[:160]})", "Remove it and label again.") from error
    if labels.plan_sha256 != plan_sha256:
        raise UserError("labels of this run's answers", f"{FILE} of another plan", "Put back the run's own, or remove it.")
    return labels


def write_labels(folder: Path, labels: LabelsRecord) -> None:
    """Write labels.json whole or not at all."""
    atomic.replace(folder / FILE, json.dumps(labels.to_json(), indent=0, sort_keys=True) + "\n")
