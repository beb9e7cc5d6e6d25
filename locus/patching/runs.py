"""Clean, corrupted and patched forwards over batches of prompts.

The clean and the corrupted run are made once, with what they hold at every site. A patched run starts at the first
layer it patches, from the stored residual stream; many patches of many examples share one forward, and only the answer
position goes through the vocabulary head. Nothing is averaged: every value is kept by example.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from locus.engine.prefix import Prefix, Recorder, States, cut, n_shared_columns
from locus.errors import UserError
from locus.models import inputs
from locus.models.calls import LayerInputs
from locus.models.model import Model
from locus.models.shortcuts import LEFT, TREES
from locus.patching.component import HOOKED, Component, Kind, Patch, attention_input

Side = Literal["right", "left"]
BUDGET = 4096  # tokens in one patched forward: beyond it the CPU is no faster and the memory only grows


@dataclass(frozen=True)
class PairBatch:
    """Prompts as rows of T tokens, with how the layers are called for them.

    Attributes:
        tokens: [rows, T].
        real: [rows, T], False on padding.
        entry: what enters the first layer, [rows, T, width], and the calls; shared by all rows where nothing is padded.
        spans: by row, positions by name, padding not counted.
        side: of the padding.
    """

    tokens: Tensor
    real: Tensor
    entry: LayerInputs
    spans: tuple[dict[str, tuple[int, ...]], ...]
    side: Side = "right"

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def starts(self) -> Tensor:
        """[rows], column of the first real token."""
        return self.real.int().argmax(dim=1)

    @property
    def ends(self) -> Tensor:
        """[rows], column of the last real token, which predicts the answer."""
        return self.starts + self.real.sum(dim=1) - 1

    def where(self, position: int | str | None) -> Tensor | None:
        """[rows, T] of the columns meant, or None for all.

        Raises:
            UserError: if a row has no such position.
        """
        if position is None:
            return None
        mask = torch.zeros_like(self.real)
        for row, (start, end) in enumerate(zip(self.starts.tolist(), self.ends.tolist(), strict=True)):
            length = end - start + 1
            if isinstance(position, str):
                places = self.spans[row].get(position, ())
            else:
                places = (position + length if position < 0 else position,)
            if not places or min(places) < 0 or max(places) >= length:
                raise UserError(
                    "a token position that every prompt has, or a span that every pair names",
                    f"{position!r} for a prompt of {length} tokens with spans {sorted(self.spans[row])}",
                    "Leave the position out, or choose one that all prompts share.",
                )
            mask[row, [start + place for place in places]] = True
        return mask


def batch_of(
    model: Model,
    prompts: Sequence[Sequence[int]],
    spans: Sequence[dict[str, tuple[int, ...]]] | None = None,
    side: Side = "right",
) -> PairBatch:
    """Lay prompts out as a batch; shorter ones are padded on one side, with positions that count real tokens only.

    Args:
        model: the model.
        prompts: token ids.
        spans: by prompt, positions by name.
        side: of the padding.

    Raises:
        UserError: if there is no prompt, one is empty, or one is longer than the model's context.
    """
    lengths = [len(prompt) for prompt in prompts]
    if not lengths or min(lengths) == 0 or max(lengths) > model.context:
        raise UserError(
            f"prompts of 1 to {model.context} tokens", f"lengths {sorted(set(lengths))}", "Shorten or remove the prompts."
        )
    if not model.trees:
        remedy = "Audit it instead, which runs a model whole."
        raise UserError("a model whose layers can be run one by one, to patch it", f"{model.name}: {model.off[TREES]}", remedy)
    if side == "left" and LEFT in model.off:
        raise UserError("a side on which this model can be padded", f"left, where {model.off[LEFT]}", "Pad on the right.")
    longest = max(lengths)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    real = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt) if side == "left" else 0
        tokens[row, start : start + len(prompt)] = torch.tensor(prompt)
        real[row, start : start + len(prompt)] = True
    named_spans = tuple(dict(spans[row]) if spans is not None else {} for row in range(len(prompts)))
    # One mask and one set of positions serve all rows where nothing is padded.
    unpadded = real[:1] if bool(real.all()) else real
    positions = (unpadded.long().cumsum(dim=1) - 1).clamp(min=0)
    sees = torch.ones(longest, longest, dtype=torch.bool).tril()[None] & unpadded[:, None, :]
    return PairBatch(tokens.to(model.device), real.to(model.device), model.calls(tokens, positions, sees), named_spans, side)


@dataclass(frozen=True)
class Run:
    """What one forward held.

    Attributes:
        batch: its prompts.
        residual: by layer, [rows, T, width] that enters it; one more for the last layer's output.
        values: by (kind, layer), [rows, T, what the hooked module takes (heads) or gives (all others)].
        logits: [rows, vocabulary] at the answer position, float32; None for values that no forward gave (ablations).
        states: by layer, the keys and values of all tokens; empty for values that no forward gave.
    """

    batch: PairBatch
    residual: list[Tensor]
    values: dict[tuple[Kind, int], Tensor]
    logits: Tensor | None
    states: States = field(default_factory=dict)

    def value(self, kind: Kind, layer: int) -> Tensor:
        """What is held at a site."""
        return self.residual[layer] if kind == "residual" else self.values[kind, layer]


def _module(model: Model, kind: Kind, layer: int) -> nn.Module:
    if kind in ("query", "key", "value"):
        return inputs.attention_input(model, attention_input(kind), layer)[0]
    module: nn.Module | None = (model.mlps if kind == "mlp" else model.projections)[layer]
    if module is None:
        what = "an MLP as one module" if kind == "mlp" else "attention"
        raise UserError(f"a layer with {what}", f"layer {layer} of {model.name}, in which none was seen", "Patch other sites.")
    return module


@contextmanager
def _hooked(module: nn.Module, kind: Kind, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass a module's input (heads) or output (attention, MLP) through a function."""

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(args[0]), *args[1:])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = module.register_forward_pre_hook(before) if kind == "head" else module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def run_batch(model: Model, batch: PairBatch, kinds: Sequence[Kind] = (), hidden: Tensor | None = None) -> Run:
    """One forward with what it holds at every site of some kinds.

    Args:
        model: the model.
        batch: the prompts.
        kinds: of sites whose values are kept (the residual stream always is).
        hidden: [rows, T, width] to put in place of the embeddings (Gaussian noise).
    """
    with torch.no_grad():
        return traced(model, batch, kinds, batch.entry.hidden if hidden is None else hidden)


