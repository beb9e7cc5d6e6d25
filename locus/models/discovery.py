"""Where things are inside a causal language model, found by watching one short forward; no architecture is known by name.

- The layers are the list of modules whose outputs feed one another, in which attention happens. Where no list is such a chain
  (a model that mixes several streams, or does something between its layers), each attention is a layer, and the model is only
  run whole.
- A layer's output projection is the first linear map after its attention that gives the stream's width of what the heads say, and
  not of what went into the attention.
- What lies between the last layer and the vocabulary head is followed from output to input; what is made of the head's output is
  seen by putting known numbers in its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from locus.errors import UserError
from locus.models.layout import LayerLayout, Layout
from locus.models.probe import LENGTH, Attention, Call, Probe, probe, tokens_of
from locus.models.traces import (
    Unknown,
    as_written,
    factor_of,
    general_path,
    heads_of,
    in_words,
    is_transposed,
    linear_input,
    place_of,
    same,
)
from locus.models.within import look_within

EXPECTED = "a causal LM whose attention heads feed a linear map into the residual stream"
REMEDY = "A model of another kind cannot be audited: it has no heads whose outputs could be edited."
CLOSE = 1e-4


@dataclass(frozen=True)
class LayerParts:
    """Where what is inside one layer's modules.

    Attributes:
        path: of the layer, in the model.
        output: path of the attention's output projection in the model; "" where the layer has no heads.
        transposed: whether that projection's weight is stored as [input, output].
        mlp: path of what is added to the stream besides attention; "" where that is not one module, or is all there is.
        down: path of the MLP's down projection; "" where none was proved to be one.
        turned: whether that projection's weight is stored as [input, output].
    """

    path: str
    output: str = ""
    transposed: bool = False
    mlp: str = ""
    down: str = ""
    turned: bool = False


@dataclass(frozen=True)
class Parts:
    """Where what is inside a model's modules, and how they are called.

    Attributes:
        layers: in order.
        stream: how a layer is handed the residual stream: a place among its arguments, or a keyword.
        tuples: by layer, how many things it gives; 0 where it gives the stream alone.
        past: how a layer is handed the keys and values of earlier tokens; None where it is not handed them.
        tail: paths of the modules between the last layer and the head, in order.
        factor: by which what they give is multiplied before the head.
        head: path of the vocabulary head.
        scale: of its logits.
        softcap: c of c tanh(z / c) that is made of them; None where they stay.
        parallel: whether a layer's MLP reads what its attention does not change.
        routed: to how many of how many experts a token is sent; None where there are none.
        whole: why the model can only be run whole; "" where its layers can be run one by one.
    """

    layers: tuple[LayerParts, ...]
    stream: int | str
    tuples: tuple[int, ...]
    past: int | str | None
    tail: tuple[str, ...]
    factor: float
    head: str
    scale: float
    softcap: float | None
    parallel: bool
    routed: tuple[int, int] | None = None
    whole: str = ""


def discover(hf: Any, name: str) -> tuple[Layout, Parts]:
    """Watch a model read a few tokens, and say how large it is and where its parts are.

    Args:
        hf: a causal LM of transformers, in evaluation mode.
        name: what the user calls it.

    Raises:
        UserError: saying what was looked for and what was seen.
    """
    try:
        return _Seen(hf).found()
    except Unknown as error:
        raise UserError(EXPECTED, f"{name} ({type(hf).__name__}): {error}", REMEDY) from error


class _Seen:
    """A model and what a probe of it showed."""

    def __init__(self, hf: Any):
        self.hf = hf
        self.cached: Probe | None = None
        self.silent: Probe | None = None
        self.paths: dict[int, str] = {id(module): path for path, module in hf.named_modules()}
        try:
            self.probe: Probe = probe(hf, use_cache=False)
        except Exception as error:
            raise Unknown(f"it cannot read a few tokens by themselves ({in_words(error)})") from error
        if self.probe.logits is None or self.probe.logits.shape[1] != LENGTH:
            raise Unknown("it gives no logits for each token that it reads")
        if not self._causal():
            raise Unknown("it is no decoder: what it says of a token depends on the tokens behind it")
        if not self.probe.attentions:
            raise Unknown("looked for attention (a softmax over pairs of tokens), and saw none")

    def _causal(self) -> bool:
        """Whether logits stay where only what follows is changed."""
        tokens, seen = tokens_of(self.hf), self.probe.logits
        assert seen is not None, "logits were seen"
        kept = tokens.shape[1] - 4
        tokens[:, kept:] = tokens[:, kept:].flip(1)
        with torch.no_grad():
            other = self.hf(input_ids=tokens, use_cache=False).logits
        gap = (other[:, :kept] - seen[:, :kept]).abs().max() / seen.abs().max().clamp_min(1e-12)
        return float(gap) <= (2e-5 if seen.dtype == torch.float32 else 0.02)

    def path(self, call: Call) -> str:
        """Of a call's module."""
        return self.paths[id(call.module)]

    def found(self) -> tuple[Layout, Parts]:
        """Everything."""
        head = self._head()
        scale, softcap = self._made_of_logits(head)
        chain = self._chain()
        whole = "" if chain else "its layers do not feed one another"
        tail: tuple[tuple[str, ...], float] | None = None
        if chain:
            tail = self._tail(chain, head)
            whole = "" if tail else "something else is done between its last layer and the vocabulary head"
        groups = [self._attention_of(call) for call in chain]
        if any(len({id(one.within[-1].module) for one in group}) > 1 for group in groups):
            chain, whole = [], "some layers have several attentions"
        loose = "" if chain else whole
        if not chain:
            chain, groups = self._loose()
        width = int(chain[0].first.shape[-1]) if chain[0].first is not None else 0
        sized = [self._layer(call, group, width) for call, group in zip(chain, groups, strict=True)]
        if not any(size.n_heads for size, _ in sized):
            raise Unknown("looked for attention in its layers, and saw none")
        shape = general_path([parts.output for size, parts in sized if size.n_heads])
        within = look_within(self.hf, self.probe, self.paths, chain, [parts for _, parts in sized], loose)
        stream, past = self._stream(chain), self._past(chain) if not whole else None
        parts = Parts(
            layers=within.layers,
            stream=stream,
            tuples=tuple(len(call.output) if isinstance(call.output, tuple | list) else 0 for call in chain),
            past=past,
            tail=tail[0] if tail else (),
            factor=tail[1] if tail else 1.0,
            head=self.path(head),
            scale=scale,
            softcap=softcap,
            parallel=self._parallel(chain, sized),
            routed=max(self.probe.routed, key=lambda one: one[1], default=None),
            whole=whole,
        )
        layout = Layout.of(shape, width, tuple(size for size, _ in sized))
        return replace(layout, points=within.points, absent=within.absent), parts

    def _head(self) -> Call:
        """The last linear map that gives a number for every entry of the vocabulary."""
        logits = self.probe.logits
        assert logits is not None, "seen"
        for call in reversed(self.probe.calls):
            weight, result = getattr(call.module, "weight", None), call.result
            if not isinstance(weight, Tensor) or result is None or call.first is None:
                continue
            if result.shape[-1] == logits.shape[-1] and weight.shape == (logits.shape[-1], call.first.shape[-1]):
                return call
        raise Unknown("looked for a vocabulary head, a matrix whose outputs are the logits, and saw none")

    def _made_of_logits(self, head: Call) -> tuple[float, float | None]:
        """Scale and soft cap of the logits, from what is made of known numbers in the head's place."""
        points = torch.tensor([0.0, 1.0, -1.0, 4.0, -16.0, 64.0, 1e4, -1e4])

        def grid(output: Tensor) -> Tensor:
            known = torch.zeros_like(output)
            known[..., : len(points)] = points[: output.shape[-1]].to(output)
            return known

        try:
            with_known = self.cached = self._with_cache(grid, head.module)
            with_known = with_known or probe(self.hf, grid, head.module, use_cache=False)
        except Exception as error:
            raise Unknown(f"it does not take other numbers in place of the vocabulary head's ({in_words(error)})") from error
        logits = with_known.logits
        assert logits is not None, "the same call as before"
        made = logits[0, -1, : len(points)].double().cpu()
        wide = points[: len(made)].double()
        if len(made) < len(points):
            return 1.0, None
        low = torch.finfo(logits.dtype).eps ** 0.5
        slope, most = float(made[1]), float(made[6])
        if slope and bool(torch.allclose(made, wide * slope, rtol=4 * low, atol=1e-6)):
            return as_written(slope), None
        if most > abs(slope):
            scale = as_written(most * float(torch.atanh(torch.tensor(slope / most, dtype=torch.float64))))
            if bool(torch.allclose(made, most * torch.tanh(wide * scale / most), rtol=1e-2 if low > 1e-3 else 1e-4, atol=1e-4)):
                return scale, most
        raise Unknown("its logits are neither a multiple of what the vocabulary head gives nor soft-capped")

    def _with_cache(self, grid: Callable[[Tensor], Tensor], head: nn.Module) -> Probe | None:
        """A probe that keeps keys and values, with known numbers in the head's place; None where the model cannot."""
        try:
            return probe(self.hf, grid, head, use_cache=True)
        except Exception:  # whatever it needs for that
            return None

    def _chain(self) -> list[Call]:
        """The calls of the layers: the longest list whose members feed one another and hold all attention."""
        best: list[Call] = []
        for _, modules in self.hf.named_modules():
            if not isinstance(modules, nn.ModuleList) or not len(modules):
                continue
            calls = [self.probe.of(module) for module in modules]
            if any(len(one) != 1 for one in calls):
                continue
            chain = [one[0] for one in calls]
            feeds = all(place_of(after, before.result) is not None for before, after in pairwise(chain))
            streams = all(
                call.result is not None and call.result.ndim == 3 and call.result.shape[:2] == (1, LENGTH) for call in chain
            )
            if feeds and streams and any(self._attention_of(call) for call in chain) and len(chain) > len(best):
                best = chain
        inside = sum(len(self._attention_of(call)) for call in best)
        return best if inside == len(self.probe.attentions) else []

    def _attention_of(self, call: Call) -> list[Attention]:
        return [one for one in self.probe.attentions if call in one.within]

    def _loose(self) -> tuple[list[Call], list[list[Attention]]]:
        """Every module that computes attention, as a layer of its own."""
        groups: dict[int, list[Attention]] = {}
        for one in self.probe.attentions:
            if not one.within:
                raise Unknown("looked for modules that compute attention, and saw it outside of any")
            groups.setdefault(id(self._owner(one).module), []).append(one)
        calls = [self._owner(group[0]) for group in groups.values()]
        if again := next((call for call in calls if len(self.probe.of(call.module)) > 1), None):
            times = len(self.probe.of(again.module))
            raise Unknown(f"looked for attentions that are each computed once a token; {self.path(again)} is {times} times")
        return calls, list(groups.values())

    def _owner(self, one: Attention) -> Call:
        """The innermost call around an attention in which its output projection is called, too."""
        for call in reversed(one.within):
            inside = (other for other in self.probe.calls if call in other.parents and other.start > one.when)
            if any(linear_input(other) is not None for other in inside):
                return call
        return one.within[-1]

    def _layer(self, call: Call, group: Sequence[Attention], width: int) -> tuple[LayerLayout, LayerParts]:
        """Sizes and parts of one layer."""
        if not group:
            return LayerLayout(0, 0, 0), LayerParts(self.path(call), mlp=self._mlp(call, None, width))
        one = group[-1]
        read = [other.first for other in self.probe.calls if other.start < one.when and call in other.parents]
        looked = []
        for other in self.probe.calls:
            if other.start < one.when or call not in other.parents:
                continue
            if (inputs := linear_input(other)) is None or any(inputs is early or same(inputs, early) for early in read):
                continue
            if one.value is not None and not self._of_heads(other, inputs):
                continue
            result = other.result
            if result is None or result.shape[-1] != width or width == 0:
                looked.append(f"{self.path(other)} ({inputs.shape[-1]} to {other.module.weight.shape})"[:80])
                continue
            n_heads, d_head = heads_of(one, int(inputs.shape[-1]), self.path(other))
            kv = one.n_kv_heads if n_heads == one.n_heads else n_heads
            transposed = is_transposed(other, inputs, self.path(other))
            kv = kv if n_heads % kv == 0 else n_heads
            parts = LayerParts(self.path(call), self.path(other), transposed, self._mlp(call, other, width))
            return LayerLayout(n_heads, kv, d_head), parts
        raise Unknown(
            f"looked for a linear map from what the {one.n_heads} heads of {self.path(call)} say to the stream's width {width}, "
            f"and saw {', '.join(looked[:3]) or 'none'}"
        )

    def _of_heads(self, call: Call, seen: Tensor) -> bool:
        """Whether what enters a linear map is made of what heads say: where they say nothing, it is the same at every token."""
        if self.silent is None:
            try:
                self.silent = probe(self.hf, silenced=True, use_cache=False)
            except Exception as error:
                raise Unknown(f"it cannot do without what its heads say ({in_words(error)})") from error
        inputs = self.silent.of(call.module)[self.probe.of(call.module).index(call)].first
        return inputs is not None and float((inputs - inputs[:, :1]).abs().max()) <= 1e-6 * float(seen.abs().max())

    def _mlp(self, layer: Call, projection: Call | None, width: int) -> str:
        """What a layer adds to the stream besides attention, where that is one module; else ""."""
        children = [call for call in self.probe.calls if call.parents and call.parents[-1] is layer]
        fitting = [
            call
            for call in children
            if any(entry.ndim >= 2 for entry in call.module.parameters())
            and (projection is None or (call is not projection and call not in projection.parents))
            and call.result is not None
            and call.first is not None
            and call.first.shape == call.result.shape[:2] + call.first.shape[2:]
            and call.result.shape[-1] == width
            and not same(call.result, layer.result)
        ]
        if projection is None:  # what mixes tokens comes first, if both are there
            return self.path(fitting[-1]) if len(fitting) == 2 else ""
        after = [call for call in fitting if call.start > projection.end] or fitting
        return self.path(after[0]) if len(after) == 1 else ""

    def _tail(self, chain: Sequence[Call], head: Call) -> tuple[tuple[str, ...], float] | None:
        """Modules from the last layer to the head, and a factor before it; None where something else is done there."""
        value, after, paths = chain[-1].result, chain[-1].end, list[str]()
        while value is not None:
            if (factor := factor_of(value, head.first)) is not None:
                return tuple(paths), factor
            for call in self.probe.calls:
                if call.start > after and call not in head.parents and call is not head and same(call.first, value):
                    paths.append(self.path(call))
                    value, after = call.result, call.end
                    break
            else:
                return None
        return None

    def _stream(self, chain: Sequence[Call]) -> int | str:
        """How a layer is handed the stream."""
        places = [place_of(after, before.result) for before, after in pairwise(chain)]
        known = [place for place in places if place is not None]
        return known[0] if known else 0

    def _past(self, chain: Sequence[Call]) -> int | str | None:
        """How a layer is handed a cache, seen in a forward that has one."""
        from transformers.cache_utils import Cache

        if self.cached is None:
            return None
        for layer in (call.module for call in chain):
            for call in self.cached.of(layer):
                places: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
                found = next((place for place, value in places if isinstance(value, Cache)), None)
                if found is not None:
                    return found - 1 if isinstance(found, int) and isinstance(self._stream(chain), int) else found
        return None

    def _parallel(self, chain: Sequence[Call], sized: Sequence[tuple[LayerLayout, LayerParts]]) -> bool:
        """Whether the MLP of a layer with heads reads what its attention reads, or begins before attention has ended."""
        modules = dict(self.hf.named_modules())
        for layer, (size, parts) in zip(chain, sized, strict=True):
            if size.n_heads and parts.mlp:
                (mlp, *_), (projection, *_) = (self.probe.of(modules[path]) for path in (parts.mlp, parts.output))
                inside = [call for call in self.probe.calls if layer in call.parents]
                known = [call.first for call in inside if call.start < projection.start]
                known += [call.result for call in inside if call.end < projection.start]
                # A norm of its own may lie between, which reads what the attention's reads.
                read = [mlp.first, *(call.first for call in inside if call.result is not None and same(call.result, mlp.first))]
                return mlp.start < projection.start or any(same(one, other) for one in read for other in known)
        return False
