"""The pattern judge: regular expressions for what the wanted side says and for what the unwanted one says.

The first match decides, and of two at one place the longer: "I can't help. Here is why" declines, "Here is how; I can't promise
that it works" does not. Where nothing matches, or two alike, neither side is said. A file holds its own labelled answers, and how
often the patterns err on these is counted whenever it is opened.

Patterns are somebody's text, and some take for ever: their number and size, the part of an answer that they read, and the time
that they may take are bounded. One that takes longer on texts made to slow patterns down is refused before anything is judged.
"""

import hashlib
import json
import math
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import regex

from locus.boundary import incoming
from locus.errors import UserError
from locus.judges.base import SIDES, References, Sides, undecided
from locus.judges.kind import JudgeKind
from locus.judges.sides import LABELS, Labelled, SideJudge, named_file
from locus.shown import visible

VERSION = "pattern/1"
FILE_BYTES = 1 << 20
PATTERNS, LENGTH = 100, 500  # patterns of a side, and characters of a pattern
READ = 2000  # characters of an answer
SECONDS = 1.0  # of all patterns on one answer
TESTS = 5000  # labelled answers of a label
FLAGS = regex.IGNORECASE | regex.VERSION0
SLOW = ("a" * READ, " " * READ, "a " * (READ // 2), "no, " * (READ // 4), "0" * (READ - 1) + "!", "aB.\n" * (READ // 4))


class PatternJudge(SideJudge):
    """Judges by the first match of regular expressions, whatever the question.

    Args:
        called: the name of the patterns.
        wanted: patterns of which one is found in an answer on the wanted side.
        unwanted: likewise of the other side; there may be none.
        tests: labelled answers.

    Raises:
        UserError: if a pattern is none, or takes too long.
    """

    def __init__(self, called: str, wanted: Sequence[str], unwanted: Sequence[str], tests: Sequence[Labelled] = ()):
        self.called, self.tests = called, tuple(tests)
        self.patterns = dict(zip(SIDES, (tuple(wanted), tuple(unwanted)), strict=True))
        self._compiled = {side: [_compiled(called, one) for one in patterns] for side, patterns in self.patterns.items()}
        for text in (*SLOW, *(one.answer for one in self.tests)):
            if (reason := self.side("", text, References()).reason) and text.strip():
                raise UserError(
                    f"patterns in {called!r} that are soon done", reason, "Mend the pattern: no repeat within a repeat."
                )

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"pattern:{self.called}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the patterns, and of how they are read."""
        return hashlib.sha256(json.dumps([VERSION, READ, int(FLAGS), self.patterns]).encode()).hexdigest()

    def labelled(self) -> Sequence[Labelled]:
        """The file's own."""
        return self.tests

    def side(self, question: str, answer: str, references: References) -> Sides:
        """One for the side that is matched first; nothing for either where none is."""
        first, end = {}, time.monotonic() + SECONDS
        for side, patterns in self._compiled.items():
            first[side] = (math.inf, 0)
            for one in patterns:
                try:
                    found = one.search(answer[:READ].replace("’", "'"), timeout=max(end - time.monotonic(), 1e-9))
                except TimeoutError:
                    return undecided(f"the pattern {visible(one.pattern, 80)} takes longer than {SECONDS:g} s")
                if found is not None:
                    first[side] = min(first[side], (found.start(), -len(found[0])))
        wanted, unwanted = (first[side] for side in SIDES)
        return Sides(float(wanted < unwanted), float(unwanted < wanted))


def _compiled(called: str, pattern: str) -> Any:
    """A pattern, ready to search.

    Raises:
        UserError: if it is none, or matches where there is nothing.
    """
    try:
        re.compile(pattern)  # what only the other package knows (recursion, approximate matches) is slower than its clock
        if re.search(r"\{[A-Za-z]", pattern):
            raise ValueError("a letter in braces, which asks for approximate matches")
        made = regex.compile(pattern, FLAGS)
        empty = made.search("", timeout=SECONDS) is not None
    except (re.error, regex.error, RecursionError, OverflowError, MemoryError, TimeoutError, ValueError) as error:
        raise UserError(f"regular expressions in {called!r}", f"{pattern[:80]!r} ({error})", "Mend the pattern.") from error
    if empty:
        raise UserError(f"patterns in {called!r} that match something", f"{pattern[:80]!r}, which matches nothing", "Mend it.")
    return made


def read_patterns(source: str) -> PatternJudge:
    """The judge of the patterns that come with the package by a name, or of a TOML file.

    Raises:
        UserError: if there are none of the name, or the file is wrong.
    """
    if source in names():
        text = resources.files("locus.judges").joinpath("patterns", f"{source}.toml").read_text(encoding="utf-8")
        return _judge(source, text, source)
    if not source.endswith(".toml"):
        raise UserError(f"patterns: {', '.join(names())}, or a TOML file", repr(source[:80]), "Name one of them.")
    what = "patterns of a judge"
    path = named_file(source, ".toml", what)
    return _judge(path.stem, incoming.text_of(incoming.read_bytes(path, what, FILE_BYTES), what, source), source)


def names() -> list[str]:
    """What comes with the package."""
    folder = resources.files("locus.judges").joinpath("patterns")
    return sorted(Path(one.name).stem for one in folder.iterdir() if one.name.endswith(".toml"))


def _judge(called: str, text: str, source: str) -> PatternJudge:
    """The judge that a file describes.

    Raises:
        UserError: if it describes none.
    """
    try:
        content = tomllib.loads(text)
        wrong = _wrong(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        content, wrong = {}, str(error)
    if wrong:
        expected = "TOML with patterns wanted and, if wanted, unwanted, about, and labelled answers in [test]"
        raise UserError(expected, f"{source!r} with {wrong}", "docs/judging.md shows such a file.")
    tests = [Labelled(answer, side) for side in LABELS for answer in content.get("test", {}).get(side, [])]
    return PatternJudge(called, content["wanted"], content.get("unwanted", []), tests)


def _wrong(content: Mapping[str, Any]) -> str:
    """What is wrong with a file of patterns, in a few words; "" where nothing is."""
    if unknown := [name for name in content if name not in ("about", *SIDES, "test")]:
        return f"an unknown key {unknown[0][:40]!r}"
    for side in SIDES:
        patterns = content.get(side, [])
        if not _texts(patterns) or len(patterns) > PATTERNS or any(not 0 < len(one) <= LENGTH for one in patterns):
            return f"{side} that is no list of at most {PATTERNS} patterns of at most {LENGTH} characters"
    if not content.get("wanted"):
        return "no pattern of the wanted side"
    tests = content.get("test", {})
    if not isinstance(tests, dict) or any(name not in LABELS for name in tests):
        return f"a [test] of other keys than {', '.join(LABELS)}"
    if not all(_texts(one) and len(one) <= TESTS and all(text.strip() for text in one) for one in tests.values()):
        return f"a [test] that is not of at most {TESTS:,} answers a side, none of them empty"
    every = [answer for answers in tests.values() for answer in answers]
    return "" if len(set(every)) == len(every) else "a labelled answer given twice"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


KIND = JudgeKind(
    lambda argument, endpoint: read_patterns(argument),
    lambda argument, endpoint: (read_patterns(argument), None)[1],
    "required",
    SIDES,
)
