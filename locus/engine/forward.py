"""Run a row of question trees through the model, base or edited by a bank, and score only what is asked.

An edit whose first site is in layer l never changes what enters layer l. The rows of a bank's edits therefore join the
batch at their own first layer, from the base model's residual stream there: a ResidualCache holds it (or it is computed once for
the row). Vocabulary log-probs are taken only at positions that predict a scored token, in chunks, with the gradient formed
chunk by chunk in the forward, so the logits of a large vocabulary never exist whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from locus.engine import cost
from locus.engine.alone import read_texts, spread
from locus.engine.bank import Bank, BankState
from locus.engine.prefix import Prefix, Recorder, narrow_inputs
from locus.engine.trie import Bools, PackedRow, Targets
from locus.models.calls import LayerInputs
from locus.models.model import Model
from locus.models.shortcuts import LAST_MLP, PROMPTS, RESIDUALS
from locus.sites.positions import ANSWER

HEAD_CHUNK = 1 << 24  # logits held at once: 64 MiB of float32
PANEL = 1 << 20  # of them, on a CPU: 4 MiB, about what its caches hold


class ResidualCache(Protocol):
    """Somewhere the base model's residual stream can be had without running the model."""

    def residual(self, layer: int, row: PackedRow) -> Tensor | None:
        """[T, width] that enters a layer, or None where it is not held."""
        ...


@dataclass(frozen=True)
class Batch:
    """A row, how the layers are called for it, and what to score: made once, used every epoch by every edit.

    Attributes:
        row: of a tree.
        entry: how the layers are called for it; empty where the model is run whole.
        targets: what is scored.
    """

    row: PackedRow
    entry: LayerInputs
    targets: Targets


def layer_inputs(model: Model, row: PackedRow) -> LayerInputs:
    """How each layer is called for one row of a trie."""
    tokens, positions, sees = (torch.from_numpy(array)[None] for array in (row.tokens, row.positions, row.sees))
    return model.calls(tokens, positions, sees)


def prepare_row(model: Model, row: PackedRow, targets: Targets) -> Batch:
    """Make a row ready to run."""
    return Batch(row, layer_inputs(model, row) if model.trees else LayerInputs(torch.empty(0), []), targets)


def base(model: Model, prepared: Batch, watch: Callable[[int, Tensor], None] | None = None) -> Tensor:
    """The base model's residual stream after its last layer, [1, T, width]; or what enters the head of one that is run whole.

    Args:
        model: the model.
        prepared: the row.
        watch: called with (layer, residual entering it) on the way, if layers are run one by one.
    """
    hidden = prepared.entry.hidden
    with torch.no_grad():
        if not model.trees:
            return read_texts(model, prepared.row)
        for layer in range(model.layout.n_layers):
            if watch is not None:
                watch(layer, hidden)
            hidden = model.layer(layer, hidden, prepared.entry)
    return hidden


def edited(
    model: Model,
    batch: Batch,
    bank: Bank,
    bank_state: BankState,
    residual_cache: ResidualCache | None = None,
    note: cost.Note = lambda edits, work: None,
) -> Tensor:
    """The last layer's output for every edit of an attached bank, [edits in bank order, T, width], where a token is predicted.

    Elsewhere nothing asks for it, and the last layer's MLP is left out.

    Args:
        model: the model the bank is attached to.
        batch: the row.
        bank: the edits. What leads to the answers is run once for all of them, as in the base model, if that is all it can be.
        bank_state: what `bank.attach` gave.
        residual_cache: where base residuals are held; without one the base row is run alongside, once for the bank.
        note: told the layers that are run for each edit, by its number in the caller's order.
    """
    if not model.trees:
        bank_state.active = len(bank)
        note_alone(model, batch, bank, note)
        return read_texts(model, batch.row, bank_state)
    residual_cache = residual_cache if RESIDUALS not in model.off else None
    below = _BaseRow(model, batch, bank_state, residual_cache)
    apart = leads(model, batch.row, bank)
    lead = _SharedPrefix(model, batch, bank_state, below.entering(bank.starts[0])) if apart else None
    entry, past = batch.entry if lead is None else lead.answers, None
    predictors = torch.from_numpy(batch.targets.predictors)
    places = (predictors if lead is None else torch.searchsorted(lead.answer_mask, predictors)).to(model.end)
    bank_state.where = None  # of answers run apart, all are run
    if lead is None or any(edit.positions != ANSWER for edit in bank.edits):
        kept = None if lead is None else lead.answer_mask
        bank_state.where = {name: _told(mask, kept) for name, mask in batch.row.masks.items()}
    hidden: Tensor | None = None
    bank_state.active = 0
    for layer in range(bank.starts[0], model.layout.n_layers):
        joining = bank.starts.count(layer)
        if joining:
            entering = below.entering(layer)
            rows = (entering if lead is None else entering[lead.answer_mask])[None].expand(joining, -1, -1).contiguous()
            hidden = rows if hidden is None else torch.cat([hidden.to(rows.device), rows])
            bank_state.active += joining
        assert hidden is not None, "the first layer has joining edits"
        if lead is not None:
            past = lead.past(layer, bank_state.active)
        bank_state.asked = places if layer == model.layout.n_layers - 1 and LAST_MLP not in model.off else None
        hidden = model.layer(layer, hidden, entry, past)
    bank_state.where = bank_state.asked = None
    _charge(model, batch, bank, below.without, note)
    assert hidden is not None, "a bank has at least one edit"
    return hidden if lead is None else lead.joined(hidden)


