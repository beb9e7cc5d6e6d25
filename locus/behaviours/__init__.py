"""Behaviours as contrasting answers: one a file, each with its licence, source and hash."""

from collections.abc import Mapping
from pathlib import Path

from locus import registry
from locus.behaviours import jsonl, truthfulqa
from locus.behaviours.items import FILED, Dataset, Item, Split, split
from locus.behaviours.readers import files, opening
from locus.errors import UserError

FILES = ("truthfulqa:FILE (CSV or mc_task.json)", "FILE.jsonl", "READER:FILE", "MAPPING.toml (of a data set on the hub)")
OWN = {".jsonl": jsonl.load_jsonl, ".csv": truthfulqa.load_truthfulqa, ".json": truthfulqa.load_truthfulqa}


def load(name: str) -> Dataset:
    """A behaviour by name or path: one that `locus list behaviours` shows, our own JSONL, or a file that a reader reads.

    Args:
        name: of a behaviour; a path; or READER:PATH, with a reader that `locus list readers` shows. TruthfulQA's CSV and
            mc_task.json need no reader.

    Raises:
        UserError: if there is no such behaviour, its file is wrong, or its shape is that of several readers or of none.
    """
    if registry.known("behaviours", name):
        dataset: Dataset = registry.get("behaviours", name)(name)
        return dataset
    if ":" in name and registry.known("readers", name):
        return opening.open_named(name)
    if Path(opening.parted(name)[0]).suffix.lower() in files.FORMATS:
        return _recognised(name)
    if name.startswith(registry.MEMORY):
        raise UserError(
            "questions that can be opened", f"{name!r}, which lay in memory", "Save them as JSONL, and give the file."
        )
    names = ", ".join([*registry.entries("behaviours"), *FILES])
    raise UserError(f"a dataset: {names}", repr(name), "Choose one of these, or write your own as JSONL.")


def own(row: Mapping[str, object]) -> bool:
    """Whether a row has the shape of our own JSON lines, or of TruthfulQA."""
    sides = all(new in row or old in row for new, old in FILED.items())
    return ("question" in row and sides) or set(truthfulqa.COLUMNS) <= row.keys() or "mc1_targets" in row


def _recognised(name: str) -> Dataset:
    """A file whose reader is found by its first rows.

    Raises:
        UserError: if there is none, or several; or as the reader does.
    """
    path, _ = opening.parted(name)
    ours, first = OWN.get(Path(path).suffix), files.first(path)
    if ours is not None and (not first or any(map(own, first))):
        return ours(name)
    names = opening.recognised(first)
    if ours is not None and not names:
        try:
            return ours(name)
        except UserError as error:
            readers = ", ".join(registry.entries("readers"))
            raise UserError(error.expected, error.received, f"{error.remedy} Other shapes are read by {readers}.") from error
    return opening.open_file(opening.only(names, repr(path)), name)


__all__ = ["Dataset", "Item", "Split", "load", "split"]
