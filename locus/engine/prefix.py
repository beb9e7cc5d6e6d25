"""What lies before: tokens whose keys and values are handed to the layers, so that only those after them are run.

Every token sees only what is before it. Where two runs begin alike, both hold the same there, at every site, and a patched run
starts at the first token that differs. Where an edit acts on answers only, what leads to them is the base model's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.models.calls import LayerInputs
from locus.models.fast import attention

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
    """Keys and values of tokens before those that run, handed to the layers as a cache.

    Attributes:
        length: how many tokens.
        states: of a run that begins with them.
        copies: how many times its rows are repeated in the forward that runs.
    """

    length: int
    states: States
    copies: int = 1

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens, from those of the tokens that run now."""
        before = (state[:, :, : self.length].repeat(self.copies, 1, 1, 1) for state in self.states[layer])
        joined = [torch.cat([earlier, now], dim=2) for earlier, now in zip(before, (keys, values), strict=True)]
        return joined[0], joined[1]


def n_shared_columns(first: Tensor, second: Tensor, ends: Tensor) -> int:
    """How many first columns two runs share in every row; 0 where they differ nowhere, for nothing is then patched.

    Args:
        first: embeddings of a run, [rows or 1, T, width].
        second: of the other.
        ends: [rows], the last token of every row, which must be run.
    """
    differ = (first != second).any(dim=-1).any(dim=0)
    if not bool(differ.any()):
        return 0
    return min(int(differ.int().argmax()), int(ends.min()))


def cut(entry: LayerInputs, start: int) -> LayerInputs:
    """The calls for the columns from `start` on, which see all columns."""
    length = entry.hidden.shape[1]
    return entry if start == 0 else narrow_inputs(entry, torch.arange(start, length), torch.arange(length))


def narrow_inputs(entry: LayerInputs, columns: Tensor, keys_seen: Tensor) -> LayerInputs:
    """The calls for some columns.

    Args:
        entry: the calls for all.
        columns: the columns that are run, in order.
        keys_seen: the columns whose keys and values they are given, in order.
    """
    length = entry.hidden.shape[1]
    masks: dict[int, Tensor] = {}

    def narrow(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(narrow(one) for one in value)
        if isinstance(value, Tensor) and value.ndim == 4:
            if id(value) not in masks:
                masks[id(value)] = attention.narrowed(value, columns.to(value.device), keys_seen.to(value.device))
            return masks[id(value)]
        whole = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length
        return value[:, columns.to(value.device)] if whole else value

    calls = [(tuple(map(narrow, args)), {key: narrow(value) for key, value in kwargs.items()}) for args, kwargs in entry.calls]
    return LayerInputs(entry.hidden[:, columns.to(entry.hidden.device)], calls)
