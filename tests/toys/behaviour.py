"""A toy behaviour: the planted model's questions, in reverse order, under another name."""

from dataclasses import replace

from locus.behaviours.items import Dataset
from locus.models.planted.named import planted_named


def backwards(name: str) -> Dataset:
    """The questions; what follows the colon is the planted model's seed."""
    dataset = planted_named(f"planted:localized:{name.partition(':')[2] or 0}").dataset
    return replace(dataset, name="backwards", items=dataset.items[::-1])
