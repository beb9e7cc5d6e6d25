"""One short forward with recorders: every module's call, and every attention, in the order in which they happened.

An attention is seen where it is computed: as a softmax over pairs of tokens between two products, or as torch's own attention
function. Who computes it, and what becomes of it, is read from the calls around it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from locus.models import sliced
from locus.models.spread import is_spread, place_of

LENGTH = 13  # tokens of a probe: a number that no model has experts of
SINKS = 8  # columns that attention may have beside those of the tokens
PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum")


@dataclass
class Call:
    """One call of a module.

    Attributes:
        module: that was called.
        parents: calls that it happened within, outermost first.
        start, end: when it began and ended, in one count of all that was recorded.
        args, kwargs, output: of it.
    """

    module: nn.Module
    parents: tuple["Call", ...]
    start: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    end: int = -1
    output: Any = None

    @property
    def first(self) -> Tensor | None:
        """What went in: the first tensor of floating point among its arguments."""
        return next((one for one in (*self.args, *self.kwargs.values()) if _numbers(one)), None)

    @property
    def result(self) -> Tensor | None:
        """What came out: a tensor, or the first of several."""
        output = self.output[0] if isinstance(self.output, tuple | list) and self.output else self.output
        return output if _numbers(output) else None


@dataclass
class Attention:
    """Where one attention was computed.

    Attributes:
        when: it happened, in the count of the calls.
        within: calls that it happened within, outermost first.
        n_heads: query heads, of all processes.
        query, key, value: [1, heads, T, width]; None where they were not seen.
        weights: what the softmax gave, until the product with the values is seen.
        processes: of which this one computes an equal part of the heads.
    """

    when: int
    within: tuple[Call, ...]
    n_heads: int
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    weights: Tensor | None = None
    processes: int = 1

    @property
    def n_kv_heads(self) -> int:
        """Heads of different values: those that query heads share stand repeated beside one another."""
        if self.value is None or self.value.ndim < 3:
            return self.n_heads
        heads = self.value.detach().reshape(-1, *self.value.shape[-2:])
        return self.processes * (1 + sum(not torch.equal(one, other) for one, other in pairwise(heads)))

    @property
    def d_value(self) -> int | None:
        """Width of a head's value."""
        return None if self.value is None else int(self.value.shape[-1])


@dataclass
class Probe:
    """What one forward showed.

    Attributes:
        length: tokens of its one row.
        calls: of all modules, in order.
        attentions: in order.
        routed: of every choice of the best k of n for each token, k and n: experts, where tokens are sent to some.
        logits: that came out, [1, T, vocabulary].
        processes: that compute the heads, an equal part each: of those of the others nothing is seen.
    """

    length: int
    processes: int = 1
    calls: list[Call] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    routed: list[tuple[int, int]] = field(default_factory=list)
    logits: Tensor | None = None

    def of(self, module: nn.Module) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.module is module]


