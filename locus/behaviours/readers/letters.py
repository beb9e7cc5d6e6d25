"""Letters that stand for options: which text a letter names, where the options are in the question."""

import re
from collections.abc import Mapping

LETTER = re.compile(r"\(?([A-Z])[).:]?")
BRACKETED = re.compile(r"^[ \t]*\(([A-Z])\):?[ \t]*", re.M)
PLAIN = re.compile(r"^[ \t]*([A-Z])[.)][ \t]+", re.M)
HEADING = re.compile(r"\W*(?:(?:answer )?choices|options|answers?|a) ?:?", re.I)  # a line of its own
INLINE = re.compile(r"\b(?:answer )?(?:choices|options) ?:$", re.I)
CUE = re.compile(r"(?:the )?(?:best |correct )?answer(?: is)? ?:? ?\(?", re.I)  # the last line, which the answer goes on


def letter(answer: str) -> str:
    """The letter that an answer is, without brackets; "" where it is a text."""
    found = LETTER.fullmatch(answer.strip())
    return found[1] if found else ""


def options(question: str) -> tuple[str, Mapping[str, str]]:
    """A question without its options, and the options by letter; none where it has none.

    Raises:
        ValueError: if they are given twice, not in order, or followed by other text, so that they cannot be told apart.
    """
    text = _without(question, CUE)
    found = list(BRACKETED.finditer(text)) or list(PLAIN.finditer(text))
    if not found:
        return question.strip(), {}
    names = [one[1] for one in found]
    if names != [chr(ord("A") + place) for place in range(len(names))]:
        raise ValueError(f"options {', '.join(names[:8])}, which are not A, B ... once each")
    ends = [*(one.start() for one in found[1:]), len(text)]
    texts = [text[one.end() : end].strip() for one, end in zip(found, ends, strict=True)]
    if "\n\n" in texts[-1]:
        raise ValueError("text behind the options")
    stem = _without(text[: found[0].start()], HEADING)
    return INLINE.sub("", stem).strip(), dict(zip(names, texts, strict=True))


def _without(text: str, last: re.Pattern[str]) -> str:
    """A text without its last line, where that is of a kind."""
    front, feed, line = text.rstrip().rpartition("\n")
    return front.rstrip() if feed and last.fullmatch(line.strip()) else text.strip()


def resolved(question: str, answers: tuple[str, ...]) -> tuple[str, tuple[str, ...], int]:
    """A question without its options, the texts that letters name, and how many options there are.

    Args:
        question: with its options.
        answers: letters.

    Raises:
        ValueError: if a letter names no option of the question.
    """
    stem, there = options(question)
    if missing := [one for one in answers if letter(one) not in there]:
        has = f"options {', '.join(there)}" if there else "no options"
        raise ValueError(f"the letter {missing[0].strip()!r}, where the question has {has}")
    return stem, tuple(there[letter(one)] for one in answers), len(there)
