"""The ITI shift: o <- o + alpha theta on chosen heads (or other sites), theta_h = sigma_h u_h from activation statistics.

u_h is the unit mass-mean direction (mean over true answers minus mean over false ones), sigma_h the population standard
deviation of the activations projected on u_h.

Source: Li et al. 2023 (arXiv 2306.03341); Wang & Veitch 2025, eq. 2.5. Where sigma comes from matters a great deal: pass the
bank of the paper (one for all) or a second bank, as ITI's code does. Only training and validation questions are used.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from locus.edits.base import Edit, Positions, Terms, acting
from locus.edits.kind import EditKind, Place
from locus.models.layout import Layout
from locus.sites.kind import kind_of
from locus.sites.site import Location

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Directions:
    """Steering statistics of every site.

    Attributes:
        unit: [layers, sites, width], mass-mean directions of unit length; zero where the two means agree exactly.
        sigma: [layers, sites], standard deviation of the activations along them, in activation units.
    """

    unit: Floats
    sigma: Floats


def directions(features: Floats, truth: npt.NDArray[np.bool_], spread: Floats | None = None) -> Directions:
    """Mass-mean directions and their spread.

    Args:
        features: [answers, layers, sites, width], what is at every site at the feature token.
        truth: [answers], whether the answer is true.
        spread: the bank sigma is taken from, same layout; `features` by default.
    """
    gap = features[truth].mean(axis=0, dtype=np.float64) - features[~truth].mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(gap, axis=-1, keepdims=True)
    unit = np.divide(gap, norm, out=np.zeros_like(gap), where=norm > 0)
    bank = features if spread is None else spread
    sigma = np.einsum("nlhd,lhd->nlh", bank.astype(np.float64), unit).std(axis=0)
    return Directions(unit.astype(np.float32), sigma.astype(np.float32))


def shift(layout: Layout, location: Location, directions: Directions, alpha: float, positions: Positions = "answer") -> Edit:
    """The ITI shift at a Location with strength alpha (in standard deviations)."""
    layers, own = {}, kind_of(location.kind)
    for layer in location.layers:
        vector = torch.zeros(layout.width(own.point, layer))
        for index in location.indices(layer):
            columns = own.columns(layout, layer, index)
            along = torch.from_numpy(directions.unit[layer, index] * directions.sigma[layer, index])
            vector[columns] = along[: len(vector[columns])]
        layers[layer] = Terms(shift=alpha * vector)
    return Edit("shift", location, layout, layers, acting(location, positions), {"alpha": alpha})


def _make(place: Place) -> Edit:
    assert place.strength is not None, "a shift has a strength"
    return shift(place.layout, place.location, place.directions, place.strength)


KIND = EditKind("shift", _make, trained=False, positions="answer", strengths=None, called="iti")
