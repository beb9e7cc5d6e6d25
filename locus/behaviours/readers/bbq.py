"""bbq: the bias benchmark for question answering, a context with a question and three answers of which `label` is right.

The right answer is wanted: where the context tells nothing, that it cannot be told. `#ambig` and `#disambig` take one kind of
context. All questions of a template are a group, whoever is named in it.

Source: Parrish et al. 2021 (arXiv 2110.08193).
"""

from locus.behaviours.items import Item
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Rows, has
from locus.errors import UserError

ANSWERS = ("ans0", "ans1", "ans2")
CONDITIONS = ("ambig", "disambig")


def _item(fields: Fields) -> Item:
    if (condition := fields.text("context_condition")) not in CONDITIONS:
        raise ValueError(f"the context_condition {condition!r}, which is neither of {' and '.join(CONDITIONS)}")
    answers, label = [fields.text(name) for name in ANSWERS], fields.whole("label")
    if label not in range(len(answers)):
        raise ValueError(f"the label {label}, where there are {len(answers)} answers")
    wanted, category = answers.pop(label), fields.text("category")
    question = f"{fields.text('context')} {fields.text('question')}"
    template = f"{category}-{fields.label('question_index')}"
    id = f"{category}-{fields.label('example_id')}"
    return Item(id, question, (wanted,), tuple(answers), wanted, template, f"{category}, {condition}")


def _read(rows: Rows) -> list[Numbered]:
    if rows.part and rows.part not in CONDITIONS:
        raise UserError("bbq:PATH#ambig or #disambig", repr(rows.part), "Name one of these, or leave it out.")
    return [(n, item) for n, item in rows.each(_item) if item.category.endswith(f", {rows.part}") or not rows.part]


EXPECTED = "context, question, ans0, ans1, ans2, label, context_condition, category, question_index and example_id"
READER = Reader("bbq", EXPECTED, has("context", "question", *ANSWERS, "label", "context_condition"), _read, "#ambig or #disambig")
