"""Run tokens at given positions against a cache of slots: texts to begin with, then a token a row.

Texts that several edits read are the base model's up to each edit's first layer, and are run there once: an edit's rows join
where it begins, as in training.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from locus.engine.bank import BankState
from locus.engine.prefix import cut
from locus.engine.slots import RowBank, Slots
from locus.models.calls import LayerInputs
from locus.models.fast import attention
from locus.models.layout import setting
from locus.models.model import Model
from locus.models.shortcuts import PROMPTS, RESIDUALS
from locus.models.windows import NO_WINDOW, Window


class _Seen(threading.local):
    """The masks of the forward that runs now; every thread has its own."""

    def __init__(self) -> None:
        self.masks: dict[Window, Tensor] = {}


class TokenReader:
    """Runs tokens at given positions against a cache; use inside its `attached` block.

    Args:
        model: the model.
        bank: the edits, attached to it.
        bank_state: what `bank.attach` gave.
    """

    def __init__(self, model: Model, bank: RowBank, bank_state: BankState):
        self.model, self.bank, self.bank_state = model, bank, bank_state
        leads, self.joins = model.speaks or (True, True)
        self.ours = leads and setting(model.hf.config, "_attn_implementation") == attention.NAME
        self._seen = _Seen()

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
            mask = self._seen.masks.get(window)
            if mask is None:  # the layers are called with their own
                return args, kwargs

            def put(value: Any) -> Any:
                return mask if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-2:] == mask.shape[-2:] else value

            return tuple(put(value) for value in args), {key: put(value) for key, value in kwargs.items()}

        return before

    def _see(self, positions: Tensor, reach: int) -> None:
        """Additive masks [rows or 1, 1, T, reach]: a token sees the positions up to its own, as far back as the window goes."""
        slots = torch.arange(reach, device=positions.device)
        queries = positions[:, :, None]
        self._seen.masks = {}
        for window in {NO_WINDOW, *self.model.windows}:
            allowed = (queries >= slots) & window.reaches(queries, slots)
            mask = torch.zeros(allowed.shape, dtype=self.model.dtype, device=positions.device)
            self._seen.masks[window] = mask.masked_fill_(~allowed, float("-inf"))[:, None]

    def texts(self, texts: Sequence[Sequence[int]], begin: Sequence[int] = ()) -> "Texts":
        """Make texts ready to be read behind what they all begin with; not while another thread runs the model.

        Args:
            texts: tokens of each, at least one of some.
            begin: the tokens before.
        """
        length = max(map(len, texts))
        rows = [[*text, *[0] * (length - len(text))] for text in texts]
        tokens = torch.tensor(rows, device=self.model.device)
        self._seen.masks = {}
        if not self.layered:
            return Texts(tokens, len(begin), None)
        whole = torch.tensor([[*begin, *row] for row in rows])
        sees = torch.ones(1, whole.shape[1], whole.shape[1], dtype=torch.bool).tril()
        entry = self.model.calls(whole, torch.arange(whole.shape[1])[None], sees)
        return Texts(tokens, len(begin), cut(entry, len(begin)))

    def read(self, texts: "Texts", rows: Sequence[tuple[int, int]], base: int, lead: "Beginning | None" = None) -> Slots:
        """Take in texts, each under some edits.

        Args:
            texts: as `texts` gives them.
            rows: edit and text of every row of the cache that comes of it.
            base: the edit that changes nothing.
            lead: what all texts begin with.

        Returns:
            The rows' states, padded on the right to the longest text.
        """
        length = texts.tokens.shape[1]
        cache = Slots(self.model.layout.n_layers, length, lead.cache if lead else None, self.ours)
        positions = torch.arange(texts.start, texts.start + length, device=texts.tokens.device)[None]
        cache.at(positions, texts.start + length)
        if texts.entry is not None:
            self._seen.masks = {}
            _Joining(self, cache, rows, base, lead).run(texts.entry)
            return cache
        self._see(positions, texts.start + length)
        self.bank.seat(self.bank_state, [edit for edit, _ in rows])
        cache.led([lead.rows[edit] for edit, _ in rows] if lead else [])
        self._run(self.model.hf.base_model, texts.tokens[[text for _, text in rows]], positions, cache)
        return cache

    @property
    def layered(self) -> bool:
        """Whether layers can be run one by one against states of earlier tokens, from the base model's stream on."""
        model = self.model
        return self.joins and model.trees and model.parts.past is not None and not {RESIDUALS, PROMPTS} & model.off.keys()

    def next_logits(self, tokens: Tensor, positions: Sequence[int], cache: Slots) -> Tensor:
        """Logits [rows, vocabulary] in float32 of what follows one token a row, tokens [rows, 1]."""
        at = torch.tensor(positions, device=tokens.device)[:, None]
        self._see(at, max(positions) + 1)
        cache.at(at, max(positions) + 1)
        logits: Tensor = self._run(self.model.hf, tokens, at, cache).logits
        return logits[:, -1].float()

    def _run(self, module: Any, tokens: Tensor, positions: Tensor, cache: Slots) -> Any:
        placed = positions.expand(len(tokens), -1)
        mask = self._seen.masks[NO_WINDOW]
        return module(input_ids=tokens, attention_mask=mask, position_ids=placed, past_key_values=cache, use_cache=True)


