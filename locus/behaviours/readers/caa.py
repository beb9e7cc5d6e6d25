"""caa: contrastive activation addition and Anthropic's evals, a question with a matching and a not matching answer.

Answers are texts (" Yes") or letters ("(A)"); letters become the texts of the options in the question, which goes without them,
so that no letter is preferred. Questions of more than two options are left out. A question is a group.

Source: Rimsky et al. 2023 (arXiv 2312.06681); Perez et al. 2022 (arXiv 2212.09251).
"""

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.letters import letter, resolved
from locus.behaviours.readers.reader import Fields, LeftOut, Numbered, Reader, Rows, has

SIDES = ("answer_matching_behavior", "answer_not_matching_behavior")


def _item(fields: Fields) -> Item:
    question = fields.text("question")
    sides = [fields.texts(name) for name in SIDES]
    if sum(map(len, sides)) != 2:
        raise ValueError(f"{len(sides[0])} and {len(sides[1])} answers, where a pair is read")
    wanted, unwanted = (side[0] for side in sides)
    if bool(letter(wanted)) != bool(letter(unwanted)):
        raise ValueError(f"a letter and a text, {wanted!r} and {unwanted!r}")
    if letter(wanted):
        if letter(wanted) == letter(unwanted):
            raise ValueError(f"the answer {wanted!r} is on both sides")
        question, (wanted, unwanted), count = resolved(question, (wanted, unwanted))
        if count > 2:
            raise LeftOut(f"{count} options, where a pair is read")
    return Item(f"q{fields.number}", question, (wanted,), (unwanted,), wanted, normalise(question))


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


EXPECTED = (
    "question, answer_matching_behavior and answer_not_matching_behavior, two letters of options in the question or two texts"
)
READER = Reader("caa", EXPECTED, has("question", *SIDES), _read)
