"""lm-eval: multiple choice of the evaluation harness, from the samples that it logs, or as its tasks' documents.

A logged sample has the prompt and each choice as they were put to the model (`doc_to_text`, `doc_to_choice`) and the place of the
right one (`doc_to_target`). A document has `question`, `choices` (a list, or `text` and `label`), and `answer` (its place) or
`answerKey` (its label). A question is a group.

Source: Gao et al. 2024 (github.com/EleutherAI/lm-evaluation-harness).
"""

from collections.abc import Mapping, Sequence

from locus.behaviours.items import Item
from locus.behaviours.readers.choices import chosen
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Row, Rows, has

_logged = has("doc", "arguments", "target")
_documents = has("question", "choices")


def _recognises(rows: Sequence[Row]) -> bool:
    return _logged(rows) or (_documents(rows) and all("answer" in row or "answerKey" in row for row in rows))


def _requests(fields: Fields) -> list[tuple[str, str]]:
    """Prompt and choice of every request, from either form of the log."""
    value = fields.row.get("arguments")
    if isinstance(value, Mapping):
        made = [fields.part("arguments").part(name) for name in value]
        return [(one.text("arg_0"), one.text("arg_1")) for one in made]
    if not isinstance(value, list) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in value):
        raise ValueError("'arguments' must be prompt and choice of every request")
    pairs = [Fields(fields.number, {"prompt": one[0], "choice": one[1]}) for one in value]
    return [(one.text("prompt"), one.text("choice")) for one in pairs]


def _sample(fields: Fields) -> Item:
    """Of a logged sample."""
    requests = _requests(fields)
    prompts = list(dict.fromkeys(prompt for prompt, _ in requests))
    if len(requests) < 2 or len(prompts) != 1:
        raise ValueError(f"{len(requests)} requests with {len(prompts)} prompts, where choices after one prompt are read")
    choices = [choice for _, choice in requests]
    target = fields.label("target")
    right = choices.index(target) if target in choices and not target.isdigit() else fields.whole("target")
    return chosen(f"q{fields.maybe('doc_id') or fields.number}", prompts[0], choices, {right})


def _document(fields: Fields) -> Item:
    """Of a task's document."""
    labels: tuple[str, ...] = ()
    if isinstance(fields.row.get("choices"), Mapping):
        listed = fields.part("choices")
        choices, labels = listed.texts("text"), listed.texts("label")
        if len(labels) != len(choices):
            raise ValueError(f"{len(labels)} labels of {len(choices)} choices")
    else:
        choices = fields.texts("choices")
    if "answerKey" in fields.row:
        key = fields.label("answerKey")
        labels = labels or tuple(chr(ord("A") + place) for place in range(len(choices)))
        if key not in labels:
            raise ValueError(f"the answerKey {key!r}, where the labels are {', '.join(labels)}")
        right = labels.index(key)
    else:
        right = fields.whole("answer")
    id = fields.maybe("id") or f"q{fields.number}"
    return chosen(id, fields.text("question"), choices, {right}, fields.maybe("subject"))


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(lambda fields: _sample(fields) if "arguments" in fields.row else _document(fields))


EXPECTED = "doc, arguments and target as logged, or question, choices and answer (a place) or answerKey (a label)"
READER = Reader("lm-eval", EXPECTED, _recognises, _read)
