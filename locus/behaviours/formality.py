"""formality: a formal wording against a casual one of the same message.

A behaviour of form: which is which shows without the question. Sides are of equal length. A message is asked for in three ways,
which are a group.

Licence: CC0-1.0. Origin: written for this project.
"""

from collections.abc import Iterator

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset, Item

QUESTIONS = ("In one line, {}.", "Write to somebody: {}.", "How would you {}?")


def open_behaviour(name: str) -> Dataset:
    """All questions, message by message."""
    return Dataset("formality", tuple(_items()), LICENCE, ORIGIN, form=True, judge="pattern:formality")


def _items() -> Iterator[Item]:
    for number, row in enumerate(rows("formality")):
        for wording, question in enumerate(QUESTIONS):
            asked = question.format(row["task"])
            yield contrast(f"formality-{number:02d}-{wording}", asked, row["formal"], row["casual"], f"{number:02d}")
