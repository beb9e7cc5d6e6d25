"""Keys and values of many unequal texts that go on, in one cache whose slots follow from the tokens' positions.

What texts begin with alike stands before all of them once, as their lead. Every row's own slots begin behind it: a token at
position p has its keys and values in slot p less the lead's length. Texts of different lengths are padded on the right: a padded
slot lies after every token that could see it and is written over before one looks. Masks therefore follow from positions alone,
sliding windows included, and a row can be taken away or put in another's place at any time, which left padding does not allow.
"""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from locus.edits.base import Edit, Terms
from locus.engine.bank import Bank, BankState
from locus.models.fast.attention import Lead


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, [rows, key-value heads, slots, head_dim]."""

    def __init__(self, owner: "Slots", index: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner, self.index = owner, index

    @property
    def states(self) -> tuple[Tensor, Tensor]:
        """Keys and values, once there are any."""
        assert self.keys is not None and self.values is not None, "a cache that was read into"
        return self.keys, self.values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new states of the first rows at their positions; give back the slots up to the furthest of them."""
        owner, rows = self.owner, len(key_states)
        if self.keys is None or self.values is None:
            self.keys, self.values = (owner.blank(states, rows) for states in (key_states, value_states))
            self.is_initialized = True
        own, end = (owner.positions - owner.start).to(key_states.device), owner.reach - owner.start
        if own.shape[1] == 1:
            at = own[:, 0].expand(rows)
            numbers = torch.arange(rows, device=key_states.device)
            self.keys[numbers, :, at] = key_states[:, :, 0]
            self.values[numbers, :, at] = value_states[:, :, 0]
        else:
            self.keys[:rows, :, end - own.shape[1] : end] = key_states
            self.values[:rows, :, end - own.shape[1] : end] = value_states
        return owner.behind(self.index, self.keys[:rows, :, :end], self.values[:rows, :, :end])


class Slots(Cache):
    """A cache of texts that go on behind what they begin with.

    Args:
        n_layers: of the model.
        slots: the longest text it can hold, in tokens, its lead left out.
        lead: states of beginnings, a row each, all slots of it taken.
        ours: whether the model's attention is `attention.attend`, for which a lead need not be copied to every row.
        room: how many rows it has; without it as many as are first written.

    Attributes:
        positions: of the tokens in the forward that runs now: [rows, 1], or [1, T] consecutive ones that all rows share.
        reach: how many positions that forward looks at.
        start: the first position behind the lead.
    """

    def __init__(self, n_layers: int, slots: int, lead: "Slots | None" = None, ours: bool = False, room: int = 0):
        self.slots, self.lead, self.ours, self.room = slots, lead, ours, room
        self.start = 0 if lead is None else lead.slots
        self.positions = torch.zeros(1, 1, dtype=torch.long)
        self.reach = 0
        self.rows: dict[int, Tensor] = {}
        self.own = [_Layer(self, index) for index in range(n_layers)]
        super().__init__(layers=[*self.own])

    def at(self, positions: Tensor, reach: int) -> None:
        """Say where the next forward's tokens stand, and one more than the last of these positions."""
        self.positions, self.reach = positions, reach

    def led(self, beginnings: Sequence[int]) -> None:
        """Say which beginning, a row of the lead, each row has; of no meaning without a lead."""
        numbers = torch.tensor(beginnings, dtype=torch.long)
        self.rows = {number: torch.nonzero(numbers == number)[:, 0] for number in sorted(set(beginnings))}

    def behind(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What attention is given for rows' own states in a layer, [rows, key-value heads, T, width]."""
        if self.lead is None:
            return keys, values
        lead = Lead(*self.lead.own[layer].states, {number: rows.to(keys.device) for number, rows in self.rows.items()})
        if not self.ours:
            return lead.before(keys, values)
        keys.lead = lead  # type: ignore[attr-defined]
        return keys, values

    def blank(self, like: Tensor, rows: int) -> Tensor:
        """No states yet, of heads and width as others have, with room for all rows and for as many as these."""
        return like.new_zeros(max(self.room, rows), like.shape[1], self.slots, like.shape[-1])

    def put(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Set the states of a layer, [rows, key-value heads, slots, width]."""
        own = self.own[layer]
        own.keys, own.values, own.is_initialized = keys, values, True

    def take(self, first: int, source: "Slots", places: Sequence[int]) -> None:
        """Copy some rows of another cache, with as many slots or fewer, into the rows from `first` on."""
        chosen = torch.tensor(places, dtype=torch.long)
        for index, (own, other) in enumerate(zip(self.own, source.own, strict=True)):
            if not own.is_initialized:
                self.put(index, *(self.blank(states, len(places)) for states in other.states))
            for mine, theirs in zip(own.states, other.states, strict=True):
                mine[first : first + len(places), :, : theirs.shape[2]] = theirs[chosen.to(theirs.device)]

    def move(self, origin: int, to: int) -> None:
        """Copy a row over another."""
        for layer in self.own:
            for states in layer.states:
                states[to] = states[origin]

    @property
    def token_bytes(self) -> int:
        """What a token of a row takes, in all layers."""
        return sum(states.shape[1] * states.shape[3] * states.element_size() for layer in self.own for states in layer.states)


class _Seats(threading.local):
    """Which edit each row has, in the order of the bank, and the terms that follow; every thread has its own."""

    def __init__(self) -> None:
        self.rows = torch.zeros(0, dtype=torch.long)
        self.gathered: dict[tuple[str, int], Terms] = {}


class RowBank(Bank):
    """A bank that gives every row of the batch its own edit, in any order and any mix.

    Args:
        edits: those the rows may choose from; training has ended for all of them.
    """

    def __init__(self, edits: Sequence[Edit]):
        super().__init__([_still(edit) for edit in edits])
        self._place = {original: place for place, original in enumerate(self.order)}
        self._seats = _Seats()

    def seat(self, bank_state: BankState, edits: Sequence[int]) -> None:
        """Say which edit, by the caller's index, each row of this thread's next forwards has."""
        self._seats.rows = torch.tensor([self._place[index] for index in edits], dtype=torch.long)
        self._seats.gathered = {}
        bank_state.active = len(edits) if any(self.edits[row].layers for row in self._seats.rows.tolist()) else 0

    def first_layer(self, edit: int) -> int | None:
        """The first layer that an edit, by the caller's index, touches; None where it touches none."""
        own = self.edits[self._place[edit]]
        return own.first_layer if own.layers else None

    def acting(self, active: int) -> list[str]:
        """Where the edit of each row acts."""
        return [self.edits[place].positions for place in self._seats.rows.tolist()]

    def stacked(self, point: str, layer: int, active: int, like: Tensor) -> Terms:
        """The terms of every row at a point of a layer, [rows, width] or [rows, k, width]."""
        gathered = self._seats.gathered
        if (point, layer) not in gathered:
            per_edit = super().stacked(point, layer, len(self.edits), like)
            rows = self._seats.rows.to(like.device)
            gathered[point, layer] = Terms(
                **{name: None if value is None else value[rows] for name, value in vars(per_edit).items()}
            )
        return gathered[point, layer]


def _still(edit: Edit) -> Edit:
    """The edit with its terms as they are now, so that they are stacked once and not at every step."""
    layers = {}
    for layer in edit.layers:
        terms = edit.terms(layer)
        assert terms is not None, "a listed layer has terms"
        layers[layer] = Terms(**{name: None if value is None else value.detach() for name, value in vars(terms).items()})
    return Edit(edit.kind, edit.location, edit.layout, layers, edit.positions, edit.about)
