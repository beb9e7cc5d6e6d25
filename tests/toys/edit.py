"""Two toy edits: a constant that is learned at the heads whatever the read mode, and half of the class-mean direction."""

import torch

from locus.edits import Edit, EditKind, Place, Rank1, Terms


def learned(place: Place) -> Rank1:
    """Trainable, at the identity."""
    return Rank1(place.layout, place.location, read="constant", seed=place.seed, kind="nudge")


def halved(place: Place) -> Edit:
    """With fixed terms: the heads at half of what they say."""
    layers = {}
    for layer in place.location.layers:
        keep = torch.ones(place.layout.d_in(layer))
        for head in place.location.heads(layer):
            keep[place.layout.slice(layer, head)] = 0.5
        layers[layer] = Terms(keep=keep)
    return Edit("halve", place.location, place.layout, layers)


NUDGE = EditKind("nudge", learned, trained=True)
HALVE = EditKind("halve", halved, trained=False)
