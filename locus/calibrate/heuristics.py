"""Which head would a cheap heuristic name? Asked of planted models, where it is known which heads do the work."""

from typing import Any

import numpy as np
import torch

from locus.models.model import Model
from locus.models.planted.bank import ablated_margins, masks, unedited
from locus.models.planted.build import Planted
from locus.models.planted.certificate import class_distance, name_of, probe_accuracy, questions_of

PAIRS = 40


def heuristics_right(planted: Planted) -> dict[str, bool]:
    """Whether the head that each heuristic ranks first is one that does the work; a tie for first is a miss.

    probe: accuracy of a logistic probe; mass mean: distance of the class means in standard deviations along their difference;
    ablation: change of the margin when a head's output is set to zero; patching: effect on the logit difference of a head's
    output under replaced tokens put into the clean run.
    """
    config: Any = planted.model.config
    heads = [(layer, head) for layer in range(config.num_hidden_layers) for head in range(config.num_attention_heads)]
    truth, accuracy, distance = {name_of(place) for place in planted.truth}, probe_accuracy(planted), class_distance(planted)
    scores = {
        "probe": [accuracy[name_of(place)] for place in heads],
        "mass mean": [distance[name_of(place)] for place in heads],
        "ablation": _ablation(planted, heads),
        "patching": _patching(planted, heads),
    }
    right = {}
    for heuristic, values in scores.items():
        best = [name_of(place) for place, value in zip(heads, values, strict=True) if value == max(values)]
        right[heuristic] = len(best) == 1 and best[0] in truth
    return right


def _ablation(planted: Planted, heads: list[tuple[int, int]]) -> list[float]:
    config: Any = planted.model.config
    questions = questions_of(planted)
    grid = masks([(place,) for place in heads], config.num_hidden_layers, config.num_attention_heads, config.head_dim)
    moved = (ablated_margins(planted.model, grid, questions) - unedited(planted.model, questions)).abs().mean(dim=(1, 2))
    return [float(value) for value in moved]


def _patching(planted: Planted, heads: list[tuple[int, int]]) -> list[float]:
    from locus.patching.component import Component
    from locus.patching.corruptions import Replacement
    from locus.patching.known import planted_pairs
    from locus.patching.sweep import Batching, sweep

    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    patches = [(Component("head", layer, head),) for layer, head in heads]
    with torch.no_grad():
        effects = sweep(model, planted_pairs(planted, PAIRS), patches, "noise", Replacement(), batching=Batching(64)).effects(
            "none"
        )
    return [float(value) for value in np.abs(effects.values.mean(axis=1))]
