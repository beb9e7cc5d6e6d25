"""peft: a LoRA adapter's folder; the claim is the layers and modules that it touches.

A module is a site of its layer, `attn.12` or `mlp.12`. A claim of whole modules is not audited yet. Nothing says which heads an
adapter of an output projection reads, since its factors are over all of them.

Source: `adapter_config.json` and `adapter_model.safetensors`, https://huggingface.co/docs/peft/developer_guides/checkpoint.
"""

import re

from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Published

WEIGHTS = "adapter_model.safetensors"
LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(0|[1-9][0-9]{0,4})\.(.+)\.(lora_[AB])(?:\.default)?\.weight")
ATTENTION = re.compile(r"attn|attention|(?:^|\.)[qkvo]_proj$|query_key_value|c_attn")
MLP = re.compile(r"mlp|feed_forward|ffn|(?:^|\.)(?:gate|up|down)_proj$|dense_h_to_4h|dense_4h_to_h|(?:^|\.)fc[12]$")


def _recognises(source: Source) -> bool:
    return "adapter_config.json" in source.files


def _read(source: Source) -> Published:
    config = source.inside("adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise ValueError(f"an adapter of the kind {repr(config.get('peft_type'))[:40]}, where LORA is read")
    if WEIGHTS not in source.files:
        raise ValueError(f"no {WEIGHTS}; what is pickled is not opened")
    tensors = source.tensors(WEIGHTS)
    sides: dict[tuple[int, str], dict[str, int]] = {}
    for name, shape in tensors.shapes.items():
        match = LAYER.search(name)
        if match is None or len(shape) != 2:
            raise ValueError(f"the tensor {name[:100]!r} of shape {list(shape)}, which is no factor of a module in a layer")
        side, module = match[3], (int(match[1]), match[2])
        if side in sides.setdefault(module, {}):
            raise ValueError(f"the factor {side} of {match[2][:60]} in layer {match[1]} more than once")
        sides[module][side] = shape[0] if side == "lora_A" else shape[1]
        tensors.read(name)  # of finite numbers, or refused
    for (layer, name), ranks in sides.items():
        if len(ranks) < 2 or len(set(ranks.values())) > 1:
            raise ValueError(f"{name[:60]} in layer {layer} without two factors of one rank")
    base = config.get("base_model_name_or_path")
    if not sides:
        raise ValueError(f"{WEIGHTS} without a factor")
    about = {"modules": sorted({name for _, name in sides})[:40], "rank": max(max(ranks.values()) for ranks in sides.values())}
    named = dict.fromkeys(_site(layer, name) for layer, name in sorted(sides))
    return Published(named=tuple(named), about={**about, **({"circuit_of": base[:200]} if isinstance(base, str) else {})})


def _site(layer: int, name: str) -> str:
    attention, mlp = ATTENTION.search(name), MLP.search(name)
    if bool(attention) == bool(mlp):
        raise ValueError(f"{name[:60]!r} in layer {layer}, which is not known as attention or MLP")
    return f"{'attn' if attention else 'mlp'}.{layer}"


IMPORTER = Importer("peft", "a folder with adapter_config.json and adapter_model.safetensors", _recognises, _read)
