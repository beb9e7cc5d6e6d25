"""K edits of one model in one forward.

Rows are grouped by edit; at each point of a layer the terms of all edits are stacked and applied by one batched product. Edits
are ordered by the first layer they touch and join the batch there: below it an edit has no rows, since it changes
nothing. Rows never mix, so each edit's outputs and gradients are those it would have alone.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locus.edits.base import PAIRED, TERMS, Edit, Terms
from locus.models.model import Model
from locus.models.points import POINTS
from locus.sites.positions import ALL, ANSWER, LAST


class BankState(threading.local):
    """The state of an attached bank; every thread that runs the model has its own.

    Attributes:
        active: how many edits, in bank order, have rows in the batch now.
        where: None where edits act at every token; or, by name of some positions, these as [T] or [rows, T] of 0 and 1: an edit
            acts at its own.
        pending: within a layer, the scalars <read, o>, k a position, and what they add to what the map behind the point gives.
        asked: None, or the positions at which the last layer's MLP is asked for; elsewhere it is left out, and says 0.
        length: of the rows of that MLP.
    """

    def __init__(self, active: int):
        self.active = active
        self.where: Mapping[str, Tensor] | None = None
        self.pending: tuple[Tensor, Tensor] | None = None
        self.asked: Tensor | None = None
        self.length = 0


class Bank:
    """K edits, kept in the order of their first layer.

    Args:
        edits: in the order in which the caller wants results.

    Attributes:
        edits: sorted by first layer.
        order: for each sorted edit, its index in the caller's order.
        starts: first layer of each sorted edit.
    """

    def __init__(self, edits: Sequence[Edit]):
        assert edits, "a bank needs at least one edit"
        self.order = sorted(range(len(edits)), key=lambda index: (edits[index].first_layer, index))
        self.edits = [edits[index] for index in self.order]
        self.starts = [edit.first_layer for edit in self.edits]
        self.points = sorted({edit.point for edit in edits})
        self._stacks: dict[tuple[str, int, int], Terms] = {}

    def __len__(self) -> int:
        return len(self.edits)

    def restore_order(self, values: Tensor) -> Tensor:
        """Put the first dimension back into the caller's order."""
        restored = torch.empty_like(values)
        restored[self.order] = values
        return restored

    def stacked(self, point: str, layer: int, active: int, like: Tensor) -> Terms:
        """The terms of the first `active` edits at a point of a layer, stacked to [active, width], or [active, k, width] with k
        the highest of their ranks; identity where absent."""
        key = (point, layer, active)
        if key in self._stacks:
            return self._stacks[key]
        per_edit = [(edit.terms(layer) if edit.point == point else None) or Terms() for edit in self.edits[:active]]
        stack: dict[str, Tensor | None] = {}
        for name in TERMS:
            tensors = [getattr(terms, name) for terms in per_edit]
            shapes = [tensor.shape for tensor in tensors if tensor is not None]
            if not shapes:
                stack[name] = None
                continue
            shape = max(shapes)
            blank = torch.ones(shape) if name == "keep" else torch.zeros(shape)
            filled = [blank if tensor is None else _tall(tensor, shape[0]) if name in PAIRED else tensor for tensor in tensors]
            stack[name] = torch.stack([tensor.to(like.device) for tensor in filled])
        terms = Terms(**stack)
        if not any(edit.trainable for edit in self.edits):
            self._stacks[key] = terms
        return terms

    @property
    def answers_only(self) -> bool:
        """Whether no edit changes anything before a last prompt token."""
        return all(edit.positions in (ANSWER, LAST) for edit in self.edits)

    def touches(self, point: str, layer: int) -> bool:
        """Whether any edit changes what is at a point of a layer."""
        return any(edit.point == point and edit.terms(layer) is not None for edit in self.edits)

    @contextmanager
    def attach(self, model: Model) -> Iterator[BankState]:
        """Hook the bank into the model; the batch must hold the same number of rows for every active edit, edit by edit."""
        bank_state = BankState(active=len(self))
        # Narrowed first: what an MLP says is whole again when an edit of it looks at it.
        handles = _narrowed(model.mlps[-1], bank_state) if model.mlps[-1] is not None else []
        for point in self.points:
            for layer in filter(partial(self.touches, point), range(model.layout.n_layers)):
                handles += self._hooks(model, point, layer, bank_state)
        try:
            yield bank_state
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, model: Model, point: str, layer: int, bank_state: BankState) -> list[RemovableHandle]:
        def change(o: Tensor) -> Tensor:
            if bank_state.active == 0:
                return o
            edited, scalar, out = self._apply(point, layer, o, bank_state)
            bank_state.pending = (scalar, out) if scalar is not None and out is not None else None
            return edited

        def behind(output: Tensor) -> Tensor:
            if bank_state.pending is None:
                return output
            (scalar, out), bank_state.pending = bank_state.pending, None
            added = torch.bmm(scalar, out.to(scalar.dtype))
            return output + added.view(output.shape).to(output.dtype)

        own = [model.attach(point, layer, change)]
        return [*own, model.attach_behind(point, layer, behind)] if POINTS[point].has_map else own

    def _apply(self, point: str, layer: int, o: Tensor, bank_state: BankState) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The edited o, and the scalars <read, o> with what it adds behind the map (None where no edit does so)."""
        rows, length, features = o.shape
        active = bank_state.active
        assert rows % active == 0, f"{rows} rows cannot be shared evenly by {active} edits"
        terms = self.stacked(point, layer, active, o)
        grouped = o.reshape(active, rows // active * length, features)
        inputs = grouped.float()
        answer_mask = self._zone(active, rows, length, bank_state, o)
        edited = inputs
        if terms.keep is not None:
            keep = terms.keep[:, None, :]
            edited = edited * (keep if answer_mask is None else 1 + (keep - 1) * answer_mask)
        if terms.shift is not None:
            shift = terms.shift[:, None, :]
            edited = edited + (shift if answer_mask is None else shift * answer_mask)
        scalar = None
        if terms.read is not None:
            scalar = torch.bmm(inputs, _columns(terms.read))
            scalar = scalar if answer_mask is None else scalar * answer_mask
            if terms.write is not None:
                edited = torch.baddbmm(edited, scalar, terms.write)
        return edited.view(o.shape).to(o.dtype), scalar, terms.out

    def _zone(self, active: int, rows: int, length: int, bank_state: BankState, like: Tensor) -> Tensor | None:
        """[active, positions, 1] of 0 and 1, or None where every edit acts at every position."""
        at = self.acting(active)
        limited = sorted({one for one in at if one != ALL})
        if bank_state.where is None or not limited:
            return None
        zone = torch.ones(active, rows // active * length, 1, device=like.device)
        for name in limited:
            where = bank_state.where[name].to(like.device, torch.float32)
            if bank_state.asked is not None and where.shape[-1] != length:  # within an MLP that runs at some positions only
                where = where[..., bank_state.asked]
            where = where.expand(rows, length).reshape(active, -1, 1)
            only = torch.tensor([one == name for one in at], device=like.device)[:, None, None]
            zone = torch.where(only, where, zone)
        return zone

    def acting(self, active: int) -> list[str]:
        """Where each edit that has rows acts."""
        return [edit.positions for edit in self.edits[:active]]


def _tall(rows: Tensor, count: int) -> Tensor:
    """As many rows as asked for, the last of them zero."""
    return rows if len(rows) == count else F.pad(rows, (0, 0, 0, count - len(rows)))


def _columns(rows: Tensor) -> Tensor:
    """[edits, width, k] of [edits, k, width]; a single row is laid out as a column, by which its sums are taken in its order."""
    return rows.reshape(len(rows), -1, 1) if rows.shape[1] == 1 else rows.mT


def _narrowed(mlp: nn.Module, bank_state: BankState) -> list[RemovableHandle]:
    """Have an MLP run at the positions that a session asks for only."""

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        bank_state.length = args[0].shape[1]
        return args if bank_state.asked is None else (args[0][:, bank_state.asked], *args[1:])

    def after(_: nn.Module, __: tuple[Tensor, ...], output: Any) -> Any:
        if bank_state.asked is None:
            return output
        if isinstance(output, tuple):  # what comes beside it (where a token was sent) is not asked for
            return (after(_, __, output[0]), *output[1:])
        padded = output.new_zeros(len(output), bank_state.length, output.shape[-1])
        return padded.index_copy(1, bank_state.asked, output)

    return [mlp.register_forward_pre_hook(before), mlp.register_forward_hook(after)]
