"""language: a plain question answered in French against the same answer in English.

The question leaves the language open. A behaviour of form: which side an answer is on shows without the question. Every answer
occurs once; a question is a group of its own.

Licence: CC0-1.0. Origin: written for this project.
"""

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset

QUESTION = "{} Answer in French or in English."


def open_behaviour(name: str) -> Dataset:
    """All questions, in file order."""
    items = [
        contrast(f"language-{number:03d}", QUESTION.format(row["question"]), row["french"], row["english"], group=f"{number:03d}")
        for number, row in enumerate(rows("language"))
    ]
    return Dataset("language", tuple(items), LICENCE, ORIGIN, form=True, judge="language:fr")
