"""blimp: minimal pairs, a sentence that is grammatical and one that is not.

What both begin with is the question, the rest of each is an answer. Pairs of the same beginning are a group.

Source: Warstadt et al. 2020 (arXiv 1912.00582).
"""

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Rows, has
from locus.behaviours.readers.sentences import parted

SIDES = ("sentence_good", "sentence_bad")


def _item(fields: Fields) -> Item:
    question, good, bad = parted(*(fields.text(name) for name in SIDES))
    paradigm, pair = fields.maybe("UID"), fields.maybe("pairID")
    name = f"{paradigm}-{pair}" if pair else f"q{fields.number}"
    return Item(name, question, (good,), (bad,), good, normalise(question), paradigm)


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


READER = Reader("blimp", "sentence_good and sentence_bad, and if wanted UID and pairID", has(*SIDES), _read)
