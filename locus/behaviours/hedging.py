"""hedging: an answer about what is to come that leaves room for doubt, against one that does not.

A behaviour of form: the words of doubt and of certainty are the same three of each throughout, paired by length. An event is
asked about in three ways, which are a group.

Licence: CC0-1.0. Origin: written for this project.
"""

from collections.abc import Iterator

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset, Item

QUESTIONS = ("Will {} {}?", "Do you think that {} will {}?", "What do you expect: will {} {}?")
WORDS = (("Perhaps", "Certainly"), ("Possibly", "Surely"), ("Maybe", "Of course"))


def open_behaviour(name: str) -> Dataset:
    """All questions, event by event."""
    return Dataset("hedging", tuple(_items()), LICENCE, ORIGIN, form=True, judge="pattern:hedging")


def _items() -> Iterator[Item]:
    for number, row in enumerate(rows("hedging")):
        subject, event = row["subject"], row["event"]
        for wording, question in enumerate(QUESTIONS):
            doubt, certainty = WORDS[(number + wording) % len(WORDS)]
            hedged, plain = (f"{word} {subject} will {event}." for word in (doubt, certainty))
            span = (begin := question.index("{}"), begin + len(subject))
            id = f"hedging-{number:02d}-{wording}"
            yield contrast(id, question.format(subject, event), hedged, plain, f"{number:02d}", subject=span)
