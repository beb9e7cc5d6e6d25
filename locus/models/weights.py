"""Weights as they were saved, all of them, or a sentence that says what is amiss.

A loader fills what a checkpoint lacks with random numbers and leaves out what it has no place for, and says so in a log at most.
Here every tensor of the model must come from the checkpoint, and every tensor of the checkpoint must go into the model. What is
excepted is excepted for what it is, never for its name alone:

- tied weights: one tensor under two names, and seen to be one in memory after loading;
- what a model makes itself and does not save (buffers that are not persistent);
- a leftover with the very values of a buffer that the model makes itself (tables of rotary frequencies, positions);
- a causal mask, a triangle of ones; and a single number of -10,000 or less, which masks;
- in GGUF files, factors of the rotary frequencies that are all one;
- what the model's class declares to be no part of it (`_keys_to_ignore_on_load_unexpected`: further heads that predict more
  tokens ahead, say). A class's list of tensors that may be *missing* is not heeded.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn

from locus.errors import UserError, others
from locus.models import own_code, sliced, spread
from locus.models.checkpoint import few, headers
from locus.models.devices import DeviceMap, check_modules

NOWHERE = "no-adapter-is-loaded-unasked"  # a folder in which the loader looks for an adapter in vain
MASKS = -1e4  # what masks is this or less


@dataclass
class Gaps:
    """What a checkpoint and a model do not share: names of tensors, and shapes where only these differ."""

    missing: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    shapes: set[tuple[str, Any, Any]] = field(default_factory=set)


def fill(
    folder: str,
    name: str,
    read_tensor: Callable[[str], Tensor | None] | None = None,
    *,
    config: Any = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> Any:
    """A causal LM from a folder, with nothing added, nothing left out, nothing merged into it.

    Args:
        folder: that `checkpoint.check_folder` found nothing wrong with, or the folder of a GGUF file.
        name: what the user calls it, for the errors.
        read_tensor: reads a tensor of the checkpoint by the model's name for it; of safetensors by default.
        config: its configuration, where that is known: whoever reads images beside text is a causal LM, too.
        trust_remote_code: run code that comes with the model.
        options: of `from_pretrained`.

    Raises:
        UserError: if it cannot be loaded, or a tensor is missing, unexpected, of another shape, infinite or not a number.
    """
    remedy = "Fetch or save the model again; locus loads causal LMs from safetensors or GGUF."
    with others("a causal LM", name, remedy), own_code.refused(name, folder), _quiet(), _unexcused() as gaps:
        loaded: Any = _reader(config).from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # said below, with both shapes
            adapter_kwargs={"subfolder": NOWHERE},
            trust_remote_code=trust_remote_code,
            **options,
        )
    hf, info = loaded
    gaps.missing |= set(info["missing_keys"])
    gaps.shapes |= set(info["mismatched_keys"])
    stored = read_tensor or (lambda key: _stored(Path(folder), key))
    gaps.unexpected = {key for key in gaps.unexpected if not _declared(hf, key) and not _harmless(hf, key, stored(key))}
    refuse(gaps, name)
    if getattr(hf, "_hf_peft_config_loaded", False):
        raise UserError("the base model alone", f"{name!r}, into which an adapter was loaded", "Take its adapter elsewhere.")
    sound(hf, name)
    return hf


def _reader(config: Any) -> Any:
    """The class of transformers that opens models of a configuration: as causal LMs, or as those that read images beside text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kinds: tuple[Any, ...] = (AutoModelForCausalLM, AutoModelForImageTextToText)
    return next((one for one in kinds if type(config) in one._model_mapping), AutoModelForCausalLM)


def fill_over(spread: DeviceMap, folder: str, name: str, *, config: Any, **options: Any) -> Any:
    """The same, spread over devices; what lies on disk stays in the checkpoint's files, or is written beside if converted.

    Args:
        spread: over which.
        folder: as of `fill`, and so the rest.
        name: of the model.
        config: of the model.
        options: of `from_pretrained`.

    Raises:
        UserError: as `fill`, and before weights are read if the map does not fit the model.
    """
    with others("a model that can be spread over devices", name, "Use --set device instead of device_map."):
        with torch.device("meta"):
            empty = _reader(config).from_config(config, trust_remote_code=bool(options.get("trust_remote_code")))
        check_modules(empty, spread, name)
    converted = tempfile.mkdtemp(prefix="locus-offload-")
    hf = fill(folder, name, config=config, device_map=spread, offload_folder=converted, **options)
    finalize(hf, shutil.rmtree, converted, ignore_errors=True)
    return hf


def fill_slices(folder: str, name: str, *, config: Any, quantised: bool, **options: Any) -> Any:
    """The same, of which each of the processes that work together holds a slice.

    Args:
        folder: as of `fill`, and so the rest.
        name: of the model.
        config: of the model.
        quantised: whether its weights are packed in few bits.
        options: of `from_pretrained`.

    Raises:
        UserError: as `fill`, and before weights are read if it cannot be cut into equal slices.
    """
    sliced.check_version()
    if quantised or getattr(config, "quantization_config", None) is not None:
        raise UserError("plain weights, which can be cut into slices", f"{name!r}, quantised", "Audit it without tp_plan.")
    trusted = bool(options.get("trust_remote_code"))
    empty = sliced.empty(_reader(config), config, name, trusted)
    sliced.check(empty, name)
    hf = fill(folder, name, config=config, **options, distributed_config=sliced.distributed(empty))
    sliced.prepare(hf)
    return hf


