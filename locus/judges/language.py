"""The language judge: whether an answer is in the wanted language, `language:fr`, or in any other.

A naive Bayes model over byte n-grams says so, of the languages listed here and the wanted one. Short answers are what it errs on:
its errors are counted on answers of our own, from a word to two sentences, in the languages of which there are some. What has
hardly a letter in it is in no language.

Source: Lui & Baldwin 2012 (langid.py), as the package py3langid has it; its model was trained elsewhere, not on these answers.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from importlib.metadata import version
from typing import Any

from locus.errors import UserError
from locus.judges.api import Endpoint
from locus.judges.base import SIDES, References, Sides
from locus.judges.kind import JudgeKind
from locus.judges.sides import Labelled, SideJudge

VERSION, PACKAGE = "language/1", "py3langid"
# Spoken by most, or near to these. Of the French answers of the behaviour `language`, one to three words long, the model finds 80
# % in French where it has these to choose from, and 58 % where it has all of its 139.
OTHERS = "en fr de es it pt nl pl ru uk sv tr ar fa hi zh ja ko".split()
READ = 2000  # characters of an answer
LETTERS = 2  # fewest that are a language


class LanguageJudge(SideJudge):
    """Judges by the language of an answer, whatever the question.

    Args:
        code: of the wanted language, ISO 639-1.

    Raises:
        UserError: if the package is missing, or knows no such language.
    """

    def __init__(self, code: str):
        check_language(code)
        from py3langid import langid

        self.code = code
        self.model: Any = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
        if code not in self.model.labels:
            known = ", ".join(sorted(self.model.labels))
            raise UserError(f"the code of a language: {known}", repr(code[:20]), "Use language:fr, say.")
        self.model.set_languages({*OTHERS, code})

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"language:{self.code}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the wanted language, the others, and the version of the package with its model."""
        identity = [VERSION, self.code, OTHERS, READ, LETTERS, version(PACKAGE)]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def side(self, question: str, answer: str, references: References) -> Sides:
        """One for the likeliest language: the wanted one, or another."""
        read = answer[:READ]
        if sum(char.isalpha() for char in read) < LETTERS:
            return Sides(0.0, 0.0)
        wanted = float(self.model.classify(read)[0] == self.code)
        return Sides(wanted, 1.0 - wanted)

    def labelled(self) -> Sequence[Labelled]:
        """Answers in several languages; none where none is in the wanted one."""
        text = resources.files("locus.judges").joinpath("labelled", "languages.json").read_text(encoding="utf-8")
        by_language: dict[str, list[str]] = json.loads(text)
        if self.code not in by_language:
            return ()
        sides = {self.code: "wanted", "": "neither"}
        return [Labelled(one, sides.get(code, "unwanted")) for code, answers in by_language.items() for one in answers]


def check_language(code: str) -> None:
    """Refuse what is no code of a language, and a missing package.

    Raises:
        UserError: saying so.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(f"the package {PACKAGE}, which knows languages", "none", "pip install 'locus-audit[judge]'.")
    if not (code.isascii() and code.isalpha() and code.islower() and 2 <= len(code) <= 3):
        raise UserError("the code of a language, such as fr", repr(code[:20]), "Use language:fr, say.")


def _check(code: str, endpoint: Endpoint) -> None:
    LanguageJudge(code)


KIND = JudgeKind(lambda code, endpoint: LanguageJudge(code), _check, "required", SIDES)
