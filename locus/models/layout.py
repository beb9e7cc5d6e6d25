"""How large a causal language model is where edits act, layer by layer; layers need not be alike.

What a layer's heads and points are is seen, not looked up (discovery.py). A layer without attention has no heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

from locus.records.base import JsonObject

AttentionInput = Literal["query", "key", "value"]
UNLIMITED = 1 << 30
INPUTS: tuple[AttentionInput, ...] = ("query", "key", "value")
FILED = {"d_model": "width", "d_head": "head_dim"}
HEADS = "z"  # the point whose widths follow from the heads


@dataclass(frozen=True)
class LayerLayout:
    """One layer's query heads (0 where it has no attention), key-value heads, and the width of what a head says."""

    n_heads: int
    n_kv_heads: int
    d_head: int

    @property
    def d_in(self) -> int:
        """Width of the output projection's input (not always the residual width)."""
        return self.n_heads * self.d_head


@dataclass(frozen=True)
class Layout:
    """Sizes of a model.

    Attributes:
        shape: where its output projections are, as a path; what the first edition called a family's arrangement.
        n_layers: of the model.
        n_heads: query heads of a layer, the most of any.
        n_kv_heads: key-value heads, the most of any layer.
        d_head: width of what a head says, the widest of any layer.
        d_model: width of the residual stream.
        layers: each layer's own sizes; empty where all are alike.
        points: by point at which edits may act (points.py), its width in every layer, 0 where a layer has none.
        absent: by point that the model lacks, why.
    """

    shape: str = field(compare=False)
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    layers: tuple[LayerLayout, ...] = ()
    points: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)
    absent: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, shape: str, d_model: int, layers: tuple[LayerLayout, ...]) -> "Layout":
        """From what each layer has."""
        heads, kv_heads, width = (max(getattr(one, name) for one in layers) for name in ("n_heads", "n_kv_heads", "d_head"))
        return cls(shape, len(layers), heads, kv_heads, width, d_model, () if len(set(layers)) == 1 else layers)

    def to_dict(self, point: str = HEADS) -> JsonObject:
        """As plans and saved edits have it, under the first edition's names.

        Args:
            point: at which edits act; its widths are listed where they do not follow from the heads.
        """
        own = ("layers", "points", "absent")
        sizes: JsonObject = {FILED.get(name, name): value for name, value in vars(self).items() if name not in own}
        listed: list[JsonValue] = [[one.n_heads, one.n_kv_heads, one.d_head] for one in self.layers]
        widths: list[JsonValue] = [*self.points.get(point, ())]
        return {**sizes, **({"layers": listed} if listed else {}), **({"points": {point: widths}} if widths else {})}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Layout":
        """From a plan or a saved edit."""
        named = {{old: new for new, old in FILED.items()}.get(name, name): value for name, value in fields.items()}
        layers = tuple(LayerLayout(*map(int, sizes)) for sizes in named.pop("layers", None) or ())
        if layers and len(layers) != named.get("n_layers"):
            raise ValueError(f"sizes of {len(layers)} layers in a model of {named.get('n_layers')}")
        points = {str(point): tuple(map(int, widths)) for point, widths in dict(named.pop("points", None) or {}).items()}
        if any(len(widths) != named.get("n_layers") or min(widths) < 0 for widths in points.values()):
            raise ValueError("widths of other layers than the model's")
        return cls(**named, layers=layers, points=points)

    def layer(self, index: int) -> LayerLayout:
        """One layer's sizes."""
        return self.layers[index] if self.layers else LayerLayout(self.n_heads, self.n_kv_heads, self.d_head)

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads of each layer: the sites that exist."""
        return tuple(one.n_heads for one in self.layers) if self.layers else (self.n_heads,) * self.n_layers

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key-value heads of each layer."""
        return tuple(one.n_kv_heads for one in self.layers) if self.layers else (self.n_kv_heads,) * self.n_layers

    @property
    def headed(self) -> tuple[int, ...]:
        """The layers that have heads."""
        return tuple(layer for layer, count in enumerate(self.heads) if count)

    def d_in(self, layer: int) -> int:
        """Width of the input of a layer's output projection."""
        return self.layer(layer).d_in

    def width(self, point: str, layer: int) -> int:
        """Width of the vector at a point of a layer; 0 where the layer, or the model, has none."""
        if point == HEADS:
            return self.d_in(layer)
        widths = self.points.get(point)
        return widths[layer] if widths else 0

    def having(self, point: str) -> tuple[int, ...]:
        """The layers that have a point."""
        return tuple(layer for layer in range(self.n_layers) if self.width(point, layer))

    def __str__(self) -> str:
        if not self.layers:
            return f"{self.n_layers} layers of {self.n_heads} heads of {self.d_head}"
        kinds = list(dict.fromkeys(one for one in self.layers if one.n_heads))
        sizes = " or ".join(f"{one.n_heads} heads of {one.d_head}" for one in kinds)
        return f"{self.n_layers} layers, {len(self.headed)} with heads, of {sizes}"

    # Last in the class: its name hides the builtin from the annotations that follow.
    def slice(self, layer: int, head: int) -> slice:
        """The features of one head of a layer."""
        width = self.layer(layer).d_head
        return slice(head * width, (head + 1) * width)


def setting(config: Any, *names: str) -> Any:
    """What a configuration says under the first of some names that it has; None if it says nothing, or of each layer another."""
    for name in names:
        try:
            value = getattr(config, name, None)
        except Exception:  # a configuration may refuse to say of the model what it says of every layer
            continue
        if value is not None:
            return value
    return None


def context(config: Any) -> int:
    """The most tokens a model can read at once; practically unlimited where its configuration sets no limit.

    Families call it by several names, most of which transformers maps to one.
    """
    config = config.get_text_config()  # of a model that reads more than text
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        limit = setting(config, name)
        if isinstance(limit, int) and limit > 0:
            return limit
    return UNLIMITED
