"""sentiment: whether a remark is pleased or not, in a word.

Each thing is remarked on once well and once badly, and each remark is asked about in two ways. The four questions are a group, in
which each word is wanted once and unwanted once.

Licence: CC0-1.0. Origin: written for this project.
"""

from collections.abc import Iterator

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset, Item

WORDINGS = (
    ('Is this remark positive or negative? "{}"', "Positive", "Negative"),
    ('Someone wrote: "{}" Was it praise or blame?', "Praise", "Blame"),
)


def open_behaviour(name: str) -> Dataset:
    """All questions, thing by thing."""
    return Dataset("sentiment", tuple(_items()), LICENCE, ORIGIN, judge="reference:sentiment")


def _items() -> Iterator[Item]:
    for number, row in enumerate(rows("sentiment")):
        for wording, (question, praise, blame) in enumerate(WORDINGS):
            for side, wanted, unwanted in (("good", praise, blame), ("bad", blame, praise)):
                asked = question.format(f"{row['subject']} {row['verb']} {row[side]}.")
                yield contrast(f"sentiment-{number:02d}-{wording}-{side}", asked, wanted, unwanted, f"{number:02d}")
