"""Text as tokens that something may follow: with what a tokenizer puts before a text, without what it puts behind one.

Many tokenizers close every text with a token of their own, which is often not the one they name as their end. It is no part of
a prompt, nor of an answer. It is found by encoding: a tokenizer marks what it adds, and leaves unmarked what the text says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

PROBE = "a"  # a text of which any tokenizer makes at least one token


@dataclass(frozen=True)
class Coded:
    """Token ids of a text, and the characters [from, to) that each covers."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


def unclosed(tokenizer: Any, text: str, special_tokens: bool = True) -> Coded:
    """One text; see `all_unclosed`."""
    return all_unclosed(tokenizer, [text], special_tokens)[0]


def all_unclosed(tokenizer: Any, texts: Sequence[str], special_tokens: bool = True, plain: bool = False) -> list[Coded]:
    """Texts as tokens, without those that the tokenizer puts behind them.

    Args:
        tokenizer: a fast tokenizer.
        texts: each is encoded by itself.
        special_tokens: whether the tokenizer puts before a text what it always does.
        plain: read the name of a special token in a text ("</s>") as text, not as the token.
    """
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=special_tokens,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,  # of texts too long for the model, which are refused in our own words
        **({"split_special_tokens": True} if plain else {}),
    )
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    coded = []
    for ids, offsets, added in rows:
        # Where the text itself gives no token, what stands before it cannot be told from what stands behind it.
        behind = _trailing(added) if not all(added) else len(added_by(tokenizer)[1]) if added else 0
        length = len(ids) - behind
        coded.append(Coded(list(ids[:length]), [(int(low), int(high)) for low, high in offsets[:length]]))
    return coded


def added_by(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token ids that a tokenizer puts before every text, and those that it puts behind."""
    encoded = tokenizer(PROBE, return_special_tokens_mask=True)
    ids, added = encoded["input_ids"], encoded["special_tokens_mask"]
    return tuple(ids[: _trailing(added[::-1])]), tuple(ids[len(ids) - _trailing(added) :])


def commands(tokenizer: Any, template: str = "") -> frozenset[int]:
    """The ids that a text must not contain if it is to be read as text: special tokens, and the template's own added ones.

    The token for unknown words is not among them, since any text may contain some; nor are words and single marks, which a
    tokenizer may have been given as tokens of their own.
    """
    return frozenset(
        int(number)
        for number, token in tokenizer.added_tokens_decoder.items()
        if (token.special or token.content in template)
        and len(token.content.strip()) > 2
        and not token.content.strip().isalnum()
        and number != tokenizer.unk_token_id
    )


def _trailing(added: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(bool, reversed(added)))
