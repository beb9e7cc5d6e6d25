"""Ablation: the chosen heads' outputs set to zero, or to their mean over some text."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from locus.edits.base import Edit, Positions, Terms, head_mask
from locus.models.layout import Layout
from locus.sites.site import Location


def ablate(
    layout: Layout,
    location: Location,
    to: Literal["zero", "mean"] = "zero",
    means: npt.NDArray[np.float32] | None = None,
    positions: Positions = "all",
) -> Edit:
    """Remove what the chosen heads say.

    Args:
        layout: of the model.
        location: the heads.
        to: zero, or the mean output.
        means: [layers, heads, head_dim], needed for `mean`.
        positions: where it acts.
    """
    assert to == "zero" or means is not None, "mean ablation needs the means"
    layers = {}
    for layer in location.layers:
        mask = head_mask(layout, layer, location.heads(layer))
        size, filled = layout.layer(layer), None
        if means is not None and to == "mean":
            filled = torch.from_numpy(means[layer, : size.n_heads, : size.d_head].reshape(-1)).float() * mask
        layers[layer] = Terms(keep=1 - mask, shift=filled)
    return Edit("ablate", location, layout, layers, positions, {"to": to})
