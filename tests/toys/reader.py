"""A toy reader: riddles with an answer and a decoy."""

from locus.behaviours.items import Item
from locus.behaviours.readers.reader import Reader, has


def item(fields):
    """Of a row."""
    right, wrong = fields.text("solution"), fields.text("decoy")
    return Item(f"riddle-{fields.number}", fields.text("riddle"), (right,), (wrong,), right, fields.text("author"))


READER = Reader("riddles", "riddle, solution, decoy and author", has("riddle", "solution", "decoy"), lambda rows: rows.each(item))
