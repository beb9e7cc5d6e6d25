"""Clean, corrupted and patched forwards over batches of prompts.

The clean and the corrupted run are made once, with what they hold at every site. A patched run starts at the first
layer it patches, from the stored residual stream; many patches of many examples share one forward, and only the answer
position goes through the vocabulary head. Nothing is averaged: every value is kept by example.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from locus.errors import UserError
from locus.model import Entry, Model

Kind = Literal["head", "attention", "mlp", "residual"]
Side = Literal["right", "left"]
BUDGET = 4096  # tokens in one patched forward: beyond it the CPU is no faster and the memory only grows


@dataclass(frozen=True)
class Component:
    """What is patched: one head, an attention or MLP output, or the residual stream that enters a layer.

    Attributes:
        kind: "head" (a query head's slice of the output projection's input), "attention" (the projection's output),
            "mlp" (the block's output) or "residual" (what enters the layer; layer = n_layers is the last output).
            Outputs are taken before a post-norm, where a family has one: whole vectors are replaced, so it is the same.
        layer: zero-based.
        head: only of a head.
        position: None for all, a token position (negative from the end), or the name of a span.
    """

    kind: Kind
    layer: int
    head: int | None = None
    position: int | str | None = None

    def __post_init__(self) -> None:
        assert (self.kind == "head") == (self.head is not None), "a head has a head index, and nothing else has"

    def __str__(self) -> str:
        name = f"{self.layer}.{self.head}" if self.kind == "head" else f"{self.kind} {self.layer}"
        return name if self.position is None else f"{name}@{self.position}"


Patch = tuple[Component, ...]


@dataclass(frozen=True)
class Batch:
    """Prompts as rows of T tokens, with how the layers are called for them.

    Attributes:
        tokens: [rows, T].
        real: [rows, T], False on padding.
        entry: what enters the first layer, [rows, T, width], and the calls; shared by all rows where nothing is padded.
        spans: by row, positions by name, padding not counted.
    """

    tokens: Tensor
    real: Tensor
    entry: Entry
    spans: tuple[dict[str, tuple[int, ...]], ...]

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
) -> Batch:
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
    longest = max(lengths)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    real = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt) if side == "left" else 0
        tokens[row, start : start + len(prompt)] = torch.tensor(prompt)
        real[row, start : start + len(prompt)] = True
    named = tuple(dict(spans[row]) if spans is not None else {} for row in range(len(prompts)))
    return Batch(tokens.to(model.device), real.to(model.device), _entry(model, tokens, real), named)


def _entry(model: Model, tokens: Tensor, real: Tensor) -> Entry:
    """Ask the model how it calls its layers; one mask and one set of positions serve all rows where nothing is padded."""
    kept = real[:1] if bool(real.all()) else real
    positions = (kept.long().cumsum(dim=1) - 1).clamp(min=0)
    sees = torch.ones(kept.shape[1], kept.shape[1], dtype=torch.bool).tril()[None] & kept[:, None, :]
    distance = positions[:, :, None] - positions[:, None, :]
    # A padded query that saw nothing would be NaN; it sees itself, and nothing real sees it.
    itself = torch.eye(kept.shape[1], dtype=torch.bool)[None]
    masks: dict[int | None, Tensor] = {}
    for window in {None, *model.windows}:
        allowed = (sees if window is None else sees & (distance < window)) | itself
        mask = torch.zeros(allowed.shape, dtype=model.dtype).masked_fill_(~allowed, float("-inf"))
        masks[window] = mask[:, None].to(model.device)
    embedded: list[Tensor] = []
    handle = model.norm.register_forward_pre_hook(lambda _, args: embedded.append(args[0]))
    backbone: Any = model.hf.base_model
    try:
        with model._bypassed() as calls, torch.no_grad():
            backbone(
                input_ids=tokens.to(model.device),
                attention_mask=masks[None],
                position_ids=positions.to(model.device),
                use_cache=False,
            )
    finally:
        handle.remove()
    placed = []
    for (args, kwargs), window in zip(calls, model.windows, strict=True):

        def put(value: Any, mask: Tensor = masks[window]) -> Any:
            return mask if isinstance(value, Tensor) and value.ndim == 4 else value

        placed.append((tuple(put(value) for value in args), {key: put(value) for key, value in kwargs.items()}))
    return Entry(embedded[0], placed)


@dataclass(frozen=True)
class Run:
    """What one forward held.

    Attributes:
        batch: its prompts.
        residual: by layer, [rows, T, width] that enters it; one more for the last layer's output.
        values: by (kind, layer), [rows, T, features or width] for heads, attention and MLP outputs.
        logits: [rows, vocabulary] at the answer position, float32; None for values that no forward gave (ablations).
    """

    batch: Batch
    residual: list[Tensor]
    values: dict[tuple[Kind, int], Tensor]
    logits: Tensor | None

    def value(self, kind: Kind, layer: int) -> Tensor:
        """What is held at a site."""
        return self.residual[layer] if kind == "residual" else self.values[kind, layer]


def _module(model: Model, kind: Kind, layer: int) -> nn.Module:
    return model.layers[layer].get_submodule("mlp") if kind == "mlp" else model.projections[layer]


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


def run(model: Model, batch: Batch, kinds: Sequence[Kind] = ("head", "attention", "mlp"), hidden: Tensor | None = None) -> Run:
    """One forward with what it holds at every site of some kinds.

    Args:
        model: the model.
        batch: the prompts.
        kinds: of sites whose values are kept (the residual stream always is).
        hidden: [rows, T, width] to put in place of the embeddings (Gaussian noise).
    """
    values: dict[tuple[Kind, int], Tensor] = {}
    hidden = batch.entry.hidden if hidden is None else hidden
    residual = [hidden]
    with torch.no_grad():
        for layer in range(model.anatomy.n_layers):
            with _recording(model, layer, kinds, values):
                hidden = model.layer(layer, hidden, batch.entry)
            residual.append(hidden)
        logits = answer_logits(model, hidden, batch.ends)
    return Run(batch, residual, values, logits)


@contextmanager
def _recording(model: Model, layer: int, kinds: Sequence[Kind], values: dict[tuple[Kind, int], Tensor]) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in kinds:
            if kind == "residual":
                continue

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
    read: Callable[[Tensor], Tensor],
    budget: int = BUDGET,
) -> Tensor:
    """Run `base` with some of its components as they are in `source`, once for every patch.

    Denoising: base is the corrupted run and source the clean one; noising: the other way round.

    Args:
        model: the model.
        base: the run that is changed.
        source: where the values come from; prompts of the same lengths.
        patches: each a set of components that are patched together.
        read: from logits [patches, rows, vocabulary] to a value per patch and row, [patches, rows].
        budget: tokens in one forward.

    Returns:
        [patches, rows], in the order of `patches`.

    Raises:
        UserError: if a component is not of this model, or the two runs differ in shape.
    """
    _check(model, base, source, patches)
    rows, length = base.batch.tokens.shape
    most = max(1, budget // (rows * length))
    firsts = [min((component.layer for component in patch), default=model.anatomy.n_layers) for patch in patches]
    order = sorted(range(len(patches)), key=lambda index: (firsts[index], index))
    results: list[Tensor | None] = [None] * len(patches)
    at = 0
    while at < len(order):
        first = firsts[order[at]]
        chunk = [index for index in order[at : at + most] if firsts[index] == first]
        logits = _forward(model, base, source, [patches[index] for index in chunk], first)
        for index, values in zip(chunk, read(logits.view(len(chunk), rows, -1)), strict=True):
            results[index] = values
        at += len(chunk)
    found = [values for values in results if values is not None]
    return torch.stack(found) if found else torch.empty(0, rows)


def _check(model: Model, base: Run, source: Run, patches: Sequence[Patch]) -> None:
    if base.batch.tokens.shape != source.batch.tokens.shape or not torch.equal(base.batch.real, source.batch.real):
        raise UserError(
            "two runs over prompts of the same lengths",
            f"{tuple(base.batch.tokens.shape)} and {tuple(source.batch.tokens.shape)} tokens, or other padding",
            "Lay both out with the same side of padding, pair by pair.",
        )
    anatomy = model.anatomy
    for component in {component for patch in patches for component in patch}:
        last = anatomy.n_layers if component.kind == "residual" else anatomy.n_layers - 1
        if not 0 <= component.layer <= last or not 0 <= (component.head or 0) < anatomy.n_heads:
            raise UserError(
                f"components of a model with {anatomy.n_layers} layers of {anatomy.n_heads} query heads",
                str(component),
                "Layers and heads are counted from zero.",
            )


def _forward(model: Model, base: Run, source: Run, patches: Sequence[Patch], first: int) -> Tensor:
    """Logits [patches * rows, vocabulary] of patches whose first layer is `first`."""
    count, rows = len(patches), len(base.batch)
    hidden = base.residual[first].repeat(count, 1, 1)
    entry = _tiled(base.batch.entry, count, rows)
    sites: dict[tuple[Kind, int], list[tuple[int, Component]]] = {}
    for index, patch in enumerate(patches):
        for component in patch:
            sites.setdefault((component.kind, component.layer), []).append((index, component))

    def change(kind: Kind, layer: int) -> Callable[[Tensor], Tensor]:
        return lambda value: _replaced(model, value, source.value(kind, layer), base.batch, sites[kind, layer])

    with torch.no_grad():
        for layer in range(first, model.anatomy.n_layers + 1):
            if ("residual", layer) in sites:
                hidden = change("residual", layer)(hidden)
            if layer == model.anatomy.n_layers:
                break
            with ExitStack() as stack:
                kinds: tuple[Kind, ...] = ("head", "attention", "mlp")
                for kind in kinds:
                    if (kind, layer) in sites:
                        stack.enter_context(_hooked(_module(model, kind, layer), kind, change(kind, layer)))
                hidden = model.layer(layer, hidden, entry)
        return answer_logits(model, hidden, base.batch.ends.repeat(count))


def _replaced(model: Model, value: Tensor, source: Tensor, batch: Batch, sites: Sequence[tuple[int, Component]]) -> Tensor:
    """[patches * rows, T, features] with each patch's components as in `source` [rows, T, features]."""
    out = value.clone()
    grouped = out.view(-1, len(batch), *value.shape[1:])
    for index, component in sites:
        features = slice(None) if component.head is None else model.anatomy.slice(component.head)
        mask = batch.where(component.position)
        new = source[..., features]
        if mask is not None:
            new = torch.where(mask[..., None], new, grouped[index][..., features])
        grouped[index][..., features] = new
    return out


def _tiled(entry: Entry, count: int, rows: int) -> Entry:
    """The calls for `count` copies of a padded batch; calls that all rows share are left as they are."""

    def tile(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(tile(part) for part in value)
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == rows and rows > 1:
            return value.repeat(count, *[1] * (value.ndim - 1))
        return value

    if count == 1:
        return entry
    calls = [(tuple(tile(v) for v in args), {key: tile(v) for key, v in kwargs.items()}) for args, kwargs in entry.calls]
    return Entry(entry.hidden, calls)
