"""steering-vector: vectors by layer as JSON, of AISteer360 (`.svec`) and of the package steering-vectors.

AISteer360's has `model_type`, `directions` by layer, and of ITI `probe_accuracies` by `layer:head`: then it makes a claim of
heads, which these accuracies rank. The fields of steering-vectors are `layer_activations` by layer and `layer_type`: the vector
of a `decoder_block` is added to what leaves it, and so enters the next layer.

Source: `SteeringVector.save` in github.com/IBM/AISteer360; the fields of `SteeringVector` in
github.com/steering-vectors/steering-vectors. No description of a whole pipeline's `.spipe` could be had, and it is refused.
"""

from typing import Any

import numpy as np

from locus.claims.forms import COUNT
from locus.claims.importers.importer import Importer, is_score
from locus.claims.importers.source import Source
from locus.claims.published import Direction, Published
from locus.errors import UserError
from locus.records.base import JsonObject

PLACES = {"self_attn": "attn", "mlp": "mlp"}
FIELDS = {"model_type", "directions", "num_heads", "head_dim", "explained_variances", "probe_accuracies"}


def _recognises(source: Source) -> bool:
    content = source.json
    known = isinstance(content, dict) and ("directions" in content or "layer_activations" in content)
    return known or source.path.suffix.lower() == ".spipe"


def _read(source: Source) -> Published:
    if source.path.suffix.lower() == ".spipe":
        remedy = "Save its vector by itself: SteeringVector.save writes a .svec, which is read."
        raise UserError("a vector by itself", f"{str(source.path)!r}, a whole steering pipeline", remedy)
    content: JsonObject = source.json
    return _aisteer(content) if "directions" in content else _layered(content)


def _aisteer(content: JsonObject) -> Published:
    if unknown := [key for key in content if key not in FIELDS]:
        raise ValueError(f"{', '.join(map(repr, unknown[:3]))[:120]} beside the fields of a .svec")
    vectors, model = _vectors(content["directions"]), content.get("model_type")
    if not isinstance(model, str):
        raise ValueError("no model_type")
    n_heads, accuracies = content.get("num_heads"), content.get("probe_accuracies")
    about: JsonObject = {"model_type": model[:80]}
    if accuracies is None:
        return Published(directions=_directions(vectors, {}), about=about)
    if n_heads is not None and (type(n_heads) is not int or not 0 < n_heads < 100_000):
        raise ValueError(f"num_heads {repr(n_heads)[:40]}")
    scores = _accuracies(accuracies, n_heads)
    return Published(scores=scores, rank="largest", about=about | ({"circuit_sizes": {"n_heads": n_heads}} if n_heads else {}))


def _accuracies(table: Any, n_heads: int | None) -> dict[str, float]:
    """Scores by head, from names as `12:3`."""
    if not isinstance(table, dict) or not table:
        raise ValueError("probe_accuracies that are no object of layer:head")
    scores = {}
    for name, score in table.items():
        layer, _, head = name.partition(":")
        there = COUNT.fullmatch(layer) and COUNT.fullmatch(head) and (n_heads is None or int(head) < n_heads)
        if not there or not is_score(score) or not 0 <= score <= 1:
            raise ValueError(f"the accuracy {repr(score)[:40]} of {name[:40]!r}")
        scores[f"{layer}.{head}"] = float(score)
    return scores


def _layered(content: JsonObject) -> Published:
    kind = content.get("layer_type", "decoder_block")
    if content.keys() - {"layer_activations", "layer_type"} or (kind != "decoder_block" and kind not in PLACES):
        raise ValueError(f"layer_type {repr(kind)[:40]}, or a field beside it and layer_activations")
    vectors = _vectors(content["layer_activations"])
    sites = {layer: f"{PLACES[kind]}.{layer}" if kind in PLACES else f"resid.{layer + 1}" for layer in vectors}
    return Published(directions=_directions(vectors, sites))


def _directions(vectors: dict[int, Any], sites: dict[int, str]) -> tuple[Direction, ...]:
    return tuple(Direction(sites.get(layer, ""), vector, f"layer {layer}") for layer, vector in vectors.items())


def _vectors(table: Any) -> dict[int, Any]:
    """Vectors by layer, [width] or [rows, width] flattened, all of one width.

    Raises:
        ValueError: naming the first that is none.
    """
    if not isinstance(table, dict) or not table:
        raise ValueError("no vectors by layer")
    vectors = {}
    for layer, rows in table.items():
        nested = isinstance(rows, list) and bool(rows) and all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows)
        flat = [value for row in rows for value in row] if nested else rows
        if not COUNT.fullmatch(layer) or not isinstance(flat, list) or not all(map(is_score, flat)) or not any(flat):
            raise ValueError(f"layer {layer[:40]!r} without a vector of finite numbers that are not all 0")
        vectors[int(layer)] = np.array(flat, dtype=np.float32)
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise ValueError("vectors of several widths")
    return dict(sorted(vectors.items()))


IMPORTER = Importer("steering-vector", "vectors by layer as JSON, of AISteer360 or steering-vectors", _recognises, _read)
