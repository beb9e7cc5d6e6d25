"""crows-pairs: two sentences, one of which is more stereotyped.

The less stereotyped one is wanted. What both begin with is the question; pairs that differ from the first word on are left out.

Source: Nangia et al. 2020 (arXiv 2010.00133).
"""

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Rows, has
from locus.behaviours.readers.sentences import parted

SIDES = ("sent_less", "sent_more")


def _item(fields: Fields) -> Item:
    question, less, more = parted(*(fields.text(name) for name in SIDES))
    return Item(f"q{fields.number}", question, (less,), (more,), less, normalise(question), fields.text("bias_type"))


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


READER = Reader("crows-pairs", "sent_more, sent_less and bias_type", has(*SIDES, "bias_type"), _read)
