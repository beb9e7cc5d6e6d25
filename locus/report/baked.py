"""A shift as a bias: a copy of the model, of the same class, whose projections add W s, or s where it is of what they give.

Where a projection has no bias, one setting of the configuration may give it one. Which, is tried, for no family in particular:
every setting that speaks of a bias is turned over by itself, and all that are off together; the configuration is written and
read as a file, and the class is made of it without weights. Of those that do, the one that brings the fewest new tensors is
taken, and all that is new is zero. Such a setting may change something else, too; so what the copy says is compared with what
the edited model says, before it is written, and once more when it is read back.
"""

import copy
import shutil
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from locus.edits.base import Edit
from locus.errors import UserError, others
from locus.models.fast import attention
from locus.models.layout import setting
from locus.models.model import Model
from locus.report.faithful import compare, fits
from locus.report.maps import map_of


def baked(model: Model, edit: Edit) -> Any:
    """A copy of the Hugging Face model on the CPU with a shift in the output projections' biases, W s, summed in float32.

    All weights but these biases are shared with the model.

    Raises:
        UserError: if the edit is no shift, this architecture has no bias there, or the copy says something else than the edit.
    """
    fits(model, edit)
    for terms in edit.layers.values():
        if terms.shift is None or terms.keep is not None or terms.read is not None:
            raise UserError("a shift or a constant edit", f"{edit.kind!r}", "Export a rank-1 edit with --as peft.")
    maps = {layer: map_of(model, edit, layer) for layer in edit.layers}
    fresh = _copied(model, _with_bias(model, [one.path for one in maps.values()]))
    with torch.no_grad():
        for layer, terms in edit.layers.items():
            assert terms.shift is not None, "checked above"
            added = maps[layer].weight @ terms.shift.float() if maps[layer].within else terms.shift.float()
            module = fresh.get_submodule(maps[layer].path)
            module.bias = nn.Parameter((module.bias.float() + added).to(module.bias.dtype), requires_grad=False)
    compare(model, edit, lambda tokens: fresh(input_ids=tokens.cpu(), use_cache=False).logits, "a copy with biases")
    return fresh


def save_baked(model: Model, edit: Edit, fresh: Any, folder: Path) -> None:
    """Write what `baked` gave, with the tokenizer, into an empty folder, and read it back as transformers alone does.

    Raises:
        UserError: if what is read says something else; nothing is left in the folder then.
    """
    fresh.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    way, remedy = fresh.config._attn_implementation, "Use the saved edit with locus."
    try:
        with others("a model that comes back as it was saved", type(fresh).__name__, remedy):
            back = type(fresh).from_pretrained(str(folder), dtype=model.dtype, attn_implementation=way).eval()
        compare(model, edit, lambda tokens: back(input_ids=tokens.cpu(), use_cache=False).logits, "a saved copy with biases")
    except UserError:
        shutil.rmtree(folder)
        raise


def _with_bias(model: Model, paths: Sequence[str]) -> Any:
    """A configuration that gives the projections at some paths a bias.

    Raises:
        UserError: if none does.
    """
    source: Any = model.hf
    with others("a configuration that can be written to a file", type(source).__name__, "Use the saved edit with locus."):
        as_it_is = _read_back(source.config)
    known, best, fewest = {*source.state_dict()}, None, 0
    for config in (as_it_is, *_turned_over(as_it_is)):
        try:
            with torch.device("meta"):
                bare = type(source)(_read_back(config))
        except Exception:  # whatever an architecture does with a setting that nobody ever turns over
            continue
        new = {*bare.state_dict()} - known
        biases = all("bias" in name.rpartition(".")[2] for name in new) and not known - {*bare.state_dict()}
        there = all(getattr(bare.get_submodule(path), "bias", None) is not None for path in paths)
        if there and biases and (best is None or len(new) < fewest):
            best, fewest = config, len(new)
    if best is None:
        raise UserError(
            "an architecture whose output projection can have a bias",
            f"{type(source).__name__}, which has none whatever its configuration says",
            "Use the saved edit with locus, or add the bias W s in a hook on the projection's output.",
        )
    return best


def _turned_over(config: Any) -> Iterator[Any]:
    """Configurations in which a setting that speaks of a bias is the other way round, or all that are off are on."""
    settings = [
        (place, name, value)
        for place, part in _parts(config)
        for name in dir(part)  # also what the class alone says of all its configurations
        if "bias" in name and isinstance(value := setting(part, name), bool)
    ]
    for some in (*([one] for one in settings), [one for one in settings if not one[2]]):
        other = copy.deepcopy(config)
        for place, name, value in some:
            setattr(reduce(getattr, place, other), name, not value)
        yield other


def _parts(config: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A configuration and those within it, each with the attributes that lead there."""
    yield place, config
    for name, value in vars(config).items():
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _parts(value, (*place, name))


def _read_back(config: Any) -> Any:
    """A configuration as its file says it."""
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return type(config).from_pretrained(folder)


def _copied(model: Model, config: Any) -> Any:
    """A model of the same class around the same weights on the CPU; what is new in it is zero."""
    source: Any = model.hf
    with attention.own(source):
        config = _read_back(config)
        config._attn_implementation = source.config._attn_implementation
    fresh = type(source)(config).eval().requires_grad_(False)
    fresh.generation_config = copy.deepcopy(source.generation_config)  # else made anew from the configuration, with less in it
    missing, unexpected = fresh.load_state_dict(
        {key: value.detach().cpu() for key, value in source.state_dict().items()}, strict=False, assign=True
    )
    assert not unexpected, f"unlike models: {unexpected}"
    for key in missing:
        zero = torch.zeros_like(fresh.get_parameter(key), dtype=model.dtype, device="cpu")
        owner, _, name = key.rpartition(".")
        setattr(fresh.get_submodule(owner), name, nn.Parameter(zero, requires_grad=False))
    fresh.tie_weights()
    return fresh
