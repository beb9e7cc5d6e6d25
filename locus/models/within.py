"""What a layer has besides its heads, as a probe shows: its MLP's down projection, the modules' outputs, the entering stream.

The down projection is the last linear map of the MLP onto the stream's width, if its silence is the MLP's: in a second forward,
in which those of all layers are given zeros and no head says anything, what the MLP gives must be the same at every token. Where
several maps end an MLP, as those of experts, none is it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor

from locus.models.probe import LENGTH, Call, Probe, probe
from locus.models.traces import Unknown, in_words, is_transposed, linear_input, place_of

if TYPE_CHECKING:
    from locus.models.discovery import LayerParts

EXACT = 1e-6  # of the largest number: within it, what is the same at every token is the same


@dataclass(frozen=True)
class Within:
    """What was seen.

    Attributes:
        layers: with the paths of their down projections.
        points: by point, its width in every layer.
        absent: by point that is not there, why.
    """

    layers: "tuple[LayerParts, ...]"
    points: Mapping[str, tuple[int, ...]]
    absent: Mapping[str, str]


def look_within(
    hf: Any, seen: Probe, paths: Mapping[int, str], chain: Sequence[Call], layers: "Sequence[LayerParts]", loose: str
) -> Within:
    """See which points the layers of a model have besides their heads.

    Args:
        hf: the model.
        seen: a probe of it.
        paths: of modules, by identity.
        chain: the layers' calls, in order.
        layers: their parts.
        loose: why what is called a layer is none that the stream runs through; "" where it is one.
    """
    points: dict[str, tuple[int, ...]] = {}
    absent: dict[str, str] = {}
    known = {paths[id(module)]: module for module in hf.modules()}
    entering = chain[0].first
    width = 0 if entering is None else int(entering.shape[-1])

    def gives(path: str) -> int:
        calls = seen.of(known[path]) if path else []
        return width if len(calls) == 1 and _in_rows(calls[0].result, width) else 0

    points["attn_out"] = tuple(gives(one.output) for one in layers)
    if loose:
        absent |= dict.fromkeys(("post", "mlp_out", "resid_pre"), loose)
        return Within(tuple(layers), points, absent)
    try:
        found = _downs(hf, seen, paths, chain, layers, width)
        points["post"] = tuple(int(inputs.shape[-1]) for _, inputs, _ in found)
        layers = [replace(one, down=path, turned=turned) for one, (path, _, turned) in zip(layers, found, strict=True)]
    except Unknown as error:
        absent["post"] = str(error)
    outputs = tuple(gives(one.mlp or one.down) for one in layers)
    if any(outputs):
        points["mlp_out"] = outputs
    else:
        absent["mlp_out"] = "no module was seen that gives what an MLP adds to the stream"
    handed = {place_of(after, before.result) for before, after in pairwise(chain)}
    if len(handed) <= 1 and None not in handed and all(_in_rows(call.first, width) for call in chain):
        points["resid_pre"] = (width,) * len(chain)
    else:
        absent["resid_pre"] = "its layers are not all handed the stream in the same way"
    return Within(tuple(layers), points, absent)


def _in_rows(value: Tensor | None, width: int) -> bool:
    """Whether a tensor is [rows, T, width]."""
    return value is not None and value.ndim == 3 and tuple(value.shape) == (1, LENGTH, width)


def _downs(
    hf: Any, seen: Probe, paths: Mapping[int, str], chain: Sequence[Call], layers: "Sequence[LayerParts]", width: int
) -> list[tuple[str, Tensor, bool]]:
    """Path, input and orientation of every layer's down projection.

    Raises:
        Unknown: naming the first layer in which none is proved to be one.
    """
    scopes, calls = list[Call](), list[Call]()
    for layer, parts in zip(chain, layers, strict=True):
        inside = [call for call in seen.calls if layer in call.parents]
        scope = next((call for call in inside if paths[id(call.module)] == parts.mlp), layer)
        attention = next((call for call in inside if paths[id(call.module)] == parts.output), None)
        fitting = [
            call
            for call in inside
            if (scope in call.parents or call is scope)
            and call is not attention
            and (inputs := linear_input(call)) is not None
            and _in_rows(inputs, int(inputs.shape[-1]))
            and _in_rows(call.result, width)
            and len(seen.of(call.module)) == 1
            and (attention is None or not _shares(call, attention, layer))
        ]
        if not fitting:
            raise Unknown(f"looked for one linear map that ends the MLP of {parts.path}, and saw none")
        scopes.append(scope)
        calls.append(max(fitting, key=lambda call: call.end))
    try:
        silent = probe(hf, silenced=True, zeroed=[call.module for call in calls], use_cache=False)
    except Exception as error:
        raise Unknown(f"it cannot do without what its MLPs say ({in_words(error)})") from error
    found = []
    for layer, scope, call in zip(chain, scopes, calls, strict=True):
        path = paths[id(call.module)]
        (quiet,) = silent.of(scope.module)
        result = quiet.result if scope is not layer else _added(quiet)
        largest = float(scope.result.abs().max()) if scope.result is not None else 0.0
        if result is None or not float((result - result[:, :1]).abs().max()) <= EXACT * largest:
            raise Unknown(f"its MLPs say something where {path} is given nothing: several maps end them, as those of experts")
        inputs = linear_input(call)
        assert inputs is not None, "a linear map"
        found.append((path, inputs, is_transposed(call, inputs, path)))
    return found


def _shares(call: Call, attention: Call, layer: Call) -> bool:
    """Whether a call is of a module within the layer in which its attention is."""
    within = [one for one in call.parents if layer in one.parents]
    return any(one in attention.parents for one in within)


def _added(layer: Call) -> Tensor | None:
    """What a layer adds to the stream."""
    return None if layer.result is None or layer.first is None else layer.result - layer.first