@dataclass(frozen=True)
class Texts:
    """Texts ready to be read.

    Attributes:
        tokens: [texts, T], padded on the right.
        start: the position of the first.
        entry: what enters the first layer and how layers are called; None where the model is run whole.
    """

    tokens: Tensor
    start: int
    entry: LayerInputs | None


@dataclass(frozen=True)
class Beginning:
    """What texts begin with, under every edit that reads it otherwise.

    Attributes:
        tokens: of it.
        cache: its states, a row for each such edit.
        rows: by edit, its row there.
    """

    tokens: tuple[int, ...]
    cache: Slots
    rows: dict[int, int]


@dataclass
class _Joining:
    """Texts on their way up the layers: the base model's rows, and behind these those of the edits that have begun.

    It stands in for the layers' cache.

    Attributes:
        reader: whose model it is.
        cache: takes the rows' states.
        rows: edit and text of every row of the cache.
        base: the edit that changes nothing.
        lead: what stands before.
    """

    reader: TokenReader
    cache: Slots
    rows: Sequence[tuple[int, int]]
    base: int
    lead: Beginning | None

    def run(self, entry: LayerInputs) -> None:
        """Run the texts that enter through all layers, under every row's edit."""
        model, hidden = self.reader.model, entry.hidden
        begins = [self.reader.bank.first_layer(edit) for edit, _ in self.rows]
        last = -1 if None in begins else max(layer for layer in begins if layer is not None)
        active: list[int] = []  # rows of the cache that have rows of their own
        below = len(hidden)  # rows of the base model
        for layer in range(model.layout.n_layers):
            joining = [row for row, own in enumerate(begins) if own == layer]
            if joining:
                hidden = torch.cat([hidden, hidden[[self.rows[row][1] for row in joining]]])
                active += joining
            if layer == last:
                hidden, below = hidden[below:], 0
            if joining or layer == 0:
                self._seat(active, below)
            hidden = model.layer(layer, hidden, entry, self)

    def _seat(self, active: Sequence[int], below: int) -> None:
        """Say which edit and beginning each row has, and from which row each row of the cache takes its states."""
        edits = [self.base] * below + [self.rows[row][0] for row in active]
        self.reader.bank.seat(self.reader.bank_state, edits)
        self.cache.led([self.lead.rows[edit] for edit in edits] if self.lead else [])
        place = {row: below + number for number, row in enumerate(active)}
        self.origin = torch.tensor([place.get(row, text) for row, (_, text) in enumerate(self.rows)])

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep the rows' states of a layer, and give its attention those of the rows that run."""
        origin = self.origin.to(keys.device)
        self.cache.put(layer, keys[origin], values[origin])
        return self.cache.behind(layer, keys, values)
