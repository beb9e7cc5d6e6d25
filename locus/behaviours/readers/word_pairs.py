"""word-pairs: the tasks of function vectors, an input word and its output.

The input is the question and its output is wanted. Nothing is unwanted in the file. Where there are few different outputs, which
are labels, it is the other labels; else it is the output of another pair. Two pairs are partners and a group, so that each output
is wanted once and unwanted once, and a rule which never reads the question gets one half. Of several outputs of one input each is
wanted.

Source: Todd et al. 2023 (arXiv 2310.15213).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Row, Rows, RowsLeftOut
from locus.boundary.notices import notice
from locus.errors import UserError

LABELS = 8  # different outputs, at most, that are labels
TIMES = 4  # that each is there at least, on average
LOOK = 64  # pairs that are looked at for a partner

Pair = tuple[int, str, tuple[str, ...]]


def _recognises(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(set(row) == {"input", "output"} for row in rows)


def _pair(fields: Fields) -> tuple[str, tuple[str, ...]]:
    if more := sorted(fields.row.keys() - {"input", "output"}):
        raise ValueError(f"unknown field {more[0]!r}")
    return fields.text("input"), fields.texts("output")


def _merged(rows: Rows) -> list[Pair]:
    """One pair an input, with the number of its first row."""
    by_input: dict[str, tuple[int, str, dict[str, None]]] = {}
    for number, (question, outputs) in rows.each(_pair):
        place = by_input.setdefault(normalise(question), (number, question, {}))
        place[2].update(dict.fromkeys(outputs))
    return [(number, question, tuple(outputs)) for number, question, outputs in by_input.values()]


def _labelled(pairs: Sequence[Pair], labels: Sequence[str]) -> Iterator[Numbered]:
    for number, question, wanted in pairs:
        unwanted = tuple(one for one in labels if one not in wanted)
        yield number, Item(f"q{number}", question, wanted, unwanted, wanted[0], normalise(question))


def _partnered(pairs: Sequence[Pair]) -> Iterator[Numbered]:
    """Each with the outputs of its partner, the next that has none in common; whoever finds none is left over."""
    left = deque(pairs)
    words = {pair[0]: {normalise(text) for text in (pair[1], *pair[2])} for pair in pairs}
    while left:
        first = left.popleft()
        for place, other in enumerate(islice(left, LOOK)):
            if words[first[0]].isdisjoint(words[other[0]]):
                del left[place]
                for (number, question, wanted), (_, _, unwanted) in ((first, other), (other, first)):
                    yield number, Item(f"q{number}", question, wanted, unwanted, wanted[0], f"pair {first[0]}")
                break


def _read(rows: Rows) -> list[Numbered]:
    pairs = _merged(rows)
    labels = sorted({text for _, _, outputs in pairs for text in outputs})
    if len(labels) == 1:
        raise UserError("pairs with different outputs", f"{rows.name!r}, all with {labels[0]!r}", "Give pairs that differ.")
    if len(labels) <= LABELS and len(pairs) >= TIMES * len(labels):
        return list(_labelled(pairs, labels))
    numbered = sorted(_partnered(pairs), key=lambda one: one[0])
    if alone := len(pairs) - len(numbered):
        notice(f"{alone:,} of {len(pairs):,} pairs of {rows.name} left out: no partner of other words", RowsLeftOut)
    return numbered


READER = Reader("word-pairs", "input and output, and nothing else", _recognises, _read)
