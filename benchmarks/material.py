"""What both sides are given: the same frozen model, the same questions, the same token ids."""

import numpy as np

from locus import datasets
from locus.datasets.items import Item
from locus.forest import Forest
from locus.model import Model, load
from locus.prompts import plant, prompt_format
from locus.train import all_pairs


def frozen(model: str) -> Model:
    """The model in float32 on the CPU."""
    return load(model, device="cpu", dtype="float32")


def questions(data: str, count: int, seed: int = 0) -> tuple[Item, ...]:
    """A seeded draw of questions, in dataset order."""
    items = datasets.load(data).items
    chosen = np.sort(np.random.default_rng(seed).permutation(len(items))[:count])
    return tuple(items[index] for index in chosen)


def forest_of(model: Model, items: tuple[Item, ...]) -> Forest:
    """Their question trees in the model's own prompt format."""
    return plant(model.tokenizer, prompt_format(model.tokenizer), items)


def pair_count(items: tuple[Item, ...]) -> int:
    """True x false pairs."""
    return sum(item.n_pairs for item in items)


def pairs_of(items: tuple[Item, ...], forest: Forest) -> np.ndarray:
    """[pairs, 2] sequence indices, true and false, question by question."""
    return np.concatenate([all_pairs(items, forest, owner) for owner in range(len(items))])