def traced(model: Model, batch: PairBatch, kinds: Sequence[Kind], hidden: Tensor, prefix: Prefix | None = None) -> Run:
    """See `run`; what it holds can be differentiated if gradients are on.

    With a prefix, `hidden` and all that is held are of the tokens after it.
    """
    start = 0 if prefix is None else prefix.length
    entry, recorder = cut(batch.entry, start), Recorder()
    values: dict[tuple[Kind, int], Tensor] = {}
    residual = [hidden]
    for layer in range(model.layout.n_layers):
        with _recording(model, layer, kinds, values):
            hidden = model.layer(layer, hidden, entry, prefix or recorder)
        residual.append(hidden)
    return Run(batch, residual, values, answer_logits(model, hidden, batch.ends - start), recorder.states)


@contextmanager
def _recording(model: Model, layer: int, kinds: Sequence[Kind], values: dict[tuple[Kind, int], Tensor]) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in (kind for kind in kinds if kind != "residual"):

            def keep(value: Tensor, kind: Kind = kind) -> Tensor:
                values[kind, layer] = value
                return value

            stack.enter_context(_hooked(_module(model, kind, layer), kind, keep))
        yield


def answer_logits(model: Model, hidden: Tensor, ends: Tensor) -> Tensor:
    """[rows, vocabulary] at the last real token of each row of [rows, T, width]."""
    return model.logits(hidden[torch.arange(len(hidden), device=hidden.device), ends])