class _Attentions(TorchFunctionMode):
    """Notes attention as it is computed."""

    def __init__(self, probe: Probe, stack: list[Call], clock: Iterator[int], silenced: bool = False):
        super().__init__()
        self.probe, self.stack, self.clock, self.silenced = probe, stack, clock, silenced
        self.product: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name, attended = getattr(func, "__name__", ""), False
        if name == "scaled_dot_product_attention":
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            attended = self._attended(named["query"], named["key"], named["value"])
        elif name in ("softmax", "_softmax") and isinstance(output, Tensor):
            self._softmax(output)
        elif name in PRODUCTS and isinstance(output, Tensor):
            tensors = [one for one in args if isinstance(one, Tensor)]
            attended = self._product(tensors[-2:], output)
        elif name == "topk" and isinstance(args[0], Tensor) and args[0].ndim >= 2:
            k = args[1] if len(args) > 1 else kwargs["k"]
            if args[0].shape[-1] != self.probe.length:  # else of tokens
                self.probe.routed.append((int(k), int(args[0].shape[-1])))
        return torch.zeros_like(output) if attended and self.silenced else output

    def _attended(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        seen = query.ndim == 4 and query.shape[2] == self.probe.length
        if seen:
            processes = self.probe.processes
            heads = int(query.shape[0] * query.shape[1]) * processes
            within = tuple(self.stack)
            self.probe.attentions.append(Attention(next(self.clock), within, heads, query, key, value, processes=processes))
        return seen

    def _softmax(self, weights: Tensor) -> None:
        length, shape = self.probe.length, weights.shape
        if weights.ndim < 3 or shape[-2] != length or not length <= shape[-1] <= length + SINKS:
            return
        processes = self.probe.processes
        heads = int(torch.Size(shape[:-2]).numel()) * processes
        seen = Attention(next(self.clock), tuple(self.stack), heads, weights=weights, processes=processes)
        if self.product is not None:
            seen.query, seen.key = self.product
        self.probe.attentions.append(seen)

    def _product(self, factors: list[Tensor], output: Tensor) -> bool:
        """Whether the product is one of attention with values."""
        length, last = self.probe.length, self.probe.attentions[-1] if self.probe.attentions else None
        if len(factors) != 2 or output.ndim < 3:
            return False
        if last is not None and last.value is None and last.weights is not None:
            shape = factors[0].shape
            alike = shape[:-1] == last.weights.shape[:-1]  # of which a column may have been left off, that no token stands in
            flat = shape[-2:] == last.weights.shape[-2:] and factors[0].numel() == last.weights.numel()
            if len(shape) >= 3 and shape[-2] == length and (alike or flat):
                last.value, last.weights = factors[1], None
                return True
        elif output.shape[-2:] == (length, length):
            self.product = factors[0], factors[1].transpose(-1, -2)
        return False


def _numbers(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@contextmanager
def recorded(hf: nn.Module, length: int, silenced: bool = False, zeroed: Sequence[nn.Module] = ()) -> Iterator[Probe]:
    """Record all that a model does in a `with` block; its modules are left as they were.

    Args:
        hf: the model, or a part of it.
        length: tokens of its rows.
        silenced: whether all heads say nothing.
        zeroed: modules that are given zeros.
    """
    probe, stack, clock = Probe(length, sliced.processes(hf)), list[Call](), count()

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Call(module, tuple(stack), next(clock), args, dict(kwargs))
        probe.calls.append(call)
        stack.append(call)

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = stack.pop()
        call.end, call.output = next(clock), output

    with ExitStack() as hooks, _Attentions(probe, stack, clock, silenced):
        for module in hf.modules():
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        for module in zeroed:
            hooks.callback(module.register_forward_pre_hook(lambda _, args: (torch.zeros_like(args[0]), *args[1:])).remove)
        yield probe


def tokens_of(hf: Any, length: int = LENGTH) -> Tensor:
    """Tokens for a probe, [1, T]: neighbours differ, as far as the vocabulary goes."""
    table = hf.get_input_embeddings()
    weight = next(hf.parameters()) if table is None else next(table.parameters())
    entries = int(weight.shape[0]) if table is not None else length + 3
    return (torch.arange(3, length + 3) % max(1, entries))[None].to(place_of(hf) if is_spread(hf) else weight.device)


def probe(
    hf: Any,
    grid: Callable[[Tensor], Tensor] | None = None,
    head: nn.Module | None = None,
    silenced: bool = False,
    zeroed: Sequence[nn.Module] = (),
    **options: Any,
) -> Probe:
    """One short forward of a causal LM.

    Args:
        hf: the model.
        grid: put in place of what the vocabulary head gives, to see what is made of it.
        head: that head.
        silenced: whether all heads say nothing: what is made of what they say is then the same at every token.
        zeroed: modules that are given zeros.
        options: of the call.
    """
    tokens = tokens_of(hf)
    handle = None if head is None or grid is None else head.register_forward_hook(lambda _, __, output: grid(output))
    try:
        with torch.no_grad(), recorded(hf, tokens.shape[1], silenced, zeroed) as found:
            found.logits = hf(input_ids=tokens, **options).logits.detach()
    finally:
        if handle is not None:
            handle.remove()
    return found