def _told(mask: Bools, kept: Tensor | None) -> Tensor:
    """Positions of a row as a bank is told them, of those that are kept."""
    where = torch.from_numpy(mask).float()
    return where if kept is None else where[kept]


def leads(model: Model, row: PackedRow, bank: Bank) -> bool:
    """Whether what leads to a row's answers is run apart: the same for all edits of a bank, since they act on answers only."""
    shared = model.trees and model.parts.past is not None and PROMPTS not in model.off
    return shared and len(bank) > 1 and bank.answers_only and not row.answer_mask.all()


def note_alone(model: Model, prepared: Batch, bank: Bank, note: cost.Note) -> None:
    """Charge each edit all texts of a row, each through all layers."""
    texts = spread(prepared.row)
    for edit in bank.order:
        note([edit], cost.forward(texts, model.layout.n_layers))


class _BaseRow:
    """The base model's residual stream of a row: held, or computed on the way up, once for the bank.

    Attributes:
        without: layers at which it was not held.
    """

    def __init__(self, model: Model, batch: Batch, bank_state: BankState, residual_cache: ResidualCache | None):
        self.model, self.prepared, self.bank_state, self.residual_cache = model, batch, bank_state, residual_cache
        self.hidden, self.at = batch.entry.hidden, 0
        self.without: list[int] = []

    def entering(self, layer: int) -> Tensor:
        """[T, width]; asked for in the order of the layers."""
        hidden = self.residual_cache.residual(layer, self.prepared.row) if self.residual_cache is not None else None
        if hidden is None:
            with _silenced(self.bank_state), torch.no_grad():
                for lower in range(self.at, layer):
                    self.hidden = self.model.layer(lower, self.hidden, self.prepared.entry)
            self.at, hidden = layer, self.hidden[0]
            self.without += [] if layer in self.without else [layer]
        return hidden.to(self.model.device_of(layer), self.model.dtype)


class _SharedPrefix:
    """What leads to a row's answers, as the base model runs it.

    Attributes:
        zone: the row's positions at or after a last prompt token.
        answers: how the layers are called for these.
    """

    def __init__(self, model: Model, batch: Batch, bank_state: BankState, entering: Tensor):
        answer_mask = torch.from_numpy(batch.row.answer_mask)
        before, self.answer_mask = torch.nonzero(~answer_mask)[:, 0], torch.nonzero(answer_mask)[:, 0]
        self.model, self.bank_state, self.before = model, bank_state, before
        self.answers = narrow_inputs(batch.entry, self.answer_mask, torch.cat([before, self.answer_mask]))
        self.entry = narrow_inputs(batch.entry, before, before)
        self.hidden = entering[None, before]

    def past(self, layer: int, edits: int) -> Prefix:
        """Run a layer; its keys and values, for the answers under so many edits."""
        recorder = Recorder()
        if layer == self.model.layout.n_layers - 1 and LAST_MLP not in self.model.off:
            self.bank_state.asked = torch.empty(0, dtype=torch.long, device=self.model.end)  # answers predict, this does not
        with _silenced(self.bank_state), torch.no_grad():
            self.hidden = self.model.layer(layer, self.hidden, self.entry, recorder)
        return Prefix(len(self.before), recorder.states, edits)

    def joined(self, answers: Tensor) -> Tensor:
        """The whole row under every edit, [edits, T, width]."""
        places = torch.argsort(torch.cat([self.before, self.answer_mask])).to(answers.device)
        return torch.cat([self.hidden.expand(len(answers), -1, -1), answers], dim=1)[:, places]


def _charge(model: Model, batch: Batch, bank: Bank, without: list[int], note: cost.Note) -> None:
    """Each edit's own layers to it; the base row's, up to the joining layers that were not held, to all that needed them."""
    row, predictors, n_layers = batch.row, len(batch.targets.predictors), model.layout.n_layers
    apart = leads(model, row, bank)
    for edit, start in zip(bank.order, bank.starts, strict=True):
        reused = 0 if start in without else start
        note([edit], cost.forward(row, n_layers - start, reused=reused, answers=apart, predictors=predictors))
    if apart:
        note(bank.order, cost.lead(row, n_layers - bank.starts[0]))
    for lower, layer in pairwise([0, *without]):
        edits = [edit for edit, start in zip(bank.order, bank.starts, strict=True) if start in without and start >= layer]
        shared = cost.forward(row, layer - lower)
        note(edits, replace(shared, tokens=0))


