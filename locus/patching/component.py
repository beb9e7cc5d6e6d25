"""What can be patched, and how it is written."""

from dataclasses import dataclass
from typing import Literal

from locus.models import inputs
from locus.models.layout import AttentionInput, Layout
from locus.models.model import Model

Kind = Literal["head", "query", "key", "value", "attention", "mlp", "residual"]
HOOKED: tuple[Kind, ...] = ("query", "key", "value", "head", "attention", "mlp")
HEADED: tuple[Kind, ...] = ("head", "query", "key", "value")


def attention_input(kind: Kind) -> AttentionInput:
    """A kind that is an input of attention, as one."""
    assert kind == "query" or kind == "key" or kind == "value", f"{kind} is no input of a head"
    return kind


@dataclass(frozen=True)
class Component:
    """What is patched: a head's output or one of its inputs, an attention or MLP output, or the residual stream.

    Attributes:
        kind: "head" (a query head's slice of the output projection's input), "query" (of a query head), "key" or "value"
            (of a key-value head, which several query heads share under GQA), "attention" (the projection's output),
            "mlp" (the block's output) or "residual" (what enters the layer; layer = n_layers is the last output).
            Outputs are taken before a post-norm, where a family has one: whole vectors are replaced, so it is the same.
            Queries, keys and values are taken before norms and rotation, which act position by position: to replace
            them is to replace what that head reads of the residual stream.
        layer: zero-based.
        head: of the kinds that have heads; for keys and values it counts key-value heads.
        position: None for all, a token position (negative from the end), or the name of a span.
    """

    kind: Kind
    layer: int
    head: int | None = None
    position: int | str | None = None

    def __post_init__(self) -> None:
        assert (self.kind in HEADED) == (self.head is not None), "a head has a head index, and nothing else has"

    def __str__(self) -> str:
        place = str(self.layer) if self.head is None else f"{self.layer}.{'kv' if self.shared else ''}{self.head}"
        name = place if self.kind == "head" else f"{self.kind} {place}"
        return name if self.position is None else f"{name}@{self.position}"

    @property
    def shared(self) -> bool:
        """Whether its head is a key-value head."""
        return self.kind in ("key", "value")

    def features(self, model: Model) -> slice:
        """Its features in what is held of its kind and layer."""
        if self.head is None:
            return slice(None)
        if self.kind == "head":
            return model.layout.slice(self.layer, self.head)
        return inputs.attention_input(model, attention_input(self.kind), self.layer)[1][self.head]

    def exists(self, layout: Layout) -> bool:
        """Whether a model has it."""
        layers = layout.n_layers + (self.kind == "residual")
        if not 0 <= self.layer < layers:
            return False
        heads = layout.kv_heads if self.shared else layout.heads
        return self.kind in ("residual", "mlp") or 0 <= (self.head or 0) < heads[self.layer]


Patch = tuple[Component, ...]
