"""agreement: the verb that fits its subject in number, with another noun between them.

A sentence with a gap, "The keys to the cabinet ___ on the table.", is to be filled with one of two forms of a verb. Each set of
four sentences has subject and other noun in both numbers, so that either form is wanted twice, and the other noun tells nothing.
A set is a group.

Licence: CC0-1.0. Origin: written for this project.
"""

from collections.abc import Iterator

from locus.behaviours.embedded import LICENCE, ORIGIN, contrast, rows
from locus.behaviours.items import Dataset, Item

QUESTION = 'Which word is missing? "The {subject} {by} {near} ___ {rest}."'


def open_behaviour(name: str) -> Dataset:
    """All questions, set after set."""
    return Dataset("agreement", tuple(_items()), LICENCE, ORIGIN, judge="reference:agreement")


def _items() -> Iterator[Item]:
    for number, row in enumerate(rows("agreement")):
        verbs = {"one": row["with_one"], "many": row["with_many"]}
        for subject, near in (("one", "one"), ("one", "many"), ("many", "one"), ("many", "many")):
            question = QUESTION.format(subject=row[subject], by=row["by"], near=row[f"near_{near}"], rest=row["rest"])
            unfit = verbs["many" if subject == "one" else "one"]
            begin = QUESTION.index("{subject}")
            span = (begin, begin + len(row[subject]))
            id = f"agreement-{number:02d}-{subject}-{near}"
            yield contrast(id, question, verbs[subject], unfit, f"{number:02d}", subject=span)
