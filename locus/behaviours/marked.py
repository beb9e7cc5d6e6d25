"""A prompt and an answer as the texts of their tokens."""

from typing import Any

from locus.behaviours.encoding import unclosed
from locus.behaviours.prompts import PromptFormat, encode


def marked(tokenizer: Any, text: PromptFormat, question: str, answer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What each token says: those before the answer, and those of the answer, which are scored.

    A token that says no text of its own (a beginning of text, the second byte of a character) goes by its name.

    Args:
        tokenizer: the model's.
        text: how a question is put.
        question: as it is asked.
        answer: one of its answers.

    Raises:
        UserError: as `encode`.
    """
    start = encode(tokenizer, text, question, answer).start
    whole = text.prompt(question) + text.joint + answer
    coded = unclosed(tokenizer, whole, text.special_tokens)
    said, seen = [], 0
    for number, (_, end) in zip(coded.ids, coded.offsets, strict=True):
        said.append(whole[seen:end] if end > seen else str(tokenizer.convert_ids_to_tokens(number)))
        seen = max(seen, end)
    return tuple(said[:start]), tuple(said[start:])
