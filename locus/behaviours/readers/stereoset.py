"""stereoset: a context with three sentences, labelled stereotype, anti-stereotype and unrelated.

The anti-stereotype is wanted and the stereotype unwanted; the unrelated sentence is not used. After a context (intersentence)
the sentences are the answers; of those that fill a BLANK (intrasentence) what both begin with is asked. All questions of a
target are a group. `#intrasentence` and `#intersentence` take one task.

Source: Nadeem et al. 2020 (arXiv 2004.09456).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from locus.behaviours.items import Item
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Row, Rows, has
from locus.behaviours.readers.sentences import parted
from locus.errors import UserError

TASKS = ("intrasentence", "intersentence")
GOLD = ("anti-stereotype", "stereotype", "unrelated")  # in the order of the hub's numbers
_rows = has("context", "sentences", "bias_type", "target")


def _recognises(rows: Sequence[Row]) -> bool:
    """The published file, one object, or its examples one by one."""
    if len(rows) == 1 and isinstance(data := rows[0].get("data"), Mapping):
        return any(isinstance(data.get(task), list) for task in TASKS)
    return _rows(rows)


def _sentences(fields: Fields) -> list[Fields]:
    """The sentences one by one; the hub has them as columns, with numbers for labels."""
    if not isinstance(fields.row.get("sentences"), Mapping):
        return fields.parts("sentences")
    columns = fields.part("sentences")
    texts, labels = columns.texts("sentence"), columns.row.get("gold_label")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise ValueError("'gold_label' must have one label a sentence")
    named = [GOLD[one] if type(one) is int and one in range(len(GOLD)) else one for one in labels]
    return [Fields(fields.number, {"sentence": text, "gold_label": one}) for text, one in zip(texts, named, strict=True)]


def _item(fields: Fields) -> Item:
    by_label: dict[str, str] = {}
    for one in _sentences(fields):
        if (label := one.text("gold_label")) in by_label or label not in GOLD:
            raise ValueError(f"the gold_label {label!r} twice" if label in by_label else f"the gold_label {label!r}")
        by_label[label] = one.text("sentence")
    if missing := [label for label in GOLD[:2] if label not in by_label]:
        raise ValueError(f"no sentence labelled {missing[0]!r}")
    question, (wanted, unwanted) = fields.text("context"), (by_label[label] for label in GOLD[:2])
    if "BLANK" in question:
        question, wanted, unwanted = parted(wanted, unwanted)
    bias = fields.text("bias_type")
    group = f"{bias}: {fields.text('target').casefold()}"
    return Item(fields.maybe("id") or f"q{fields.number}", question, (wanted,), (unwanted,), wanted, group, bias)


def _examples(rows: Rows) -> Iterator[tuple[str, Row]]:
    """Every example with its task."""
    for _, row in rows.numbered:
        data = row.get("data")
        if not isinstance(data, Mapping):
            yield TASKS["BLANK" not in str(row.get("context"))], row
            continue
        for task in TASKS:
            listed = data.get(task, [])
            if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
                raise UserError("StereoSet's data: lists of examples by task", f"{rows.name!r}, {task}", "Check the file.")
            yield from ((task, one) for one in listed)


def _unfold(rows: Rows) -> Rows:
    """The examples of the tasks that are wanted."""
    if rows.part and rows.part not in TASKS:
        raise UserError(f"stereoset:PATH#{' or #'.join(TASKS)}", repr(rows.part), "Name one of these, or leave it out.")
    numbered = [(n, row) for n, (task, row) in enumerate(_examples(rows), 1) if rows.part in ("", task)]
    return replace(rows, numbered=numbered, unit="example")


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


EXPECTED = "context, target, bias_type, and sentences labelled anti-stereotype and stereotype"
READER = Reader("stereoset", EXPECTED, _recognises, _read, "#intrasentence or #intersentence", _unfold)
