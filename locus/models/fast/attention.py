"""Attention over rows of question trees, a stretch of the row at a time.

A row holds several questions behind what they share (a chat preamble, a primer), each with its answers. A stretch of such a row
sees its own tokens and what leads to them, and nothing of the other questions. So scores are computed for a stretch against what
it sees, instead of for all pairs of tokens with most of them masked. Where a mask says nothing of stretches, this is
transformers' own SDPA attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.models.layout import setting
from locus.models.probe import tokens_of

NAME = "locus_stretches"  # in transformers' registry of attention functions
LENGTH = 64  # tokens of a stretch: a call costs, too
WORTH = 0.7  # share of all pairs above which a row is left whole
FEW = 256  # tokens seen, up to which plain products are quicker there and back


@dataclass(frozen=True)
class Lead:
    """Keys and values that stand before all others of a row, held once for all rows that begin alike.

    Attributes:
        keys: [beginnings, key-value heads, tokens, width]
        values: the same; its width may be another.
        rows: by beginning, the rows that have it.
    """

    keys: Tensor
    values: Tensor
    rows: dict[int, Tensor]

    def before(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of whole rows, from those of what follows, [rows, key-value heads, T, width]."""
        of_row = torch.zeros(len(keys), dtype=torch.long, device=keys.device)
        for number, rows in self.rows.items():
            of_row[rows] = number
        return torch.cat([self.keys[of_row], keys], dim=2), torch.cat([self.values[of_row], values], dim=2)


@dataclass(frozen=True)
class Stretches:
    """How a row falls apart: the length of each stretch, what it sees, and its additive mask over that."""

    lengths: list[int]
    keys: list[Tensor]
    masks: list[Tensor]


