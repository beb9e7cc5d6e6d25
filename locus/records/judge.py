"""The judge of a plan, and how often it errs."""

from typing import Annotated

from pydantic import Field

from locus.records.base import Count, Interval, Many, Number, OpenPart, Short, at_most


class ConfusionRecord(OpenPart):
    """What is known of a judge's errors, on labelled answers that it never saw."""

    negatives: Number
    """How many answers that are not so tell of `specificity`."""
    positives: Number
    """How many answers that are so tell of `sensitivity`."""
    sensitivity: Number | None
    """Share of the answers that are so which it finds."""
    specificity: Number | None
    """Share of the answers that are not so which it rejects."""
    sensitivity_interval: Interval | None = None
    """Its exact 95 % interval (Clopper and Pearson)."""
    specificity_interval: Interval | None = None
    """Likewise."""


class JudgeRecord(OpenPart):
    """Who judges what the model says."""

    confusion: Annotated[dict[Short, ConfusionRecord], at_most(8)]
    """Its errors by target (truth, info, both); empty where nobody measured them."""
    fingerprint: Short
    """Hash of the judge."""
    name: Short
    """What it is called."""
    seen: Count | None
    """How many test questions it learned from; nothing where that is not known."""
    notions: Annotated[Many[Short], Field(max_length=8)] = ("truth", "info")
    """Of which it gives probabilities; where that is left out, of truth and information."""
