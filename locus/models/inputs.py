"""What makes a layer's queries, keys and values, and which of its outputs are which head's: found by differentiating.

A layer is run once with what every linear map before its attention gives cut off from what it was made of. The gradient of one
head's query (key, value) then lies in the outputs of the map that makes it, in the features that are this head's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from locus.errors import UserError
from locus.models.fast import attention
from locus.models.layout import INPUTS, AttentionInput
from locus.models.model import Model
from locus.models.probe import Attention, recorded, tokens_of


@dataclass(frozen=True)
class AttentionInputs:
    """By input, the module that makes it and its heads' features; nothing where no one module does."""

    made: dict[AttentionInput, tuple[nn.Module, list[slice]]]

    def of(self, kind: AttentionInput, layer: int) -> tuple[nn.Module, list[slice]]:
        """What makes one input.

        Raises:
            UserError: if no one module does.
        """
        if kind not in self.made:
            raise UserError(
                f"one linear map that makes the {kind} of every head of layer {layer}",
                "several, or one whose outputs the heads do not have in turn",
                "Patch heads, or whole attention outputs.",
            )
        return self.made[kind]


def attention_input(model: Model, kind: AttentionInput, layer: int) -> tuple[nn.Module, list[slice]]:
    """What makes a layer's queries, keys or values, and which of its outputs are each head's.

    Raises:
        UserError: if no one module does.
    """
    if layer not in model.inputs:
        model.inputs[layer] = find_inputs(model, layer)
    found: AttentionInputs = model.inputs[layer]
    return found.of(kind, layer)


def find_inputs(model: Model, layer: int) -> AttentionInputs:
    """What makes a layer's queries, keys and values."""
    if not model.trees or not model.layout.heads[layer]:
        return AttentionInputs({})
    tokens = tokens_of(model.hf)
    count = tokens.shape[1]
    sees = torch.ones(1, count, count, dtype=torch.bool).tril()
    with attention.own(model.hf):
        entry = model.calls(tokens.cpu(), torch.arange(count)[None], sees)
        with torch.no_grad():
            hidden = entry.hidden
            for lower in range(layer):
                hidden = model.layer(lower, hidden, entry)
        cut, seen = _run(model, layer, hidden, entry)
    if seen is None:
        return AttentionInputs({})
    found: dict[AttentionInput, tuple[nn.Module, list[slice]]] = {}
    for kind in INPUTS:
        with torch.enable_grad():  # whoever asks may have switched it off
            made = _made(getattr(seen, kind), model.layout.layer(layer).n_kv_heads if kind != "query" else seen.n_heads, cut)
        if made is not None:
            found[kind] = made
    return AttentionInputs(found)


def _run(model: Model, layer: int, hidden: Tensor, entry: Any) -> tuple[list[tuple[nn.Module, Tensor]], Attention | None]:
    """A layer's linear maps with what they gave, cut off, and its last attention."""
    cut: list[tuple[nn.Module, Tensor]] = []

    def leaf(module: nn.Module, _: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        cut.append((module, output.detach().requires_grad_(True)))
        return cut[-1][1]

    linear = [one for one in model.layers[layer].modules() if getattr(getattr(one, "weight", None), "ndim", 0) == 2]
    handles = [one.register_forward_hook(leaf) for one in linear]
    try:
        with torch.enable_grad(), recorded(model.layers[layer], hidden.shape[1]) as seen:
            model.layer(layer, hidden, entry)
    finally:
        for handle in handles:
            handle.remove()
    return cut, seen.attentions[-1] if seen.attentions else None


def _made(states: Tensor | None, n_heads: int, cut: list[tuple[nn.Module, Tensor]]) -> tuple[nn.Module, list[slice]] | None:
    """The one map that makes states [1, heads, T, width], and the features of each of so many heads; None if there is none."""
    if states is None or not states.requires_grad:
        return None
    states = states.reshape(-1, *states.shape[-2:])
    width, each = states.shape[-1], len(states) // n_heads
    modules, slices = set[nn.Module](), list[slice]()
    weights = torch.linspace(0.5, 1.5, width, device=states.device, dtype=states.dtype)
    for head in range(n_heads):
        told = (states[head * each] * weights).sum()
        grads = torch.autograd.grad(told, [output for _, output in cut], retain_graph=True, allow_unused=True)
        reached = [(module, grad) for (module, _), grad in zip(cut, grads, strict=True) if grad is not None and bool(grad.any())]
        if len(reached) != 1 or reached[0][1].shape[-1] % width:
            return None
        module, grad = reached[0]
        modules.add(module)
        block = int(grad.abs().reshape(-1, grad.shape[-1] // width, width).sum(dim=(0, 2)).argmax())
        slices.append(slice(block * width, (block + 1) * width))
    if len(modules) != 1 or len({one.start for one in slices}) != n_heads:
        return None
    return modules.pop(), slices
