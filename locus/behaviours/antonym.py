"""antonym: the opposite of a word against a word of like meaning, one word each.

The question asks for one word and leaves open which of the two; the opposite is the wanted one.

Made of sets of four words, two of one meaning and two of the opposite: big, large, small, little. Each of the four is asked about
once, wanted once and unwanted once, so that a rule which never reads the question gets exactly one half. No word is in two sets,
and a set is a group.

Licence: CC0-1.0. Origin: written for this project.
"""

from collections.abc import Iterator

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset, Item

QUESTION = "Give one word for: {}"


def open_behaviour(name: str) -> Dataset:
    """All questions, set after set."""
    return Dataset("antonym", tuple(_items()), LICENCE, ORIGIN, judge="reference:antonym")


def _items() -> Iterator[Item]:
    for row in rows("antonym"):
        (first, like_first), (second, like_second) = row["words"], row["opposites"]
        for word, opposite, alike in (
            (first, second, like_first),
            (like_first, like_second, first),
            (second, first, like_second),
            (like_second, like_first, second),
        ):
            yield contrast(f"antonym-{word}", QUESTION.format(word), opposite, alike, group=first)
