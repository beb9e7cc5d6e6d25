"""The shape of a model that is not here, from its configuration: what its work and its memory grow with.

Counted are decoders whose layers are alike: attention with shared keys and values, and an MLP with a gate. What a configuration
does not say is not guessed.
"""

from dataclasses import dataclass
from pathlib import Path

from locus.engine.cost import Sizes
from locus.errors import UserError
from locus.models.checkpoint import read_config, size

NEEDED = ("layers", "heads", "width", "inner width", "vocabulary")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        sizes: what multiply-adds grow with.
        d_model: width of the residual stream.
        parameters: entries of all matrices, embeddings included.
    """

    sizes: Sizes
    d_model: int
    parameters: int


def shape_of(path: Path) -> Shape:
    """The shape that a config.json, or the folder it is in, speaks of.

    Raises:
        UserError: if it lacks a size, or has experts, whose work does not follow from these sizes.
    """
    config = read_config(path / "config.json" if path.is_dir() else path)
    about = text if isinstance(text := config.get("text_config"), dict) else config
    known = {name: size(about, name) for name in NEEDED}
    if absent := [name for name, value in known.items() if value is None]:
        raise UserError("a config.json that says layers, heads, widths and vocabulary", f"no {', '.join(absent)}", "Mend it.")
    if experts := [name for name in about if "expert" in name and about[name] not in (None, 0, 1, False)]:
        raise UserError(
            "a model whose tokens all go through the same matrices", f"{experts[0]} in {str(path)!r}", "Give another."
        )
    layers, heads, width, inner, words = (int(known[name] or 0) for name in NEEDED)
    head = size(about, "head width") or width // heads
    shared = (size(about, "key-value heads") or heads) * head
    attention, mlp = width * (2 * heads * head + 2 * shared), 3 * width * inner
    sizes = Sizes(layers, attention + mlp, width * heads * head + mlp, mlp, heads * head, width * words)
    tied = bool(about.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return Shape(sizes, width, layers * (attention + mlp) + width * words * (1 if tied else 2))
