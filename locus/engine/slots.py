"""Run many unequal texts through the model with one cache whose slot index is the token's position.

Every row begins at slot 0, and a token at position p of its row has its keys and values in slot p. Texts of different lengths
are padded on the right: a padded slot lies after every token that could see it and is written over before one looks. Masks
therefore follow from positions alone, sliding windows included; rows of any length can be taken out of a cache, or put
beside one another, at any time, which left padding does not allow.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from locus.edits.base import Edit, Terms
from locus.engine.bank import Bank, BankState
from locus.models.model import Model
from locus.models.windows import NO_WINDOW, Window


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, [rows, key-value heads, slots, head_dim]."""

    def __init__(self, owner: "Slots"):
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new states at their positions; give back the slots up to the furthest of them."""
        if not self.is_initialized or self.keys is None or self.values is None:
            rows, heads, _, width = key_states.shape
            self.keys = key_states.new_zeros(rows, heads, self.owner.slots, width)
            self.values = value_states.new_zeros(rows, heads, self.owner.slots, value_states.shape[-1])
            self.is_initialized = True
        positions = self.owner.positions
        if positions.shape[1] == 1:
            rows_ = torch.arange(len(key_states), device=key_states.device)
            at = positions[:, 0].expand(len(key_states))
            self.keys[rows_, :, at] = key_states[:, :, 0]
            self.values[rows_, :, at] = value_states[:, :, 0]
        else:
            slots = slice(self.owner.reach - positions.shape[1], self.owner.reach)
            self.keys[:, :, slots] = key_states
            self.values[:, :, slots] = value_states
        return self.keys[:, :, : self.owner.reach], self.values[:, :, : self.owner.reach]


class Slots(Cache):
    """A cache in which a token's slot is its position.

    Args:
        n_layers: of the model.
        slots: the longest text it can hold, in tokens.

    Attributes:
        positions: of the tokens in the forward that runs now: [rows, 1], or [1, T] consecutive ones that all rows share.
        reach: how many slots that forward looks at.
    """

    def __init__(self, n_layers: int, slots: int):
        self.slots = slots
        self.positions = torch.zeros(1, 1, dtype=torch.long)
        self.reach = 0
        super().__init__(layers=[_Layer(self) for _ in range(n_layers)])

    def at(self, positions: Tensor, reach: int) -> None:
        """Say where the next forward's tokens stand, and one more than the last of these positions."""
        self.positions, self.reach = positions, reach

    @classmethod
    def gather(cls, sources: Sequence[tuple["Slots", Sequence[int]]]) -> "Slots":
        """A new cache of some rows of some caches, in order; all have the same slots."""
        first = sources[0][0]
        gathered = cls(len(first.layers), first.slots)
        picked = [(source, torch.tensor(rows, dtype=torch.long)) for source, rows in sources if len(rows)]
        for index, layer in enumerate(gathered.layers):
            for name in ("keys", "values"):
                tensors = [getattr(source.layers[index], name) for source, _ in picked]
                states = [tensor[rows.to(tensor.device)] for tensor, (_, rows) in zip(tensors, picked, strict=True)]
                setattr(layer, name, states[0] if len(states) == 1 else torch.cat(states))
            layer.is_initialized = True  # type: ignore[union-attr]
        return gathered


class RowBank(Bank):
    """A bank that gives every row of the batch its own edit, in any order and any mix.

    Args:
        edits: those the rows may choose from; training has ended for all of them.
    """

    def __init__(self, edits: Sequence[Edit]):
        super().__init__([_still(edit) for edit in edits])
        self._place = {original: place for place, original in enumerate(self.order)}
        self._rows = torch.zeros(0, dtype=torch.long)
        self._gathered: dict[tuple[str, int], Terms] = {}

    def seat(self, bank_state: BankState, edits: Sequence[int]) -> None:
        """Say which edit, by the caller's index, each row of the next forwards has."""
        self._rows = torch.tensor([self._place[index] for index in edits], dtype=torch.long)
        self._gathered = {}
        bank_state.active = len(edits) if any(self.edits[row].layers for row in self._rows.tolist()) else 0

    def stacked(self, point: str, layer: int, active: int, like: Tensor) -> Terms:
        """The terms of every row at a point of a layer, [rows, width] or [rows, k, width]."""
        if (point, layer) not in self._gathered:
            per_edit = super().stacked(point, layer, len(self.edits), like)
            rows = self._rows.to(like.device)
            self._gathered[point, layer] = Terms(
                **{name: None if value is None else value[rows] for name, value in vars(per_edit).items()}
            )
        return self._gathered[point, layer]


def _still(edit: Edit) -> Edit:
    """The edit with its terms as they are now, so that they are stacked once and not at every step."""
    layers = {}
    for layer in edit.layers:
        terms = edit.terms(layer)
        assert terms is not None, "a listed layer has terms"
        layers[layer] = Terms(**{name: None if value is None else value.detach() for name, value in vars(terms).items()})
    return Edit(edit.kind, edit.location, edit.layout, layers, edit.positions, edit.about)


class TokenReader:
    """Runs tokens at given positions against a cache; use inside its `attached` block."""

    def __init__(self, model: Model):
        self.model = model
        self._masks: dict[Window, Tensor] = {}

    @contextmanager
    def attached(self) -> Iterator["TokenReader"]:
        """Give each layer the mask of its own attention window, whatever the architecture passes on."""
        windows = self.model.windows
        handles = [
            layer.register_forward_pre_hook(self._hook(window), with_kwargs=True)
            for layer, window in zip(self.model.layers, windows, strict=True)
            if window != NO_WINDOW
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, window: Window) -> Any:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            mask = self._masks[window]

            def put(value: Any) -> Any:
                return mask if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-2:] == mask.shape[-2:] else value

            return tuple(put(value) for value in args), {key: put(value) for key, value in kwargs.items()}

        return before

    def _see(self, positions: Tensor, reach: int) -> None:
        """Additive masks [rows or 1, 1, T, reach]: a token sees the slots up to its own, as far back as the window goes."""
        slots = torch.arange(reach, device=positions.device)
        queries = positions[:, :, None]
        self._masks = {}
        for window in {NO_WINDOW, *self.model.windows}:
            allowed = (queries >= slots) & window.reaches(queries, slots)
            mask = torch.zeros(allowed.shape, dtype=self.model.dtype, device=positions.device)
            self._masks[window] = mask.masked_fill_(~allowed, float("-inf"))[:, None]

    def read(self, tokens: Tensor, start: int, cache: Slots) -> None:
        """Take in tokens [rows, T] that stand at positions start, start + 1, ... in every row."""
        reach = start + tokens.shape[1]
        positions = torch.arange(start, reach, device=tokens.device)[None]
        self._run(self.model.hf.base_model, tokens, positions, reach, cache)

    def next_logits(self, tokens: Tensor, positions: Sequence[int], cache: Slots) -> Tensor:
        """Logits [rows, vocabulary] in float32 of what follows one token a row, tokens [rows, 1]."""
        at = torch.tensor(positions, device=tokens.device)[:, None]
        logits: Tensor = self._run(self.model.hf, tokens, at, max(positions) + 1, cache).logits
        return logits[:, -1].float()

    def _run(self, module: Any, tokens: Tensor, positions: Tensor, reach: int, cache: Slots) -> Any:
        self._see(positions, reach)
        cache.at(positions, reach)
        placed = positions.expand(len(tokens), -1)
        return module(
            input_ids=tokens, attention_mask=self._masks[NO_WINDOW], position_ids=placed, past_key_values=cache, use_cache=True
        )
