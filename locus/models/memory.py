"""A model that somebody has in memory, as an audit takes it: through a view, so that theirs is never changed.

A view is the same modules made anew around the same weights: no number is copied, and what an audit does to its modules
(evaluation mode, attention and norms of our own, hooks of a bank) happens to the view. Where adapters of PEFT lie in the model,
the view gets weights of its own at these places alone, with the adapters merged into them; so its fingerprint is that of what
actually runs, and the same as of the merged model in a folder. That a merged view says what the model says is tried, not assumed.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from locus.errors import UserError, others
from locus.models import packed
from locus.models.fast import attention, norms
from locus.models.layout import setting
from locus.models.model import CALLED, Model
from locus.registry import MEMORY

TRIED = "One text, to see that the view says what the model says."
# Of logits, relative to the largest: a merged adapter is the same sum taken in another order.
AGREES = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def wrap(hf: Any, tokenizer: Any, name: str | None = None) -> Model:
    """A model of ours around somebody's model and tokenizer in memory; theirs stays bit for bit as it is.

    Args:
        hf: a causal LM of transformers, one inside PEFT's or torch.compile's wrapper, or a `Model` already.
        tokenizer: its fast tokenizer.
        name: what to call it; by default as its configuration does.

    Raises:
        UserError: if it cannot be audited as it is: on no device, quantised, in half precision, with hooks or replaced forwards,
            with an adapter that cannot be merged, or with a tokenizer that has no offsets or belongs to another model.
    """
    from locus.models.load import check_fit, check_tokenizer

    if isinstance(hf, Model):
        if tokenizer is None or tokenizer is hf.tokenizer:
            return hf
        raise UserError(
            "a model that is not wrapped, or its own tokenizer", "a wrapped one with another", "Wrap the model itself."
        )
    hf = getattr(hf, "_orig_mod", hf)  # what torch.compile was given
    if not isinstance(hf, nn.Module) or not hasattr(hf, "config"):
        raise UserError("a causal LM of transformers", type(hf).__name__, "Give a model, or its name to locus.load.")
    called = f"{MEMORY}{name or _named(hf)}"
    _check(hf, called)
    check_tokenizer(tokenizer, called)
    seen = view(hf, called)
    _plain_attention(seen)
    model = Model(seen, tokenizer, called, any(map(packed.is_packed, seen.modules())), _adapted(hf))
    check_fit(tokenizer, model)
    if _adapted(hf):
        _compare(hf, model)
    model.settings = {"model": called, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}
    return model


def _plain_attention(hf: Any) -> None:
    """Attention of torch, or where an architecture has none of that, or soft-caps its logits, written out."""
    capped = setting(hf.config.get_text_config(), "attn_logit_softcapping")
    for way in ("eager",) if capped else ("sdpa", "eager"):
        try:
            hf.set_attn_implementation(way)
            return
        except ValueError:  # there is no such way for it
            continue


def _named(hf: Any) -> str:
    """What a model was opened as, or else calls itself, without the folders that it lay in."""
    base = getattr(hf, "get_base_model", lambda: hf)()
    full = CALLED.get(hf, "").removeprefix(MEMORY) or str(getattr(base.config, "_name_or_path", "")) or type(base).__name__
    return full.rstrip("/").rpartition("/")[2] + (" + adapter" if _adapted(hf) else "")


def _adapted(hf: Any) -> bool:
    return any(hasattr(module, "get_base_layer") for module in hf.modules())


def _check(hf: Any, name: str) -> None:
    """Refuse what could not be audited as it is; nothing is run and nothing changed.

    Raises:
        UserError: with the first thing that stands in the way.
    """
    if any(hasattr(module, "_hf_hook") for module in hf.modules()):
        raise UserError(
            "a model on one device, without hooks that move its weights",
            f"{name}, spread by accelerate (device_map)",
            "Name its files instead, locus.load(FOLDER, device_map='auto'); or, if all of it is on one device, call "
            "accelerate.hooks.remove_hook_from_module(model, recurse=True).",
        )
    tensors = [*hf.parameters(), *hf.buffers()]
    if any(hasattr(one, "device_mesh") for one in tensors):
        raise UserError(
            "a model whose weights are whole",
            f"{name}, whose weights are slices in several processes (tp_plan)",
            "Name its files instead, locus.load(FOLDER, device_map='auto').",
        )
    if any(one.is_meta for one in tensors):
        raise UserError("a model with its weights in memory", f"{name} on the device 'meta'", "Load its weights first.")
    if strange := packed.in_the_way(hf):
        raise UserError(
            "a model whose weights are plain numbers in float32 or bfloat16, or packed in linear maps",
            f"{name}, quantised ({strange})",
            "Load it without quantisation, or wrap what its dequantize(dtype=torch.float32) gives.",
        )
    kinds = {one.dtype for one in hf.parameters() if one.is_floating_point()} - {torch.float32, torch.bfloat16}
    if kinds:
        raise UserError("weights in float32 or bfloat16", f"{name} with {kinds.pop()}", "Convert it: model.to(torch.bfloat16).")
    devices = {str(one.device) for one in hf.parameters()}
    if len(devices) != 1 or devices.pop().partition(":")[0] not in ("cpu", "cuda"):
        raise UserError("a model on one device, cpu or cuda", f"{name} on another, or on several", "Move it: model.to('cpu').")
    for path, module in hf.named_modules():
        if hooked := _hooked(module):
            raise UserError(
                "a model that computes what its weights say, without hooks",
                f"{name} with {hooked} at {path or 'the top'}",
                "Remove them (handle.remove(), or the library that set them), since they may change what the model says.",
            )
    if _adapted(hf) and not hasattr(hf, "merge_and_unload"):
        raise UserError(
            "adapters inside a PeftModel, which can be merged", f"{name} with adapters in it", "Give PeftModel(...) of them."
        )


def _hooked(module: nn.Module) -> str:
    """What would have a module compute something else than its class says; empty if nothing would."""
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        for hook in getattr(module, kind).values():
            return f"a hook ({getattr(hook, '__qualname__', type(hook).__name__)[:80]})"
    own = vars(module).get("forward")  # a model that ours has run has its class's own there
    if own is not None and getattr(own, "__func__", None) is not type(module).forward and not norms.is_ours(module):
        return "a forward that was replaced"
    return ""


def view(hf: Any, name: str) -> Any:
    """The same modules anew around the same weights, merged with what adapters there are."""
    known: dict[int, Any] = {}
    own = {id(one) for module in hf.modules() if hasattr(module, "get_base_layer") for one in module.parameters()}
    for parameter in hf.parameters():
        if not parameter.is_floating_point():
            known[id(parameter)] = parameter  # packed, with what it takes to unpack it
            continue
        values = parameter.detach()
        known[id(parameter)] = nn.Parameter(values.clone() if id(parameter) in own else values, requires_grad=False)
    for buffer in hf.buffers():
        known[id(buffer)] = buffer.detach()
    with others("a model that can be looked at", name, "Give the model as transformers loads it."):
        seen = copy.deepcopy(hf, known)
    for module in seen.modules():
        if norms.is_ours(module):
            del module.forward  # of a model of ours: it is given its own anew
    if _adapted(hf):
        with others("an adapter that can be merged", name, "Merge it yourself, and wrap the merged model."):
            seen = seen.merge_and_unload(safe_merge=True)
    else:
        seen = getattr(seen, "get_base_model", lambda: seen)()
    if setting(seen.config, "_attn_implementation") == attention.NAME:
        seen.set_attn_implementation("sdpa")
    return seen


@contextmanager
def evaluated(hf: nn.Module) -> Iterator[None]:
    """A model in evaluation mode while a `with` block lasts, and afterwards every module in the mode that it was in."""
    modes = {module: module.training for module in hf.modules()}
    try:
        hf.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _compare(hf: Any, model: Model) -> None:
    """See that a merged view says what the model says.

    Raises:
        UserError: if it does not, as with an adapter that is switched off.
    """
    ids = model.tokenizer(TRIED, return_tensors="pt")["input_ids"].to(model.device)
    with evaluated(hf), torch.no_grad():
        theirs, ours = (one(input_ids=ids, use_cache=False).logits.float() for one in (hf, model.hf))
    gap = float((theirs - ours).abs().max() / theirs.abs().max().clamp_min(1e-6))
    if not gap <= AGREES[model.dtype]:
        raise UserError(
            "an adapter that is merged into the weights and says the same",
            f"{model.name}, whose logits differ by {gap:.2g} of the largest",
            "Switch its adapters on (enable_adapter_layers), or merge it yourself and wrap the merged model.",
        )
