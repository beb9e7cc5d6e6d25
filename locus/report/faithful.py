"""Whether what is exported says what the edited model says, tried on this very model before anything is written."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from locus.edits.base import Edit
from locus.engine.bank import Bank
from locus.errors import UserError
from locus.models.fast import attention, norms
from locus.models.model import Model
from locus.models.probe import tokens_of
from locus.sites.positions import ALL, ANSWER, words

LENGTH = 24  # tokens of the text on which the two are compared
ROUNDING = 1e-4  # how far apart logits may be, as a share of the largest: the same sums in another order
PART = 0.1  # and where numbers are short, as a share of what the edit changes
NOISE = 2  # and as a multiple of what rounding within the model changes


def hooked(model: Model, tokens: Tensor, hooks: Mapping[nn.Module, Callable[..., Any]]) -> Tensor:
    """Logits of a model as transformers has it, for tokens [1, T], while hooks change what some modules give."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        logits: Tensor = model.hf(input_ids=tokens, use_cache=False).logits
        return logits
    finally:
        for handle in handles:
            handle.remove()


def compare(model: Model, edit: Edit, said: Callable[[Tensor], Tensor], what: str) -> None:
    """Hold what an exported model says against what the edited model says, at every position of a text.

    Args:
        model: the base.
        edit: its edit; one of answers alone is exported to act everywhere, and is taken so.
        said: the exported model's logits for tokens [1, T]; it is called while the base model is as transformers has it.
        what: to call the exported model in an error.

    Raises:
        UserError: if they differ by more than rounding.
    """
    tokens = tokens_of(model.hf, LENGTH)
    with attention.own(model.hf), norms.own(model.hf), torch.no_grad():
        before = _logits(model, tokens)
        with Bank([replace(edit, positions="all")]).attach(model):
            wanted, rounded = _logits(model, tokens), _rounded(model, tokens)
        gap = _apart(said(tokens).float().cpu(), wanted, model.dtype)
    largest, moved, noise = float(wanted.abs().max()), _apart(wanted, before, model.dtype), _apart(wanted, rounded, model.dtype)
    part = 0.0 if model.dtype == torch.float32 else PART
    if not gap <= ROUNDING * largest + part * moved + NOISE * noise:
        raise UserError(
            "an export that says what the edited model says",
            f"{what} of {type(model.hf).__name__}, whose logits differ by {gap:.2g} where the edit changes them by {moved:.2g}",
            "Use the saved edit with locus: locus.open_run(RUN).edit(NAME).attach(model).",
        )


def _logits(model: Model, tokens: Tensor) -> Tensor:
    logits: Tensor = model.hf(input_ids=tokens, use_cache=False).logits
    return logits.float().cpu()


def _apart(one: Tensor, other: Tensor, dtype: torch.dtype) -> float:
    """The largest difference at any position; in bfloat16 at the middle one, for rounding sends some tokens to other experts."""
    gaps = (one - other).abs().nan_to_num(torch.inf).amax(dim=-1)
    return float(gaps.max() if dtype == torch.float32 else gaps.median())


def _rounded(model: Model, tokens: Tensor) -> Tensor:
    """Logits if what each projection gives had been rounded the other way, in half of its numbers."""
    draw = torch.Generator().manual_seed(0)

    def after(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        off = torch.randint(0, 2, output.shape, generator=draw).to(output.device)
        return (output * (1 + off * torch.finfo(output.dtype).eps)).to(output.dtype)

    handles = [projection.register_forward_hook(after) for projection in model.projections if projection is not None]
    try:
        return _logits(model, tokens)
    finally:
        for handle in handles:
            handle.remove()


def fits(model: Model, edit: Edit) -> None:
    """Refuse an edit of another model, or one at a single token of a prompt: whatever is exported acts at all tokens.

    Raises:
        UserError: naming both; or where it acts.
    """
    if edit.layout != model.layout:
        raise UserError(f"an edit of a model with {model.layout}", f"one of {edit.layout}", "Name the model it was made for.")
    if edit.positions not in (ALL, ANSWER):
        wanted = "an edit that acts at all tokens, as an adapter, a bias or a vector does"
        raise UserError(wanted, f"one {words(edit.positions)}", "No file of others' tools says at which token an edit acts.")
