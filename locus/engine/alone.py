"""Row by row: every text of a tree as a row of its own, for models that cannot be given a tree.

A model that keeps a state across tokens (a recurrence, a convolution), or whose layers cannot be run one by one, is run whole
over the texts, padded behind. What is asked of a place in the tree is read off any text that runs through it: under a causal
model it is the same in all of them. Nothing is shared and nothing reused, which costs what the tree had spared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from locus.engine.bank import BankState
from locus.engine.trie import Ints, PackedRow
from locus.models.model import Model


@dataclass(frozen=True)
class Texts:
    """The texts of one row of a tree.

    Attributes:
        tokens: [texts, T], padded behind.
        real: [texts, T], false where a text is padded.
        masks: by name of some positions, [texts, T], whether a token is at one of them.
        text, column: by place of the tree's row, a text that runs through it, and where in that text it is.
    """

    tokens: Tensor
    real: Tensor
    masks: Mapping[str, Tensor]
    text: Tensor
    column: Tensor


def _paths(row: PackedRow) -> list[Ints]:
    """The places of every text, from its first token to its last."""
    leaves = np.flatnonzero(row.sees.sum(axis=0) == 1)  # seen by themselves alone
    return [np.flatnonzero(row.sees[leaf]) for leaf in leaves]


def texts_of(row: PackedRow) -> Texts:
    """Lay a tree's texts out as rows."""
    paths = _paths(row)
    shape = len(paths), max(map(len, paths))
    tokens, real = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    masks = {name: torch.zeros(shape, dtype=torch.bool) for name in row.masks}
    text, column = torch.zeros(len(row), dtype=torch.long), torch.zeros(len(row), dtype=torch.long)
    for number, path in enumerate(paths):
        tokens[number, : len(path)] = torch.from_numpy(row.tokens[path])
        for name, mask in row.masks.items():
            masks[name][number, : len(path)] = torch.from_numpy(mask[path])
        real[number, : len(path)] = True
        text[path], column[path] = number, torch.arange(len(path))
    return Texts(tokens, real, masks, text, column)


def spread(row: PackedRow) -> PackedRow:
    """A row whose tokens are those of all its texts, by which work is counted that shares nothing."""
    places = np.concatenate(_paths(row))
    return PackedRow(row.nodes[places], row.tokens[places], row.positions[places], row.sees[:0], row.answer_mask[places])


def read_texts(model: Model, row: PackedRow, bank_state: BankState | None = None) -> Tensor:
    """What enters the vocabulary head at every place of a row, [edits or 1, T, width].

    Args:
        model: the model.
        row: the tree's.
        bank_state: of the edits that are attached and act; the base model's without.
    """
    texts, count = texts_of(row), 1 if bank_state is None else bank_state.active
    if bank_state is not None:
        bank_state.where = {name: mask.float().repeat(count, 1) for name, mask in texts.masks.items()}
    hidden = model.read(texts.tokens.repeat(count, 1), texts.real.repeat(count, 1))
    if bank_state is not None:
        bank_state.where = None
    return hidden.view(count, *texts.tokens.shape, -1)[:, texts.text.to(hidden.device), texts.column.to(hidden.device)]
