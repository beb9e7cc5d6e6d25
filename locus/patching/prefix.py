"""The beginning that two runs share: up to the first token that differs no patch can change anything.

Every token sees only what is before it, so both runs hold the same there, at every site. Patched runs therefore start at the
first token that differs and read the keys and values of the shared beginning, which the unpatched run recorded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.model import Entry

States = dict[int, tuple[Tensor, Tensor]]


class Recorder:
    """Stands in for a layer's cache and keeps what the layer hands it.

    Attributes:
        states: by layer, keys and values, [rows, key-value heads, T, head_dim] each.
    """

    def __init__(self) -> None:
        self.states: States = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The same keys and values."""
        self.states[layer] = keys, values
        return keys, values


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the first tokens of some rows, handed to the layers as a cache.

    Attributes:
        length: how many columns are shared.
        states: of a run over all columns.
        copies: how many times the rows are repeated in the forward that runs.
    """

    length: int
    states: States
    copies: int = 1

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens, from those of the tokens that run now."""
        before = (state[:, :, : self.length].repeat(self.copies, 1, 1, 1) for state in self.states[layer])
        whole = [torch.cat([earlier, now], dim=2) for earlier, now in zip(before, (keys, values), strict=True)]
        return whole[0], whole[1]


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