def patched(
    model: Model,
    base: Run,
    source: Run,
    patches: Sequence[Patch],
    metric: Callable[[Tensor], Tensor],
    budget: int = BUDGET,
    short: bool = True,
) -> Tensor:
    """Run `base` with some of its components as they are in `source`, once for every patch.

    Denoising: base is the corrupted run and source the clean one; noising: the other way round.

    Args:
        model: the model.
        base: the run that is changed.
        source: where the values come from; prompts of the same lengths.
        patches: each a set of components that are patched together.
        metric: from logits [patches, rows, vocabulary] to what is kept of each patch and row, [patches, rows, ...].
        budget: tokens in one forward.
        short: start at the first token at which the two runs differ.

    Returns:
        [patches, rows, ...], in the order of `patches`.

    Raises:
        UserError: if a component is not of this model, or the two runs differ in shape.
    """
    _check(model, base, source, patches)
    rows, length = base.batch.tokens.shape
    prefix = shared_prefix(base, source) if short else None
    start = 0 if prefix is None else prefix.length
    most = max(1, budget // (rows * (length - start)))
    firsts = [min((component.layer for component in patch), default=model.layout.n_layers) for patch in patches]
    order = sorted(range(len(patches)), key=lambda index: (firsts[index], index))
    results: list[Tensor | None] = [None] * len(patches)
    at = 0
    while at < len(order):
        first = firsts[order[at]]
        chunk = [index for index in order[at : at + most] if firsts[index] == first]
        logits = _forward(model, (base, source), [patches[index] for index in chunk], first, prefix)
        for index, values in zip(chunk, metric(logits.view(len(chunk), rows, -1)), strict=True):
            results[index] = values
        at += len(chunk)
    values_of_patches = [values for values in results if values is not None]
    return torch.stack(values_of_patches) if values_of_patches else torch.empty(0, rows)


def shared_prefix(base: Run, source: Run) -> Prefix | None:
    """The columns before the first at which two runs differ; None if there is none, or no forward gave one of the runs."""
    if base.logits is None or source.logits is None:
        return None  # values that no forward gave may differ anywhere, whatever the tokens are
    length = n_shared_columns(base.residual[0], source.residual[0], base.batch.ends)
    return Prefix(length, base.states) if length else None


def _check(model: Model, base: Run, source: Run, patches: Sequence[Patch]) -> None:
    if base.batch.tokens.shape != source.batch.tokens.shape or not torch.equal(base.batch.real, source.batch.real):
        raise UserError(
            "two runs over prompts of the same lengths",
            f"{tuple(base.batch.tokens.shape)} and {tuple(source.batch.tokens.shape)} tokens, or other padding",
            "Lay both out with the same side of padding, pair by pair.",
        )
    layout = model.layout
    for component in {component for patch in patches for component in patch}:
        if not component.exists(layout):
            raise UserError(
                f"components of a model with {layout} and {layout.n_kv_heads} key-value heads",
                str(component),
                "Layers and heads are counted from zero.",
            )


def _forward(model: Model, runs: tuple[Run, Run], patches: Sequence[Patch], first: int, prefix: Prefix | None) -> Tensor:
    """Logits [patches * rows, vocabulary] of patches whose first layer is `first`."""
    (base, source), count = runs, len(patches)
    start = 0 if prefix is None else prefix.length
    past = None if prefix is None else replace(prefix, copies=count)
    hidden = base.residual[first][:, start:].repeat(count, 1, 1)
    entry = _tiled(cut(base.batch.entry, start), count, len(base.batch))
    sites: dict[tuple[Kind, int], list[tuple[int, Component]]] = {}
    for index, patch in enumerate(patches):
        for component in patch:
            sites.setdefault((component.kind, component.layer), []).append((index, component))

    def change(kind: Kind, layer: int) -> Callable[[Tensor], Tensor]:
        return lambda value: _replaced(model, value, source.value(kind, layer)[:, start:], base.batch, sites[kind, layer])

    with torch.no_grad():
        for layer in range(first, model.layout.n_layers + 1):
            if ("residual", layer) in sites:
                hidden = change("residual", layer)(hidden)
            if layer == model.layout.n_layers:
                break
            with ExitStack() as stack:
                for kind in HOOKED:
                    if (kind, layer) in sites:
                        stack.enter_context(_hooked(_module(model, kind, layer), kind, change(kind, layer)))
                hidden = model.layer(layer, hidden, entry, past)
        return answer_logits(model, hidden, base.batch.ends.repeat(count) - start)


def _replaced(model: Model, value: Tensor, source: Tensor, batch: PairBatch, sites: Sequence[tuple[int, Component]]) -> Tensor:
    """[patches * rows, T, features] with each patch's components as in `source` [rows, T, features]; T counts from the end."""
    replaced = value.clone()
    grouped = replaced.view(-1, len(batch), *value.shape[1:])
    for index, component in sites:
        features = component.features(model)
        mask = batch.where(component.position)
        new = source[..., features]
        if mask is not None:
            new = torch.where(mask[:, -value.shape[1] :, None], new, grouped[index][..., features])
        grouped[index][..., features] = new
    return replaced


def _tiled(entry: LayerInputs, count: int, rows: int) -> LayerInputs:
    """The calls for `count` copies of a padded batch; calls that all rows share are left as they are."""

    def tile(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(tile(element) for element in value)
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == rows and rows > 1:
            return value.repeat(count, *[1] * (value.ndim - 1))
        return value

    if count == 1:
        return entry
    calls = [(tuple(tile(v) for v in args), {key: tile(v) for key, v in kwargs.items()}) for args, kwargs in entry.calls]
    return LayerInputs(entry.hidden, calls)
