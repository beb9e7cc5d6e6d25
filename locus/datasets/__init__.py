"""Behaviours as contrasting answers: one dataset per file, each with its licence, source and hash."""

from locus.datasets import custom, misconceptions, task, truthfulqa
from locus.datasets.items import Dataset, Item, Split, split
from locus.errors import UserError

NAMES = ("misconceptions", "truthfulqa", "truthfulqa:FILE (CSV or mc_task.json)", "FILE.jsonl", "task:NAME", "planted:KIND:SEED")


def load(name: str) -> Dataset:
    """A dataset by name or path: misconceptions; truthfulqa (hub); truthfulqa:FILE or a CSV/JSON file; a JSONL file; task:NAME.

    Raises:
        UserError: if there is no such dataset, or its file is wrong.
    """
    if name == "misconceptions":
        return misconceptions.load()
    if name == "truthfulqa":
        return truthfulqa.load()
    if name.startswith("truthfulqa:"):
        return truthfulqa.load(name.removeprefix("truthfulqa:"))
    if name.endswith((".csv", ".json")):
        return truthfulqa.load(name)
    if name.endswith(".jsonl"):
        return custom.load(name)
    if name.startswith("task:"):
        return task.load(name)
    if name.startswith("planted:"):
        from locus.planted.named import planted_named  # the planted models come later in the flow and bring their questions

        return planted_named(name).dataset
    raise UserError("a dataset: " + ", ".join(NAMES), repr(name), "Choose one of these, or write your own as JSONL.")


__all__ = ["NAMES", "Dataset", "Item", "Split", "load", "split"]
