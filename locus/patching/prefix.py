"""The beginning that two runs share: up to the first token that differs no patch can change anything.

Every token sees only what is before it, so both runs hold the same there, at every site. Patched runs therefore start at the
first token that differs and read the keys and values of the shared beginning, which are computed once a batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.model import Entry, Model


@dataclass
class Prefix:
    """Keys and values of the first tokens of some rows, handed to the layers as a cache.

    Attributes:
        length: how many columns are shared.
        states: by layer, keys and values, [rows, key-value heads, length, head_dim] each.
        copies: how many times the rows are repeated in the forward that runs now; 0 while the states are recorded.
    """

    length: int
    states: dict[int, tuple[Tensor, Tensor]]
    copies: int = 0

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens, from those of the tokens that run now."""
        if self.copies == 0:
            self.states[layer] = keys[:, :, : self.length], values[:, :, : self.length]
            return keys, values
        before = (state.repeat(self.copies, 1, 1, 1) for state in self.states[layer])
        whole = [torch.cat([earlier, now], dim=2) for earlier, now in zip(before, (keys, values), strict=True)]
        return whole[0], whole[1]

    @classmethod
    def of(cls, model: Model, residual: list[Tensor], entry: Entry, length: int) -> "Prefix":
        """Record a run's first tokens.

        Args:
            model: the model.
            residual: by layer, [rows, T, width] that enters it.
            entry: how its layers are called.
            length: how many columns are shared.
        """
        prefix = cls(length, {})
        with torch.no_grad():
            for layer in range(model.anatomy.n_layers):
                model.layer(layer, residual[layer], entry, prefix)
        return prefix


def shared(one: Tensor, two: Tensor, ends: Tensor) -> int:
    """How many first columns two runs share in every row; 0 where they differ nowhere, for nothing is then patched.

    Args:
        one: embeddings of a run, [rows or 1, T, width].
        two: of the other.
        ends: [rows], the last token of every row, which must be run.
    """
    differ = (one != two).any(dim=-1).any(dim=0)
    if not bool(differ.any()):
        return 0
    return min(int(differ.int().argmax()), int(ends.min()))


def cut(entry: Entry, start: int) -> Entry:
    """The calls for the columns from `start` on, which see all columns."""
    if start == 0:
        return entry
    length = entry.hidden.shape[1]

    def sliced(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(sliced(part) for part in value)
        if isinstance(value, Tensor) and value.ndim == 4:
            return value[:, :, start:]
        return value[:, start:] if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length else value

    calls = [(tuple(map(sliced, args)), {key: sliced(value) for key, value in kwargs.items()}) for args, kwargs in entry.calls]
    return Entry(entry.hidden[:, start:], calls)