def refuse(gaps: Gaps, name: str) -> None:
    """Refuse a model that the checkpoint does not fill exactly.

    Raises:
        UserError: naming some of the tensors.
    """
    problems = []
    if gaps.missing:
        problems.append(f"{len(gaps.missing)} missing ({few(gaps.missing)})")
    if gaps.unexpected:
        problems.append(f"{len(gaps.unexpected)} unexpected ({few(gaps.unexpected)})")
    if gaps.shapes:
        shapes = few(f"{key} {tuple(stored)} for {tuple(expected)}" for key, stored, expected in gaps.shapes)
        problems.append(f"{len(gaps.shapes)} of another shape ({shapes})")
    if problems:
        raise UserError(
            "weights that fill the model exactly",
            f"{name!r} with tensors {', '.join(problems)}",
            "What is missing would be random numbers. Fetch the whole checkpoint, or the config.json that belongs to it.",
        )


def sound(hf: Any, name: str) -> None:
    """Refuse weights that are not numbers, and a head that is tied by its configuration and has values of its own.

    Raises:
        UserError: naming the tensors.
    """
    wrong = [key for key, tensor in spread.tensors(hf) if tensor.is_floating_point() and not _finite(tensor)]
    if wrong:
        raise UserError("finite weights", f"{name!r} with NaN or infinity in {few(wrong)}", "Fetch or save the model again.")
    table, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    tied = getattr(hf.config.get_text_config(), "tie_word_embeddings", False)
    if tied and head is not None and not _one(table, head):
        raise UserError(
            "one matrix that embeds and unembeds, as config.json says (tie_word_embeddings)",
            f"{name!r} with two different ones",
            "Set tie_word_embeddings to false in config.json if the head is meant to be another.",
        )


def _one(table: Any, head: Any) -> bool:
    """Whether two modules have one weight: the same memory, or the same numbers where a model is spread over several devices."""
    if table.weight.device.type != "meta" and table.weight.data_ptr() == head.weight.data_ptr():
        return True
    if not hasattr(head, "_hf_hook"):
        return False
    one, other = spread.value(table, "weight"), spread.value(head, "weight")
    return one is not None and other is not None and torch.equal(one.cpu(), other.cpu())


def _finite(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    low, high = tensor.aminmax()  # either is NaN where any entry is; nothing as large as the tensor is made
    return bool(torch.isfinite(low) & torch.isfinite(high))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the loaders' own reports of what they filled in, and where they put it, since ours follows."""
    from transformers.utils import logging as transformers_log

    verbosity, spreading = transformers_log.get_verbosity(), logging.getLogger("accelerate.big_modeling")
    level = spreading.level
    transformers_log.set_verbosity(logging.ERROR)
    spreading.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_log.set_verbosity(verbosity)
        spreading.setLevel(level)


@contextmanager
def _unexcused() -> Iterator[Gaps]:
    """Note what is missing and unexpected before transformers strikes from the lists what it excuses by name."""
    from transformers import PreTrainedModel

    pretrained: Any = PreTrainedModel
    gaps, original = Gaps(), pretrained._adjust_missing_and_unexpected_keys

    def note_keys(self: Any, info: Any) -> None:
        gaps.missing |= set(info.missing_keys)
        gaps.unexpected |= set(info.unexpected_keys)
        original(self, info)

    pretrained._adjust_missing_and_unexpected_keys = note_keys
    try:
        yield gaps
    finally:
        pretrained._adjust_missing_and_unexpected_keys = original


def _declared(hf: Any, key: str) -> bool:
    """Whether the model's class says that a tensor is no part of it."""
    return any(re.search(pattern, key) for pattern in getattr(hf, "_keys_to_ignore_on_load_unexpected", None) or ())


def _stored(folder: Path, key: str) -> Tensor | None:
    """A tensor of a folder by the model's name for it, which may have a prefix more or less; None where that fits none or two."""
    from safetensors import safe_open

    fitting = [
        (file, name)
        for file in folder.glob("*.safetensors")
        for name in headers(file)
        if name == key or name.endswith(f".{key}") or key.endswith(f".{name}")
    ]
    if len(fitting) != 1:
        return None
    with safe_open(str(fitting[0][0]), framework="pt") as tensors:
        return tensors.get_tensor(fitting[0][1])  # type: ignore[no-any-return]


def _harmless(hf: nn.Module, key: str, tensor: Tensor | None) -> bool:
    """Whether a leftover says nothing that the model does not make itself."""
    if tensor is None:
        return False
    leaf = key.rsplit(".", 1)[-1]
    buffers = (buffer for name, buffer in hf.named_buffers() if name.rsplit(".", 1)[-1] == leaf and buffer.shape == tensor.shape)
    if any(torch.allclose(buffer.double(), tensor.double(), rtol=_rounding(tensor), atol=0) for buffer in buffers):
        return True
    if tensor.numel() == 1:
        return float(tensor) <= MASKS
    if tensor.ndim >= 2 and tensor.shape[-1] == tensor.shape[-2]:
        return bool((tensor == torch.ones_like(tensor).tril()).all())
    return False


def _rounding(tensor: Tensor) -> float:
    """How far a number may be off that was rounded to a tensor's type, relative to it."""
    return 4 * torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0