def cut(sees: npt.NDArray[np.bool_]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Stretches of a row as length and positions that it sees; empty where a row had better be left whole.

    Args:
        sees: [queries, keys], whether a query may see a key.
    """
    length = len(sees)
    count = max(1, round(length / LENGTH))
    bounds = [length * number // count for number in range(count + 1)]
    stretches = [(end - start, np.flatnonzero(sees[start:end].any(axis=0))) for start, end in pairwise(bounds)]
    pairs = sum(size * len(keys) for size, keys in stretches)
    return stretches if pairs < WORTH * sees.size else []


def attach(mask: Tensor, pieces: list[tuple[int, npt.NDArray[np.int64]]]) -> Tensor:
    """The same additive mask [1, 1, queries, keys], with those of its stretches beside it."""
    if pieces:
        lengths = [size for size, _ in pieces]
        keys_of = [torch.from_numpy(positions).to(mask.device) for _, positions in pieces]
        masks = [part.index_select(3, keys) for part, keys in zip(torch.split(mask, lengths, dim=2), keys_of, strict=True)]
        mask.stretches = Stretches(lengths, keys_of, masks)  # type: ignore[attr-defined]
    return mask


def narrowed(mask: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """An additive mask [rows, 1, T, T] of some queries and keys, in stretches again where that is worth it."""
    some = mask.index_select(2, queries).index_select(3, keys)
    return attach(some, cut((some[0, 0] == 0).cpu().numpy()) if len(some) == 1 else [])


def adopt(hf: Any) -> None:
    """Let a model that uses SDPA use this; any other, and one that then says something else, is left as it is."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if setting(hf.config, "_attn_implementation") != "sdpa":
        return
    tokens = tokens_of(hf)
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    with torch.no_grad():
        own_logits = hf(input_ids=tokens, use_cache=False).logits
        try:
            hf.set_attn_implementation(NAME)
            gap = (hf(input_ids=tokens, use_cache=False).logits - own_logits).abs().max()
        except Exception:  # whatever it is that an architecture does with the name of its attention
            gap = own_logits.new_tensor(torch.inf)
    if not float(gap) <= 1e-3 * max(1.0, float(own_logits.abs().max())):
        hf.set_attn_implementation("sdpa")


@contextmanager
def own(hf: Any) -> Iterator[None]:
    """A model's attention as it is without this, for comparisons."""
    ours = setting(hf.config, "_attn_implementation") == NAME
    if ours:
        hf.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if ours:
            hf.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Scaled dot-product attention as transformers asks for it; query, key, value [rows, heads, T, width of a head]."""
    lead: Lead | None = getattr(key, "lead", None)
    added = attention_mask is not None and attention_mask.dtype == query.dtype  # a mask of truth values is not to be added
    if attention_mask is not None and (lead is not None or (added and query.shape[2] == 1 and query.device.type == "cpu")):
        return behind(query, key, value, attention_mask, lead, kwargs.get("scaling")), None
    stretches: Stretches | None = getattr(attention_mask, "stretches", None)
    if stretches is None or attention_mask is None or query.shape[2:3] + key.shape[2:3] != attention_mask.shape[2:]:
        return _whole(module, query, key, value, attention_mask, **kwargs), None
    outputs = [
        _whole(module, queries, key.index_select(2, keys), value.index_select(2, keys), mask, **kwargs)
        for queries, keys, mask in zip(torch.split(query, stretches.lengths, dim=2), stretches.keys, stretches.masks, strict=True)
    ]
    return torch.cat(outputs, dim=1), None


def _whole(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> Tensor:
    """Attention of all queries to all keys, [rows, T, heads, width of a head]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    short = query.requires_grad and query.device.type == "cpu" and query.dtype == torch.float32 and key.shape[2] <= FEW
    added = mask is not None and mask.dtype == query.dtype and mask.shape == (1, 1, query.shape[2], key.shape[2])
    if short and added and mask is not None:
        return products(query, key, value, mask, kwargs.get("scaling"))
    output: Tensor = sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
    return output


def behind(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, lead: Lead | None = None, scaling: float | None = None
) -> Tensor:
    """Attention of rows that go on, by plain products: states that rows share are read once for all of them.

    Args:
        query: [rows, heads, T, width].
        key: [rows, key-value heads, S, width], of what each row has for itself.
        value: the same; its width may be another.
        mask: additive, [rows or 1, 1, T, C + S], of the C tokens of the lead first.
        lead: what stands before; without it, C is 0.
        scaling: of the scores; without it one over the root of the width.

    Returns:
        [rows, T, heads, width of a value].
    """
    rows, heads, length, width = query.shape
    shared = key.shape[1]
    asked = query.reshape(rows, shared, heads // shared * length, width)
    scores = asked @ key.transpose(2, 3)
    early = 0 if lead is None else lead.keys.shape[2]
    if lead is not None:
        scores = torch.cat([_by_beginning(asked, lead.keys.transpose(2, 3), lead.rows), scores], dim=-1)
    scores = scores.view(rows, shared, -1, length, scores.shape[-1]).mul_(width**-0.5 if scaling is None else scaling)
    weights = (scores + mask[:, :, None].to(scores.dtype)).softmax(dim=-1).view(rows, shared, -1, scores.shape[-1])
    output = weights[..., early:] @ value
    if lead is not None:
        output += _by_beginning(weights[..., :early], lead.values, lead.rows)
    return output.view(rows, heads, length, -1).transpose(1, 2).contiguous()


def _by_beginning(left: Tensor, right: Tensor, rows: dict[int, Tensor]) -> Tensor:
    """left [rows, heads, n, k] times what is each row's own of right, [beginnings, heads, k, m]."""
    _, heads, count, inner = left.shape
    outputs = []
    for number, chosen in rows.items():
        some = left if len(rows) == 1 else left[chosen]
        product = torch.bmm(some.transpose(0, 1).reshape(heads, -1, inner), right[number])
        outputs.append(product.view(heads, len(some), count, -1).transpose(0, 1))
    if len(rows) == 1:
        return outputs[0]
    joined = torch.cat(outputs)
    return torch.empty_like(joined).index_copy_(0, torch.cat(list(rows.values())), joined)


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None = None) -> Tensor:
    """Attention by plain batched products, for which query heads that share keys are one; [rows, T, heads, width of a head].

    Args:
        query: [rows, heads, T, width].
        key: [rows, key-value heads, S, width].
        value: the same; its width may be another.
        mask: additive, [1, 1, T, S].
        scaling: of the scores; without it one over the root of the width.
    """
    rows, heads, length, width = query.shape
    shared, n_keys = key.shape[1:3]
    alike = heads // shared * length
    scores = torch.baddbmm(
        mask[0].expand(heads // shared, length, n_keys).reshape(1, alike, n_keys),
        query.reshape(rows * shared, alike, width),
        key.reshape(rows * shared, n_keys, width).transpose(1, 2),
        alpha=width**-0.5 if scaling is None else scaling,
    )
    output = torch.bmm(scores.softmax(dim=-1), value.reshape(rows * shared, n_keys, -1))
    return output.view(rows, heads, length, -1).transpose(1, 2).contiguous()
