"""Two answers to a question are the same when their tokens are: only then can a model not tell them apart."""

from collections.abc import Sequence
from typing import Any

from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, encode
from locus.boundary.notices import notice
from locus.errors import UserError

SHOWN = 5


class ListedTwice(UserWarning):
    """A published data set lists an answer of a question as wanted and as unwanted."""


def check_answers(tokenizer: Any, text: PromptFormat, items: Sequence[Item], as_published: bool = False) -> None:
    """Refuse questions that have two answers of the same tokens.

    Args:
        tokenizer: the model's.
        text: how a question is put.
        items: the questions.
        as_published: whether answers that are the same letter for letter stay, as `Dataset` says; only a notice then says which
            of them are on both sides, and cannot be told apart.

    Raises:
        UserError: naming the questions with both answers.
    """
    duplicates, on_both_sides = [], []
    for item in items:
        for first, second in _alike(tokenizer, text, item):
            if not (as_published and first == second):
                duplicates.append(f"{first!r} and {second!r} to {item.question[:80]!r} ({item.id})")
            elif first in item.wanted and first in item.unwanted:
                on_both_sides.append(f"{first!r} to {item.question[:80]!r}")
    if duplicates:
        more = f"; and {len(duplicates) - SHOWN} more" if len(duplicates) > SHOWN else ""
        raise UserError(
            "answers to a question that differ in tokens under the model's tokenizer",
            f"{'; '.join(duplicates[:SHOWN])}{more}",
            "Leave one of the two out, or word it in another way.",
        )
    if on_both_sides:
        notice(f"wanted and unwanted at once, as published: {'; '.join(on_both_sides)}", ListedTwice)


def _alike(tokenizer: Any, text: PromptFormat, item: Item) -> list[tuple[str, str]]:
    """Pairs of answers of the same tokens, each with the first that has them."""
    first: dict[tuple[int, ...], str] = {}
    pairs = []
    for answer in item.answers:
        ids = encode(tokenizer, text, item.question, answer).ids
        if ids in first:
            pairs.append((first[ids], answer))
        first.setdefault(ids, answer)
    return pairs
