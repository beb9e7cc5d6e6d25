"""Where things are inside a causal language model, by family; the only file that knows architecture names."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from torch import Tensor, nn

from locus.errors import UserError
from locus.records.base import JsonObject

AttentionInput = Literal["query", "key", "value"]
UNLIMITED = 1 << 30
INPUTS: tuple[AttentionInput, ...] = ("query", "key", "value")


@dataclass(frozen=True)
class Shape:
    """Paths inside a Hugging Face module.

    Attributes:
        blocks: the list of layers.
        output: within a layer, the attention's output projection.
        mlp: within a layer, the MLP.
        norm: the final norm.
        inputs: within a layer, what makes queries, keys and values; the same path three times where one matrix makes all.
        fused: how that one matrix lays them out: "blocks" (all queries, all keys, all values) or "heads" (head by head);
            "" where each has its own.
        past: how a layer is handed the keys and values of earlier tokens: a keyword, or a place after the hidden states.
    """

    blocks: str
    output: str
    mlp: str
    norm: str
    inputs: tuple[str, str, str]
    fused: Literal["", "blocks", "heads"] = ""
    past: str | int = "past_key_values"


SHAPES: dict[str, Shape] = {
    "llama": Shape(
        "model.layers",
        "self_attn.o_proj",
        "mlp",
        "model.norm",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ),
    "gpt2": Shape("transformer.h", "attn.c_proj", "mlp", "transformer.ln_f", ("attn.c_attn",) * 3, "blocks", 0),
    "gpt_neox": Shape(
        "gpt_neox.layers",
        "attention.dense",
        "mlp",
        "gpt_neox.final_layer_norm",
        ("attention.query_key_value",) * 3,
        "heads",
        "layer_past",
    ),
}


FILED = {"d_model": "width", "d_head": "head_dim"}


@dataclass(frozen=True)
class Layout:
    """Sizes of a model: layers, query heads a layer, key-value heads, width of one head, width of the residual stream."""

    shape: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int

    def to_dict(self) -> JsonObject:
        """As plans and saved edits have it, under the first edition's names."""
        return {FILED.get(name, name): value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Layout":
        """From a plan or a saved edit."""
        return cls(**{{old: new for new, old in FILED.items()}.get(name, name): value for name, value in fields.items()})

    @property
    def d_in(self) -> int:
        """Width of the output projection's input, n_heads * head_dim (not always the residual width)."""
        return self.n_heads * self.d_head

    def input_slice(self, kind: AttentionInput, head: int) -> slice:
        """The features of one head's query, or of one key-value head's key or value, in what makes them."""
        fused, place = SHAPES[self.shape].fused, INPUTS.index(kind)
        # No family here has both one matrix for all three and fewer key-value heads than query heads.
        block = head if not fused else place * self.n_heads + head if fused == "blocks" else 3 * head + place
        return slice(block * self.d_head, (block + 1) * self.d_head)

    # Last in the class: its name hides the builtin from the annotations that follow.
    def slice(self, head: int) -> slice:
        """The features of one head."""
        return slice(head * self.d_head, (head + 1) * self.d_head)


def examine(hf: nn.Module, name: str) -> Layout:
    """The layout of a Hugging Face model.

    Raises:
        UserError: saying what was looked for and not found, or what does not fit together.
    """
    config: Any = hf.config
    looked = []
    for key, shape in SHAPES.items():
        if lacking := _lacking(hf, shape):
            looked.append(lacking)
            continue
        layers = list(hf.get_submodule(shape.blocks))  # type: ignore[call-overload]
        outputs = [layer.get_submodule(shape.output) for layer in layers]
        try:
            heads, width = int(config.num_attention_heads), int(config.hidden_size)
            kv = int(getattr(config, "num_key_value_heads", None) or heads)
            features = _features(outputs[0])
            head_dim = int(getattr(config, "head_dim", None) or features // heads)
        except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
            looked.append(f"whole numbers above 0 for num_attention_heads and hidden_size ({error})")
            break
        weights: list[Tensor] = [one.weight for one in outputs]
        if not all(weight.is_floating_point() and weight.ndim == 2 for weight in weights):
            looked.append(f"matrices of plain numbers at {shape.blocks}.*.{shape.output}.weight")
        elif min(heads, kv, width) < 1 or heads % kv or any(heads * head_dim != _features(one) for one in outputs):
            looked.append(f"{heads} heads of {head_dim} in {features} features, on {kv} key-value heads")
        else:
            return Layout(key, len(layers), heads, kv, head_dim, width)
        break
    raise UserError(
        "a causal LM of the Llama shape (Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3, SmolLM), GPT-2 or GPT-NeoX, "
        "whose attention output projection takes num_attention_heads * head_dim features",
        f"{name} ({type(hf).__name__}); looked for " + ", ".join(looked),
        "Use a supported architecture, or add its paths to SHAPES in locus/models/layout.py.",
    )


def _features(output: Any) -> int:
    """The width of an output projection's input, whatever way round its weight is stored."""
    return int(output.weight.shape[0 if type(output).__name__ == "Conv1D" else -1])


def _lacking(hf: Any, shape: Shape) -> str:
    """The first path of a shape that a model does not have; empty if it has all."""
    try:
        layers = list(hf.get_submodule(shape.blocks))
    except (AttributeError, TypeError):
        return f"{shape.blocks}.*.{shape.output}"
    if not layers:
        return f"a layer in {shape.blocks}"
    for path in (shape.output, f"{shape.output}.weight", shape.mlp):
        if not all(_has(layer, path) for layer in layers):
            return f"{shape.blocks}.*.{path}"
    if not _has(hf, shape.norm):
        return shape.norm
    return "" if _has(hf, "get_output_embeddings") and _has(hf.get_output_embeddings(), "weight") else "a vocabulary head"


def _has(module: Any, path: str) -> bool:
    try:
        return attrgetter(path)(module) is not None
    except AttributeError:
        return False


def parallel(config: Any) -> bool:
    """Whether a layer's attention and its MLP both read what enters the layer, and neither reads the other."""
    return bool(getattr(config, "use_parallel_residual", False))


def windows(config: Any, n_layers: int) -> list[int | None]:
    """Attention window of every layer in tokens, None where a token sees all before it."""
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", True) is False:
        return [None] * n_layers
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * n_layers
    return [int(window) if kind == "sliding_attention" else None for kind in types]


def context(config: Any) -> int:
    """The most tokens a model can read at once; practically unlimited where its configuration sets no limit.

    Families call it by several names, most of which transformers maps to one.
    """
    config = config.get_text_config()  # of a model that reads more than text
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return UNLIMITED
