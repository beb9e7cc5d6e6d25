"""At which tokens of a text a site acts: all, from the last prompt token on, that token alone, or the last one of a marked span.

A name says it behind an @: `mlp.17@last`, `mlp.17@subject`. What a span is called is for the questions to say, which mark it.
"""

import re

from locus.errors import UserError

ALL, ANSWER, LAST = "all", "answer", "last"
WORDS = {ALL: "at all tokens", ANSWER: "from the last prompt token on", LAST: "at the last prompt token"}
SPAN = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


def is_span(at: str) -> bool:
    """Whether it is the last token of a span that questions mark."""
    return at not in WORDS


def words(at: str) -> str:
    """Where, in words."""
    return WORDS.get(at, f"at the last token of the {at}")


def known(at: str) -> str:
    """A name of positions as it is written.

    Raises:
        UserError: if none is called so.
    """
    if not SPAN.fullmatch(at):
        wanted = f"positions behind an @: {', '.join(WORDS)}, or the name of a marked span, such as subject"
        raise UserError(wanted, repr(at[:40]), "Write them as in mlp.17@subject.")
    return at
