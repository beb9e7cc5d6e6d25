"""Ablation: what is at the chosen sites set to zero, or to its mean over some text."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from locus.edits.base import Edit, Positions, Terms, acting, site_mask
from locus.models.layout import Layout
from locus.sites.kind import kind_of
from locus.sites.site import Location


def ablate(
    layout: Layout,
    location: Location,
    to: Literal["zero", "mean"] = "zero",
    means: npt.NDArray[np.float32] | None = None,
    positions: Positions = "all",
) -> Edit:
    """Remove what the chosen sites say.

    Args:
        layout: of the model.
        location: the sites.
        to: zero, or the mean output.
        means: [layers, sites, width], needed for `mean`; of as many sites and as wide as any layer's.
        positions: where it acts.
    """
    assert to == "zero" or means is not None, "mean ablation needs the means"
    layers = {}
    for layer in location.layers:
        mask, filled = site_mask(layout, location, layer), None
        if means is not None and to == "mean":
            filled = torch.zeros_like(mask)
            for index in location.indices(layer):
                columns = kind_of(location.kind).columns(layout, layer, index)
                own = torch.from_numpy(means[layer, index]).float()
                filled[columns] = own[: len(filled[columns])]
        layers[layer] = Terms(keep=1 - mask, shift=filled)
    return Edit("ablate", location, layout, layers, acting(location, positions), {"to": to})
