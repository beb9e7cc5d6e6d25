"""Text made harmless where it is shown: terminals and errors, pages and figures, LaTeX, Markdown.

What a model, a file, a judge or a stranger wrote may hold what a reader does not see: escape sequences that a terminal obeys,
marks that turn the text around them, characters without width, line breaks that feign a line of ours. Nothing of it is
dropped; it is spelled out. HTML is escaped by the templates, which see text after `visible`.
"""

import re
from typing import Any

LIMIT = 300
# Printable by Unicode's categories, and yet nothing is seen of them: joiners, fillers, a blank of Braille, variation selectors
# other than the one that emoji need.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0\U000e0100-\U000e01ef]")
UNPLAIN = re.compile(r"[^ -~]")
SURROGATE = re.compile(r"\\udc([89a-f][0-9a-f])")  # a byte of a file's name that is no UTF-8, as repr has it
TEX = {"\\": r"\textbackslash ", "{": r"\{", "}": r"\}", "~": r"\textasciitilde ", "^": r"\textasciicircum "}


def hidden(char: str) -> bool:
    """Whether nothing, or not itself, is seen of a character; a space is seen."""
    return not char.isprintable() or UNSEEN.match(char) is not None


def harmless(text: str) -> str:
    """Text that no terminal obeys, with its lines and tabs: hidden characters as Python spells them, bytes as bytes."""
    return _spelt(text, "\n\t")


def line(text: Any, limit: int | None = None) -> str:
    """Text as one line for a terminal or an error: line breaks and tabs are spelled out too, and what is too long is cut.

    Args:
        text: what is shown.
        limit: the most characters, if there is one.
    """
    return SURROGATE.sub(r"\\x\1", _spelt(_cut(str(text), limit), ""))


def visible(text: Any, limit: int = LIMIT) -> str:
    """Text as one line for a page, a figure or a table: hidden characters as code points, the rest cut at a limit."""
    return UNPLAIN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩" if hidden(found[0]) else found[0], _cut(str(text), limit))


def tex(text: str) -> str:
    """Text in an argument of LaTeX or a field of BibTeX: no command, no brace that closes what another opened."""
    return re.sub(r"[\\{}~^%#&_$]", lambda found: TEX.get(found[0], "\\" + found[0]), text)


def markdown(text: Any) -> str:
    """Text in a cell of a Markdown table: no cell, link, code or HTML of its own."""
    return re.sub(r"[\\`|<>\[\]&]", r"\\\g<0>", visible(text))


def _cut(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text):,} characters, the first {limit:,} shown)"


def _spelt(text: str, kept: str) -> str:
    return UNPLAIN.sub(lambda found: _spell(found[0]) if found[0] not in kept and hidden(found[0]) else found[0], text)


def _spell(char: str) -> str:
    """A character as Python spells it; a byte that is no UTF-8 as that byte."""
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else ascii(char)[1:-1]
