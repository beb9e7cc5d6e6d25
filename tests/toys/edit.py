"""Two toy edits: a constant that is learned at the heads whatever the read mode, and half of the class-mean direction."""

import torch

from locus.edits import Edit, EditKind, Place, Rank1, Terms


def learned(place: Place) -> Rank1:
    """Trainable, at the identity."""
    return Rank1(place.layout, place.location, read="constant", seed=place.seed, kind="nudge")


def halved(place: Place) -> Edit:
    """With fixed terms: the heads at half of what they say."""
    layers = {}
    for layer, slices in place.layers.items():
        keep = torch.ones(place.width(layer))
        for columns in slices:
            keep[columns] = 0.5
        layers[layer] = Terms(keep=keep)
    return Edit("halve", place.location, place.layout, layers)


NUDGE = EditKind("nudge", learned, trained=True)
HALVE = EditKind("halve", halved, trained=False)
