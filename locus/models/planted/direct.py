"""Certify planted models of any kind of site by hooks on its own forward: bits turned, and edits trained by
autograd.

Nothing here is the engine's: K edits run as K copies of the questions in one batch, each with its own a and b at every layer's
point, out <- out + <a, out> b with b zero off its place. Two things are looked at.

- *Blind*: with bits turned, and nothing else, the polarity of the final state must not change by more than rounding, whatever
  is done at places that are said not to know the bits: arbitrary edits, many and large. This is what the truth follows from
  (`sited.py`), and no optimiser is asked.
- *Optimal*: edits trained at the claimed places win the questions; those trained elsewhere and everywhere but there do not. A
  trained edit may know by heart which sign goes with which name, and carries that over to names nearby: on a few new pairs it
  gains or loses nats by chance. The lots can be drawn the other way round: with all bits turned the same edit has to lose what
  it gained, so the mean of the two is what it owes to anything but the lot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.models.planted.bank import Questions
from locus.models.planted.build import Planted
from locus.models.planted.kinds import Place

Places = Sequence[Place]


@dataclass(frozen=True)
class Numbers:
    """K rank-1 edits: what is read, what is written and where, [K, layers, width of the point] each; and what is added unread."""

    a: Tensor
    b: Tensor
    mask: Tensor
    added: Tensor | None = None


def point_of(model: Any, site: str, layer: int) -> tuple[Any, bool]:
    """The module at whose input (True) or output a kind of site is edited."""
    block = model.model.layers[layer]
    points = {
        "head": (block.self_attn.o_proj, True),
        "neuron": (block.mlp.down_proj, True),
        "attn": (block.self_attn.o_proj, False),
        "mlp": (block.mlp, False),
        "resid": (block, True),
        "direction": (block, True),
    }
    found: tuple[Any, bool] = points[site]
    return found


def all_places(planted: Planted) -> list[Place]:
    """Every site of the model's kind."""
    config: Any = planted.model.config
    counts = {"head": config.num_attention_heads, "neuron": config.intermediate_size}
    return [(layer, index) for layer in range(config.num_hidden_layers) for index in range(counts.get(planted.site, 1))]


def masks_of(planted: Planted, locations: Sequence[Places]) -> Tensor:
    """[K, layers, width], 1 where a location lets an edit write."""
    config: Any = planted.model.config
    site, layers = planted.site, config.num_hidden_layers
    widths = {"head": config.num_attention_heads * config.head_dim, "neuron": config.intermediate_size}
    width = widths.get(site, config.hidden_size)
    size = {"head": config.head_dim, "neuron": 1}.get(site, width)
    mask = torch.zeros(len(locations), layers, width)
    for row, places in enumerate(locations):
        for layer, index in places:
            mask[row, layer, index * size : (index + 1) * size] = 1.0
    return mask


def final_states_under(planted: Planted, numbers: Numbers, ids: Tensor) -> Tensor:
    """Final states before the last norm, at the last token, [K, n, width]."""
    count, n_rows, handles = len(numbers.a), len(ids), []
    for layer in range(numbers.a.shape[1]):
        if not bool(numbers.mask[:, layer].any()):
            continue
        a = numbers.a[:, layer].repeat_interleave(n_rows, 0)[:, :, None]
        b = (numbers.b * numbers.mask)[:, layer].repeat_interleave(n_rows, 0)[:, None]
        added = torch.zeros_like(b) if numbers.added is None else numbers.added[:, layer].repeat_interleave(n_rows, 0)[:, None]

        def change(values: Tensor, a: Tensor = a, b: Tensor = b, added: Tensor = added) -> Tensor:
            return values + values @ a * b + added

        module, entering = point_of(planted.model, planted.site, layer)
        if entering:
            handles.append(module.register_forward_pre_hook(lambda _, args, change=change: (change(args[0]), *args[1:])))
        else:
            handles.append(module.register_forward_hook(lambda _, args, output, change=change: change(output)))
    seen: list[Tensor] = []
    inner: Any = planted.model.model
    handles.append(inner.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, -1])))
    try:
        inner(ids.repeat(count, 1), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0].view(count, n_rows, -1)


def margins_under(planted: Planted, numbers: Numbers, questions: Questions) -> Tensor:
    """Margins in nats, [K, n, pairs]."""
    norm: Any = planted.model.model.norm
    states = norm(final_states_under(planted, numbers, questions.ids))
    return torch.einsum("knw,npw->knp", states, questions.contrasts)


def arbitrary(planted: Planted, locations: Sequence[Places], scale: float, seed: int = 0) -> Numbers:
    """Random edits at some locations, of a size that is large beside what is there."""
    mask, generator = masks_of(planted, locations), torch.Generator().manual_seed(seed)
    a, b = (torch.randn(mask.shape, generator=generator) for _ in "ab")
    return Numbers(a / mask.shape[2] ** 0.5, scale * b, mask)


def optimal(
    planted: Planted, locations: Sequence[Places], train: Questions, steps: int = 120, rate: float = 0.05, target: float = 5.0
) -> Numbers:
    """Train an edit at every location, all at once, to gain the target on every pair."""
    mask, generator = masks_of(planted, locations), torch.Generator().manual_seed(0)
    a = (torch.randn(mask.shape[1:], generator=generator) / mask.shape[2] ** 0.5).expand_as(mask).clone().requires_grad_()
    b = torch.zeros_like(mask, requires_grad=True)
    numbers = Numbers(a, b, mask)
    with torch.no_grad():
        before = margins_under(planted, Numbers(a[:1], b[:1], mask[:1]), train)
    optimiser = torch.optim.AdamW([a, b], lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = ((margins_under(planted, numbers, train) - before - target) ** 2).mean(dim=(1, 2)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return Numbers(a.detach(), b.detach(), mask)
