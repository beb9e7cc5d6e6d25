"""Weights of planted neurons: one entry of down_proj's input, with the polarity as its column.

A planted neuron reads one coordinate r of the stream, through its up row, and the constant c, through its gate:
silu(g c / |x|) * u r / |x|. Nothing writes either coordinate, and c is positive, so whatever else is done the value keeps the
sign of r, and only |x| changes how large it is. Its column is the polarity, so an edit there that adds z to the value adds z to
the polarity: with z the same for all questions, which many values of the layer give, every margin goes where the edit wants it.
A decoy's value is the truth of an answer, and its column is of noise. Where all neurons are planted (*distributed*), every other
one of a layer pushes the other way, as far but for its share: else their values would be so small that no edit could read them.
"""

import numpy as np

from locus.models.planted.directions import Array, PlantedDirections
from locus.models.planted.kinds import Role
from locus.models.planted.weights import PlantedSize

GATE = 2.0
IDLE = 0.3  # up's gain of neurons that undo one another


def plant_neuron(weights: dict[str, Array], role: Role, size: PlantedSize, directions: PlantedDirections) -> None:
    """Overwrite one neuron with its role, in place; how far it pushes is set later (`push`)."""
    assert role.reads is not None, "a neuron reads something"
    layer, neuron = role.place
    prefix = f"model.layers.{layer}.mlp."
    weights[f"{prefix}gate_proj.weight"][neuron] = GATE / np.sqrt(size.width) * directions["constant"]
    weights[f"{prefix}up_proj.weight"][neuron] = directions[role.reads] / np.sqrt(size.width)
    if role.writes:
        written = sum(directions.polarities[polarity] for polarity in role.writes)
        weights[f"{prefix}down_proj.weight"][:, neuron] = written


def push(weights: dict[str, Array], role: Role, directions: PlantedDirections, strength: float, idle: float = 0.0) -> None:
    """Set how far a planted neuron's value goes: towards the false answer, since questions have -1 along what it reads.

    Args:
        weights: overwritten in place.
        role: the neuron's.
        directions: named.
        strength: of its share in what the model says.
        idle: of what another one of its layer takes back.
    """
    layer, neuron = role.place
    assert role.reads is not None, "a neuron reads something"
    weights[f"model.layers.{layer}.mlp.up_proj.weight"][neuron] = (strength + idle) * directions[role.reads]
