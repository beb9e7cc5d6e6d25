"""sae: a sparse autoencoder in a folder of SAELens; of it one feature, FOLDER#123, whose decoder row is a direction at its hook.

Source: SAELens, https://decoderesearch.github.io/SAELens: `cfg.json` with d_in, d_sae and hook_name (from version 6 on within
`metadata`), and `sae_weights.safetensors` with W_dec of [d_sae, d_in].
"""

from typing import Any

from locus.claims.importers.hooks import site_of
from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Direction, Published

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


def _recognises(source: Source) -> bool:
    return CONFIG in source.files and WEIGHTS in source.files


def _read(source: Source) -> Published:
    config = source.inside(CONFIG)
    metadata: Any = config.get("metadata")
    config = config | (metadata if isinstance(metadata, dict) else {})
    hook, head, sizes = config.get("hook_name"), config.get("hook_head_index"), [config.get("d_sae"), config.get("d_in")]
    if not isinstance(hook, str) or not all(type(size) is int and 0 < size < 1 << 31 for size in sizes):
        raise ValueError(f"a {CONFIG} without hook_name, d_sae and d_in")
    if head is not None and (type(head) is not int or not 0 <= head < 100_000):
        raise ValueError(f"hook_head_index {repr(head)[:40]}")
    site, tensors = site_of(hook, head), source.tensors(WEIGHTS)
    if (shape := tensors.shapes.get("W_dec")) != tuple(sizes):
        raise ValueError(f"W_dec of shape {list(shape or ())}, where {CONFIG} says {sizes}")
    if not (source.part.isascii() and source.part.isdigit() and len(source.part) < 10 and int(source.part) < sizes[0]):
        raise ValueError(f"the feature {source.part[:40]!r}: say FOLDER#123 with one from 0 to {sizes[0] - 1}")
    vector = tensors.read("W_dec", int(source.part))
    model = config.get("model_name")
    about = {"hook": hook, "feature": int(source.part), **({"circuit_of": model[:200]} if isinstance(model, str) else {})}
    return Published(directions=(Direction(site, vector, f"feature {int(source.part)}"),), about=about)


IMPORTER = Importer("sae", f"a folder with {CONFIG} and {WEIGHTS}", _recognises, _read, parts="a feature, counted from zero")
