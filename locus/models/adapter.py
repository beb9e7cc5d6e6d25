"""Which model is meant where an adapter lies beside the weights: the base alone, or base and adapter merged into one.

Left to itself a loader decides by whether PEFT is installed. Here the user does, by the setting `adapter`:

- `none`: the base alone; the adapter is not loaded, whether PEFT is installed or not;
- `merged`: the adapter that lies beside the weights is merged into them;
- a folder: the adapter in it is merged into the weights.

PEFT merges what PEFT made. What runs, is fingerprinted and exported is the merged model, whose name says so.
"""

from pathlib import Path
from typing import Any

from locus.boundary import incoming
from locus.errors import UserError, others
from locus.models.checkpoint import few, headers

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NONE, MERGED = "none", "merged"


def adapter_folder(folder: Path | None, adapter: str | None, name: str) -> Path | None:
    """The folder of the adapter that is to be merged; None for the base alone.

    Args:
        folder: of the model's weights; None where there is none that could hold an adapter.
        adapter: the setting.
        name: what the user calls the model.

    Raises:
        UserError: if an adapter lies beside the weights and nothing was chosen, or there is no whole adapter to merge.
    """
    beside = folder is not None and (folder / CONFIG).exists()
    if adapter is None and beside:
        raise UserError(
            "a word on the adapter that lies beside the weights",
            f"{name!r} with {CONFIG} and no choice",
            f"Give --adapter {NONE} for the base alone, or --adapter {MERGED} for both; a judge's model must have none.",
        )
    if adapter is None or adapter == NONE:
        return None
    if adapter == MERGED and not beside:
        raise UserError(f"an adapter beside the weights, {CONFIG}", f"{name!r} without one", "Give --adapter FOLDER.")
    place = folder if adapter == MERGED and folder is not None else Path(adapter)
    _check(place)
    return place


def _check(folder: Path) -> None:
    """Refuse what is no folder of a LoRA adapter in safetensors."""
    expected = f"an adapter's folder with {CONFIG} and {WEIGHTS}"
    if not (folder / CONFIG).is_file():
        raise UserError(expected, f"{str(folder)!r} without {CONFIG}", f"Give {NONE}, {MERGED}, or such a folder.")
    config = incoming.read_json(folder / CONFIG, expected)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise UserError("a LoRA adapter", f"{str(folder)!r} with peft_type {kind!r}", "Merge it yourself, and save the model.")
    if not (folder / WEIGHTS).is_file():
        raise UserError(expected, f"{str(folder)!r} without {WEIGHTS}", "Pickled weights are refused; save it as safetensors.")
    headers(folder / WEIGHTS)


def check_installed() -> None:
    """Refuse to merge where PEFT is missing.

    Raises:
        UserError: saying how to get it.
    """
    from importlib.util import find_spec

    if find_spec("peft") is None:
        raise UserError("the Python package peft, to merge an adapter", "no such package", "Run: pip install 'locus-audit[peft]'")


def merge(hf: Any, folder: Path, name: str) -> Any:
    """A model with an adapter merged into its weights, in their dtype.

    Args:
        hf: the base; changed.
        folder: that `chosen` found.
        name: of both, for the errors.

    Raises:
        UserError: if the adapter does not fit this model exactly, or PEFT is missing.
    """
    from locus.models.weights import Gaps, refuse, sound  # with torch

    check_installed()
    import peft

    with others("an adapter that fits the model", name, "Give the base model that the adapter was made for."):
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        wrapped = peft.PeftModel(hf, config)
        loading = wrapped.load_adapter(str(folder), "default", torch_device="cpu")
    refuse(Gaps(set(loading.missing_keys), set(loading.unexpected_keys)), name)
    with others("an adapter that can be merged", name, "Merge it yourself, and save the model."):
        merged = wrapped.merge_and_unload(safe_merge=True)
    if unmerged := [key for key in merged.state_dict() if "lora_" in key]:
        raise UserError("an adapter that can be merged", f"{name!r} with {few(unmerged)} left over", "Merge it yourself.")
    sound(merged, name)
    return merged
