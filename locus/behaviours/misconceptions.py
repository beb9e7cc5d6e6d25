"""misconceptions: the embedded default, written for this project.

Common misconceptions and easily confused facts in 22 categories, with short answers. Unlike TruthfulQA it cannot be solved
without reading the question: true and false answers are balanced in negation, length, hedging and capitalised words, and
the tests hold both question-blind baselines near chance.

Licence: CC0-1.0 (the questions and answers); each item names a public source a reader can check.
Origin: embedded in the package; the hash in every plan and receipt is of exactly these items.
"""

import json
from importlib import resources

from locus.behaviours.items import Dataset, Item, about_truth

PARTS = ("part_a.jsonl", "part_b.jsonl")


def load_misconceptions() -> Dataset:
    """All items, in file order."""
    items = []
    for file in PARTS:
        text = resources.files("locus.behaviours").joinpath("misconceptions", file).read_text(encoding="utf-8")
        for line in text.removesuffix("\n").split("\n"):
            row = json.loads(line)
            items.append(
                Item(
                    id=row["id"],
                    question=row["question"],
                    wanted=tuple(row["true"]),
                    unwanted=tuple(row["false"]),
                    best=row["best"],
                    group=row["id"],
                    category=row["category"],
                    source=row["source"],
                )
            )
    return about_truth(Dataset("misconceptions", tuple(items), "CC0-1.0", "embedded in locus"))


def open_behaviour(name: str) -> Dataset:
    """All items, in file order, whatever follows the name."""
    return load_misconceptions()
