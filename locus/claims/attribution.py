"""First-order effects as a source of claims: sites without which the margin would change most, as its gradient says.

The effect of a site is what the mean margin of training questions (wanted answers' mean log-prob less unwanted ones') loses when
the site's output is set to zero at every token: to first order the sum over tokens of output times gradient. Sites are ranked by
its size, since a site that works against the behaviour takes part in it as well. It is an estimate from one pass forward and
back, and blind where a softmax is saturated.

Source: Michel et al. 2019 (arXiv 1905.10650), the importance of a head as the derivative by a mask on it; Nanda 2023
(attribution patching), against zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.behaviours.items import Item
from locus.claims.claim import Claim
from locus.claims.probe import best
from locus.engine.forward import Batch, sequence_logprobs
from locus.engine.trie import TokenTrie
from locus.errors import UserError
from locus.models.model import Model
from locus.sites.space import SiteSpace


def effects(
    model: Model, items: Sequence[Item], trie: TokenTrie, rows: Sequence[Batch], space: SiteSpace
) -> npt.NDArray[np.float64]:
    """What the mean margin loses without each site, to first order, [layers, sites], in nats; NaN where there is no site.

    Args:
        model: the unedited model.
        items: questions.
        trie: their trees.
        rows: of these, as a base pass prepared them.
        space: the sites.

    Raises:
        UserError: if the model's layers cannot be run one by one, or these sites are no slices of what a layer says.
    """
    if not model.trees or space.kind.written != "slices":
        received = f"{space.kind.nouns} of {model.name}"
        raise UserError("slices of a model whose layers can be run one by one", received, "Use the heuristic probe.")
    table = np.full((model.layout.n_layers, max(space.counts)), np.nan)
    for layer in space.layers:
        table[layer, : space.counts[layer]] = 0.0
    weights = _weights(items, trie)
    for row in rows:
        for layer, by_column in _products(model, row, weights, space).items():
            for index in range(space.counts[layer]):
                table[layer, index] += float(by_column[space.kind.columns(model.layout, layer, index)].sum())
    return table


def _weights(items: Sequence[Item], trie: TokenTrie) -> Tensor:
    """[sequences], how much each answer's log-prob counts in the mean margin of all questions."""
    weights = torch.zeros(len(trie.sequences))
    for owner, item in enumerate(items):
        sequences, cut = trie.sequences_of([owner]), len(item.wanted)
        weights[sequences[:cut]] = 1 / (cut * len(items))
        weights[sequences[cut:]] = -1 / (len(sequences[cut:]) * len(items))
    return weights


def _products(model: Model, row: Batch, weights: Tensor, space: SiteSpace) -> dict[int, Tensor]:
    """By layer, the sum over a row's tokens of what is at the sites' point times its gradient, [width of the point]."""
    values: dict[int, Tensor] = {}

    def kept(layer: int) -> Callable[[Tensor], Tensor]:
        def keep(vectors: Tensor) -> Tensor:
            values[layer] = vectors
            return vectors

        return keep

    handles = [model.attach(space.kind.point, layer, kept(layer)) for layer in space.layers]
    try:
        with torch.enable_grad():
            hidden = row.entry.hidden.detach().clone().requires_grad_()
            for layer in range(model.layout.n_layers):
                hidden = model.layer(layer, hidden, row.entry)
            logprobs = sequence_logprobs(model, hidden, row.targets)[0]
            own = weights[torch.from_numpy(row.targets.sequences)].to(logprobs.device)
            layers = list(values)
            slopes = torch.autograd.grad((logprobs * own).sum(), [values[layer] for layer in layers])
    finally:
        for handle in handles:
            handle.remove()
    products = [(values[layer].detach() * slope).sum(dim=(0, 1)) for layer, slope in zip(layers, slopes, strict=True)]
    return {layer: product.double().cpu() for layer, product in zip(layers, products, strict=True)}


def heuristic(evidence: Any) -> Claim:
    """The claim of the heuristic `attribution`, from what a `heuristic.Evidence` holds."""
    train = evidence.train
    found = effects(evidence.model, train.items, train.trie, train.base.prepared, evidence.space)
    about = {"n_train": len(train.items), "unit": "size of the effect, nats"}
    return best("attribution", np.abs(found), evidence.space.kind.name, evidence.size, about)