class _silenced:
    """Run base rows while a bank is attached: hooks see no active edit and pass their input on."""

    def __init__(self, bank_state: BankState):
        self.bank_state = bank_state

    def __enter__(self) -> None:
        self.kept = self.bank_state.active
        self.bank_state.active = 0

    def __exit__(self, *_: object) -> None:
        self.bank_state.active = self.kept


def token_logprobs(model: Model, hidden: Tensor, targets: Targets) -> Tensor:
    """Log-probs (nats) of every scored token, [edits, scored tokens], differentiable in `hidden` [edits, T, width]."""
    places = torch.from_numpy(targets.predictors).to(hidden.device)
    normed = model.norm(hidden[:, places])
    edits, positions, width = normed.shape
    predictor = torch.from_numpy(targets.predictor).to(normed.device)
    token = torch.from_numpy(targets.token).to(normed.device)
    offsets = torch.arange(edits, device=normed.device)[:, None] * positions
    flat: Tensor = _LogProbs.apply(  # type: ignore[no-untyped-call]
        normed.reshape(-1, width), (predictor[None] + offsets).reshape(-1), token.repeat(edits), model
    )
    return flat.view(edits, -1)


def sequence_logprobs(model: Model, hidden: Tensor, targets: Targets) -> Tensor:
    """Summed answer log-probs (nats), [edits, sequences of the targets]."""
    tokens = token_logprobs(model, hidden, targets)
    sums = torch.zeros(len(tokens), len(targets.sequences), device=tokens.device)
    return sums.index_add(1, torch.from_numpy(targets.sequence).to(tokens.device), tokens)


class _LogProbs(torch.autograd.Function):
    """log softmax(head(h))[token] for given (row, token) pairs, a panel of the vocabulary at a time.

    With z = s W h (soft-capped: c tanh(z / c)), d log p_t / d h = s (W_t f_t - W^T (p * f)), f the cap's slope (1 without a cap)
    and s the model's own scale of logits.
    Each panel's logits are used up while they are at hand: for the scored tokens in it, the sum of exponentials, and the second
    term, both relative to the largest logit so far. Only [rows, width] is kept for the backward.
    """

    @staticmethod
    def forward(ctx: Any, normed: Tensor, rows: Tensor, tokens: Tensor, model: Model) -> Tensor:
        weight: Tensor = model.head.weight  # type: ignore[assignment]
        needs_means, device = ctx.needs_input_grad[0], normed.device
        order = torch.argsort(tokens, stable=True)
        size = max(1, HEAD_CHUNK // len(normed))
        if device.type == "cpu":  # what a cache holds is quicker, unless it is too narrow to be a matrix
            size = min(size, max(1024, PANEL // len(normed)))
        edges = [*range(0, len(weight), size), len(weight)]
        bounds = torch.searchsorted(tokens[order], torch.tensor(edges, device=device)).tolist()
        token_logits, slopes = torch.empty(len(rows), device=device), torch.ones(len(rows), device=device)
        top = torch.full((len(normed), 1), -torch.inf, device=device)
        total = torch.zeros_like(top)
        means = torch.zeros(normed.shape, device=device) if needs_means else None
        for (start, end), (first, last) in zip(pairwise(edges), pairwise(bounds), strict=True):
            entries = order[first:last]
            logits = model.logits_of_normed(normed, slice(start, end))
            token_logits[entries] = logits[rows[entries], tokens[entries] - start]
            slope = 1 - (logits / model.softcap) ** 2 if model.softcap is not None and needs_means else None
            if slope is not None:
                slopes[entries] = slope[rows[entries], tokens[entries] - start]
            higher = torch.maximum(top, logits.amax(dim=-1, keepdim=True))
            shrunk, top = (top - higher).exp_(), higher
            terms = logits.sub_(top).exp_()
            total = total.mul_(shrunk).add_(terms.sum(dim=-1, keepdim=True))
            if means is not None:
                terms = terms if slope is None else terms.mul_(slope)
                means = means.mul_(shrunk).add_(terms.to(weight.dtype) @ weight[start:end])
        ctx.model, ctx.shape = model, normed.shape
        ctx.save_for_backward(rows, tokens, slopes, *([means.div_(total).to(normed.dtype)] if means is not None else []))
        return token_logits - (total.log() + top)[rows, 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        grad = grads[0]
        rows, tokens, slopes, means = ctx.saved_tensors
        weight: Tensor = ctx.model.head.weight
        per_row = torch.zeros(ctx.shape[0], device=grad.device).index_add(0, rows, grad)
        grad_normed = -per_row[:, None] * means.float()
        grad_normed.index_add_(0, rows, (grad * slopes)[:, None] * weight[tokens].float())
        grad_normed = grad_normed if ctx.model.scale == 1.0 else grad_normed * ctx.model.scale
        return grad_normed.to(means.dtype), None, None, None
