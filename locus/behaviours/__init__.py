"""Behaviours as contrasting answers: one a file, each with its licence, source and hash."""

from locus import registry
from locus.behaviours import jsonl, truthfulqa
from locus.behaviours.items import Dataset, Item, Split, split
from locus.errors import UserError

FILES = ("truthfulqa:FILE (CSV or mc_task.json)", "FILE.jsonl")


def load(name: str) -> Dataset:
    """A behaviour by name or path: one that `locus list behaviours` shows, TruthfulQA's CSV or mc_task.json, or a JSONL file.

    Raises:
        UserError: if there is no such behaviour, or its file is wrong.
    """
    if registry.known("behaviours", name):
        dataset: Dataset = registry.get("behaviours", name)(name)
        return dataset
    if name.endswith((".csv", ".json")):
        return truthfulqa.load_truthfulqa(name)
    if name.endswith(".jsonl"):
        return jsonl.load_jsonl(name)
    if name.startswith(registry.MEMORY):
        raise UserError(
            "questions that can be opened", f"{name!r}, which lay in memory", "Save them as JSONL, and give the file."
        )
    names = ", ".join([*registry.entries("behaviours"), *FILES])
    raise UserError(f"a dataset: {names}", repr(name), "Choose one of these, or write your own as JSONL.")


__all__ = ["Dataset", "Item", "Split", "load", "split"]
