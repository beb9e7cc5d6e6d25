"""What a probe shows, read: which tensors are the same, which maps are linear, which heads feed them.

Numbers are compared as they are: what is handed on unchanged is the same to the last bit.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from locus.models.packed import is_packed
from locus.models.probe import Attention, Call
from locus.models.spread import value


class Unknown(Exception):
    """What was looked for and what was seen instead."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are tensors of the same numbers."""
    if one is other:
        return isinstance(one, Tensor)
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape or one.device != other.device:
        return False
    return one.dtype == other.dtype and torch.equal(one, other)


def linear_input(call: Call) -> Tensor | None:
    """What enters a linear map; None if the call is of none."""
    weight, inputs = getattr(call.module, "weight", None), call.first
    if is_packed(call.module):
        return inputs if inputs is not None and inputs.shape[-1] == call.module.in_features else None
    plain = isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point()
    return inputs if plain and inputs is not None and inputs.shape[-1] in weight.shape else None  # type: ignore[union-attr]


def heads_of(one: Attention, features: int, path: str) -> tuple[int, int]:
    """How many heads feed a projection and how wide each is. Where heads are joined in pairs, a pair is one."""
    said = f"looked for {one.n_heads} heads in the {features} features that enter {path}"
    if one.d_value is None:
        if features % one.n_heads:
            raise Unknown(said)
        return one.n_heads, features // one.n_heads
    heads, left = divmod(features, one.d_value)
    if left or not heads or one.n_heads % heads:
        raise Unknown(f"{said}, and saw that each says {one.d_value}")
    return heads, one.d_value


def is_transposed(call: Call, inputs: Tensor, path: str) -> bool:
    """Whether a linear map's weight is stored as [input, output], from what it makes of its input."""
    weight, bias = value(call.module, "weight"), value(call.module, "bias")
    result = call.result
    if next(call.module.children(), None) is not None or is_packed(
        call.module
    ):  # it wraps a linear map, with an adapter beside it
        return False
    assert result is not None and isinstance(weight, Tensor), "a linear map"
    given = (result if bias is None else result - bias).reshape(-1, result.shape[-1]).float()
    rows = inputs.reshape(-1, inputs.shape[-1]).float()
    allowed = 0.05 if inputs.dtype != torch.float32 else 1e-3
    for transposed in (False, True):
        matrix = weight.float() if transposed else weight.float().T
        if matrix.shape == (rows.shape[1], given.shape[1]):
            gap = (rows @ matrix - given).abs().max() / given.abs().max().clamp_min(1e-12)
            if float(gap) <= allowed:
                return transposed
    raise Unknown(f"looked for a linear map at {path}, and saw that it gives something else than its matrix and bias say")


def place_of(call: Call, value: Tensor | None) -> int | str | None:
    """Where among a call's arguments a tensor is."""
    places: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
    for place, one in places:
        if value is not None and same(one, value):
            return place
    return None


def factor_of(value: Tensor, wanted: Tensor | None) -> float | None:
    """By which a tensor must be multiplied to be another, 1 if they are the same; None if there is no such number."""
    if wanted is None or value.shape[-1] != wanted.shape[-1] or value.numel() < wanted.numel():
        return None
    value = value.reshape(-1, value.shape[-1])[-len(wanted.reshape(-1, wanted.shape[-1])) :].double()
    wanted = wanted.reshape(-1, wanted.shape[-1]).to(value.device).double()
    if bool((value == wanted).all()):
        return 1.0
    factor = float((value * wanted).sum() / value.square().sum().clamp_min(1e-30))
    near = bool(torch.allclose(value * factor, wanted, rtol=1e-5, atol=float(wanted.abs().max()) * 1e-6))
    return factor if near and factor > 0 else None


def as_written(value: float) -> float:
    """A number as it was written, as far as rounding in float32 lets one see."""
    shorter = (float(f"{value:.{digits}g}") for digits in range(1, 7))
    return next((one for one in shorter if abs(one - value) <= 4e-7 * abs(value)), value)


def general_path(paths: Sequence[str]) -> str:
    """Paths that differ in a number, as one."""
    columns = list(zip(*(path.split(".") for path in paths), strict=False))
    if len({path.count(".") for path in paths}) > 1:
        return paths[0]
    return ".".join(parts[0] if len(set(parts)) == 1 else "*" for parts in columns)


def in_words(error: Exception) -> str:
    """An error of somebody else's in a few words."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:140]}"
