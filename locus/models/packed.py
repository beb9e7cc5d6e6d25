"""Linear maps whose matrices are packed in few bits, as they are in memory: what they are is seen by what they make of inputs.

Edits act on what enters a map, beside the packed matrix, and are exact against what the packed model says. Where a map rounds its
inputs, too (as in eight bits), what it makes of a sum is not the sum of what it makes of the parts, and no gradient is that of
the forward: such a model is not taken.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

LARGE, SMALL = 4.0, 4.0 / 300  # inputs beside one another; in eight bits the small ones are rounded away
LOST = {
    torch.float32: 0.01
}  # share of what small inputs make that may be lost beside a large one; else half, for bfloat16 is short
ROWS = 256  # of the identity matrix at once


def is_packed(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a linear map's matrix is not there as plain numbers."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) and not (isinstance(weight, Tensor) and weight.is_floating_point() and weight.ndim == 2)


def matrix(module: nn.Linear, like: Tensor) -> Tensor:
    """[outputs, inputs] of a packed map, from what it makes of the identity; device and dtype are those of `like`."""
    parts = []
    with torch.no_grad():
        nothing = module(like.new_zeros(1, 1, module.in_features))
        for start in range(0, module.in_features, ROWS):
            rows = torch.eye(module.in_features, device=like.device, dtype=like.dtype)[None, start : start + ROWS]
            parts.append((module(rows) - nothing)[0])
    return torch.cat(parts).T


def in_the_way(hf: nn.Module) -> str:
    """What of a model's packed tensors stands in the way of an audit, in words; "" where nothing does."""
    draw = torch.Generator().manual_seed(0)
    for path, module in hf.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or (isinstance(weight, Tensor) and weight.is_floating_point()):
            continue
        if not isinstance(weight, Tensor) or not isinstance(module, nn.Linear):
            return f"{weight.dtype if isinstance(weight, Tensor) else type(module).__name__} at {path}"
        dtype = next((one.dtype for one in hf.parameters() if one.is_floating_point()), torch.float32)
        large, small = torch.zeros(2, 1, 1, module.in_features, device=weight.device, dtype=dtype)
        signs = torch.randint(0, 2, small.shape, generator=draw).to(small) * 2 - 1
        large[..., 0], small[..., 1:] = LARGE, SMALL * signs[..., 1:]
        with torch.no_grad():
            nothing = module(torch.zeros_like(small)).float()
            alone, beside = module(small).float() - nothing, module(large + small).float() - module(large).float()
        if not float((beside - alone).norm()) <= LOST.get(dtype, 0.5) * float(alone.norm()):
            return f"the inputs of {path} are rounded, too"
    return ""
