"""preferences: pairs of a chosen and a rejected answer, as preference tuning takes them.

`chosen` and `rejected` are texts or chat lists, with the prompt in front or in `prompt`; or transcripts of "Human:" and
"Assistant:". Pairs of a prompt are a group. Conversations of several turns or with a system message are left out.

Source: the formats of TRL's preference trainers; Bai et al. 2022 (arXiv 2204.05862).
"""

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.chats import answered, asked, turns
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Rows, has

SIDES = ("chosen", "rejected")


def question_of(fields: Fields, prompt: str | None = "prompt") -> tuple[str, tuple[str, ...]]:
    """The question of a pair, and its two answers.

    Args:
        fields: of the pair.
        prompt: the field with the prompt, where there is one.

    Raises:
        ValueError: if there is no question, or the sides have different ones.
        LeftOut: if the question is a conversation of several turns.
    """
    (before, wanted), (other, unwanted) = (answered(fields, name) for name in SIDES)
    if before != other:
        raise ValueError("the two conversations differ before the last answer")
    given = turns(fields, prompt) if prompt is not None and fields.row.get(prompt) is not None else []
    if not before and not given:
        raise ValueError("no prompt, neither as a field nor in front of the answers")
    if before and given and given[-1].text != before[-1].text and given[-1].text != before[0].text:
        raise ValueError("a prompt that the conversations do not begin with")
    return asked(before or given), (wanted, unwanted)


def _item(fields: Fields) -> Item:
    question, (wanted, unwanted) = question_of(fields)
    return Item(f"q{fields.number}", question, (wanted,), (unwanted,), wanted, normalise(question), fields.maybe("source"))


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


READER = Reader("preferences", "chosen and rejected, texts or chat lists, with a prompt", has(*SIDES), _read)
