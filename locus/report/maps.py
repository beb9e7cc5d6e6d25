"""The linear map by which others' tools can hold an edit: the one that it is at the input of, or whose output is what it changes.

With o = W x + c what a map gives, an edit of it, o + <a, o> b, is o + b (W' a)' x + <a, c> b: a LoRA adapter beside W, and where
there is a c, a bias of its own. What is added to the stream entering a layer, the MLP of the layer before can add. That nothing
stands between a map and what is edited (a norm, a scale, a sum of experts) is not taken for granted: `faithful.compare` tries it.
"""

from dataclasses import dataclass

from torch import Tensor

from locus.edits.base import Edit
from locus.errors import UserError
from locus.models.model import Model
from locus.models.points import POINTS

REMEDY = "Use the saved edit with locus: locus.open_run(RUN).edit(NAME).attach(model)."


@dataclass(frozen=True)
class Map:
    """A linear map of the model.

    Attributes:
        path: of its module.
        weight: W, [d_model, features], float32.
        bias: c, [d_model], float32; None where it has none.
        within: whether the edit is of what enters it, rather than of what it gives.
    """

    path: str
    weight: Tensor
    bias: Tensor | None
    within: bool


def map_of(model: Model, edit: Edit, layer: int) -> Map:
    """The map of an edit in a layer.

    Raises:
        UserError: if there is none, saying why.
    """
    point = POINTS[edit.point]
    own, inner = (layer - 1, point.given_by) if point.side == "stream" else (layer, point.given_by or edit.point)
    wanted = f"a linear map that gives {point.words}, which a bias or an adapter could stand beside"
    if own < 0:
        raise UserError(wanted, "the first layer, which no MLP comes before", REMEDY)
    if not model.layout.width(inner, own):
        why = model.layout.absent.get(inner, f"layer {own} has none")
        raise UserError(wanted, f"{type(model.hf).__name__}: {why}", REMEDY)
    module = model.at(inner, own)
    bias = getattr(module, "bias", None)
    known = bias.detach().float().cpu() if isinstance(bias, Tensor) else None
    weight = model.weight(own, inner).detach().float().cpu()
    return Map(POINTS[inner].path(model.parts.layers[own]), weight, known, point.has_map)
