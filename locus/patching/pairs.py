"""A PatchPair: a clean prompt and a corrupted one that differ in a few aligned tokens, with both their answers.

Patching carries activations from position to position, so the two prompts must have the same number of tokens and
the same key spans; and the effect is read at one next-token distribution, so the answers must be single tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from locus.behaviours import lines
from locus.behaviours.encoding import all_unclosed, unclosed
from locus.errors import UserError
from locus.records.base import JsonObject

END = "end"
FIELDS = ("clean", "corrupted", "answer", "other")
MARK = re.compile(r"\[\[(?:([A-Za-z]\w*)\|)?(.+?)\]\]")


@dataclass(frozen=True)
class PatchPair:
    """One clean and one corrupted prompt of equal token length.

    Attributes:
        clean: token ids of the clean prompt.
        corrupted: token ids of the corrupted prompt, as many.
        answer: ids of right next tokens of the clean prompt; usually one.
        other: ids of the corrupted prompt's own next tokens, none of them in `answer`.
        spans: by name, token positions that belong together ("S2", "subject"); "end" is the last token.
        task: which generator made it.
        group: pairs of one group (a template, a relation) share it.
        text: the two prompts as text, for people.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: tuple[int, ...]
    other: tuple[int, ...]
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    task: str = "custom"
    group: str = ""
    text: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        if len(self.clean) != len(self.corrupted) or not self.clean:
            raise UserError(
                "a clean and a corrupted prompt of the same number of tokens, at least one",
                f"{len(self.clean)} and {len(self.corrupted)} tokens ({self.text[0]!r}, {self.text[1]!r})",
                "Replace words by words of the same number of tokens under this model's tokenizer.",
            )
        if not self.answer or not self.other or set(self.answer) & set(self.other):
            raise UserError(
                "an answer and another answer without a common token",
                f"token ids {self.answer} and {self.other}",
                "Give two answers that begin differently.",
            )
        outside = {name: at for name, at in self.spans.items() if not at or min(at) < 0 or max(at) >= len(self.clean)}
        if outside:
            raise UserError(
                f"spans of positions 0 to {len(self.clean) - 1}", str(outside), "Count tokens from zero, padding left out."
            )

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def changed(self) -> tuple[int, ...]:
        """The positions at which the two prompts differ."""
        return tuple(at for at, (a, b) in enumerate(zip(self.clean, self.corrupted, strict=True)) if a != b)

    @property
    def swapped(self) -> "PatchPair":
        """The same pair with clean and corrupted, and their answers, exchanged."""
        return PatchPair(self.corrupted, self.clean, self.other, self.answer, self.spans, self.task, self.group, self.text[::-1])


def next_tokens(tokenizer: Any, prompt: str, answers: Sequence[str]) -> tuple[int, ...]:
    """The id that each answer adds to a prompt.

    The answer is tokenised behind the prompt, because a tokenizer may merge across the boundary.

    Raises:
        UserError: if an answer adds more than one token or changes the prompt's own.
    """
    before, *behind = (coded.ids for coded in all_unclosed(tokenizer, [prompt, *(prompt + answer for answer in answers)]))
    ids = []
    for answer, after in zip(answers, behind, strict=True):
        if len(after) != len(before) + 1 or after[:-1] != before:
            pieces = tokenizer.convert_ids_to_tokens(after[len(before) :])
            raise UserError(
                "an answer of exactly one token after its prompt",
                f"{answer!r} after {prompt[-40:]!r}, which is {len(after) - len(before)} token(s): {pieces}",
                "Choose an answer of one token; most tokenizers want a space before a word (' Mary') and none after the prompt.",
            )
        ids.append(after[-1])
    return tuple(ids)


def aligned(
    tokenizer: Any,
    texts: tuple[str, str],
    answers: tuple[Sequence[str], Sequence[str]],
    chars: tuple[Mapping[str, tuple[int, int]], Mapping[str, tuple[int, int]]],
    task: str = "custom",
    group: str = "",
) -> PatchPair:
    """A pair from text: tokenised, with its spans found by the tokenizer's offsets and checked against each other.

    Args:
        tokenizer: a fast tokenizer.
        texts: the clean and the corrupted prompt.
        answers: right next words of each, with their leading space where the tokenizer wants one.
        chars: for each prompt, (from, to) in characters of every named span.
        task: which generator made it.
        group: what it shares with others.

    Raises:
        UserError: if lengths or spans disagree, or an answer is not a single token.
    """
    ids, spans = [], []
    for text, where in zip(texts, chars, strict=True):
        coded = unclosed(tokenizer, text)
        ids.append(tuple(coded.ids))
        spans.append({name: _covered(coded.offsets, *place) for name, place in where.items()} | {END: (len(coded) - 1,)})
    if len(ids[0]) == len(ids[1]) and spans[0] != spans[1]:
        raise UserError(
            "key spans at the same token positions in both prompts",
            f"{spans[0]} in {texts[0]!r} and {spans[1]} in {texts[1]!r}",
            "Mark the same spans in both prompts, with words of the same number of tokens.",
        )
    right = next_tokens(tokenizer, texts[0], answers[0])
    wrong = next_tokens(tokenizer, texts[0], answers[1])
    return PatchPair(ids[0], ids[1], right, wrong, spans[0], task, group, texts)


def _covered(offsets: Sequence[tuple[int, int]], start: int, stop: int) -> tuple[int, ...]:
    """Tokens that overlap the characters [start, stop)."""
    return tuple(at for at, (low, high) in enumerate(offsets) if low < stop and high > start and high > low)


def load_pairs(path: str, tokenizer: Any) -> list[PatchPair]:
    """The user's own pairs: JSON lines with clean, corrupted, answer and other; if wanted, group.

    A key span is marked in both prompts as [[words]] (named "key") or [[name|words]]; the marks are taken out.

    Raises:
        UserError: listing every wrong line with its number.
    """
    return lines.read_lines(
        path, lambda number, row: _pair(row, tokenizer), f"one JSON object a line with {', '.join(FIELDS)}", "pair"
    )


def _pair(row: JsonObject, tokenizer: Any) -> PatchPair:
    texts = {name: value for name in FIELDS if isinstance(value := row.get(name), str)}
    lacking = [name for name in FIELDS if name not in texts]
    unknown = [name for name in row if name not in (*FIELDS, "group")]
    if lacking or unknown:
        raise ValueError("; ".join([f"no text {name!r}" for name in lacking] + [f"unknown field {name!r}" for name in unknown]))
    clean, clean_spans = unmarked(texts["clean"])
    corrupted, corrupted_spans = unmarked(texts["corrupted"])
    return aligned(
        tokenizer,
        (clean, corrupted),
        ([texts["answer"]], [texts["other"]]),
        (clean_spans, corrupted_spans),
        group=str(row.get("group", "")),
    )


def unmarked(text: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """A prompt without its marks, and the characters (from, to) that each name covers.

    Raises:
        ValueError: if a name is used twice.
    """
    plain, spans, last = "", {}, 0
    for match in MARK.finditer(text):
        plain += text[last : match.start()]
        name = match[1] or "key"
        if name in spans or name == END:
            raise ValueError(f"the mark {name!r} is used twice" if name in spans else f"the mark {END!r} is taken")
        spans[name] = (len(plain), len(plain) + len(match[2]))
        plain, last = plain + match[2], match.end()
    return plain + text[last:], spans
