"""Lists that come with the package, and what makes questions of them.

Every list was written for this project: nothing of another data set is in it. A behaviour of *content* is balanced: a text that
is wanted somewhere in a group is unwanted elsewhere in it, so that a rule which never reads the question gets one half, whatever
the rule. In a behaviour of *form* the answers show by themselves which side they are on: its data set says so.
"""

import json
from importlib import resources
from typing import Any

from locus.behaviours.items import Item

LICENCE, ORIGIN = "CC0-1.0", "embedded in locus"
FOLDER = "data"


def rows(name: str) -> list[Any]:
    """The lines of a list, in file order.

    Args:
        name: of the behaviour whose list it is.
    """
    text = resources.files("locus.behaviours").joinpath(FOLDER, f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def contrast(
    id: str, question: str, wanted: str, unwanted: str, group: str, category: str = "", **spans: tuple[int, int]
) -> Item:
    """A question with one wanted and one unwanted answer; by name, the characters [from, to) of what is marked in it."""
    return Item(id, question, (wanted,), (unwanted,), wanted, group, category, spans=spans)
