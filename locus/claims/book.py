"""What directions stand for: vectors that somebody claims, and those that are drawn to hold them against.

All random directions are of the training and validation answers that probes are fitted on, at the layer in question:

- *covariance*: a draw from a normal distribution with the activations' covariance, so that it lies where activations vary;
- *shuffled*: the difference of class means after the labels within each question were dealt anew, so that it is what the claim's
  own recipe makes of chance;
- *isotropic*: any direction as likely as any other; hardly anything is there along most of them, and they are for comparison.

One draw is the same in all layers: the same labels, the same weights of the answers.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.claims.probe import Features
from locus.errors import UserError
from locus.sites.known import HASHED, said

Floats = npt.NDArray[np.float32]


class Book:
    """The vectors of an audit's directions.

    Args:
        claimed: by what they are known by, unit vectors [d_model].
        features: the stream entering every layer, at the answers that are looked at.
        seed: of the draws.
    """

    def __init__(self, claimed: Mapping[int, Floats], features: Features, seed: int):
        self.claimed, self.features, self.seed = dict(claimed), features, seed
        self._known = lru_cache(maxsize=4096)(self._vector)

    def __reduce__(self) -> tuple[object, ...]:
        return Book, (self.claimed, self.features, self.seed)

    def __call__(self, layer: int, index: int) -> Tensor:
        """The unit vector of a direction of a layer, [d_model].

        Raises:
            UserError: if nobody said what it is, or it has no length.
        """
        return torch.from_numpy(self._known(layer, index)).clone()

    def spread(self, layer: int, index: int) -> float:
        """Standard deviation of the stream along a direction, in its own units."""
        return float((self._at(layer) @ self._known(layer, index).astype(np.float64)).std())

    def _at(self, layer: int) -> npt.NDArray[np.float64]:
        """[answers, d_model], the stream entering a layer."""
        stream: npt.NDArray[np.float64] = self.features.bank[:, layer, 0].astype(np.float64)
        return stream

    def _vector(self, layer: int, index: int) -> Floats:
        if index >= HASHED:
            if index not in self.claimed:
                remedy = "Claim it from its file, as FILE.npy@12."
                raise UserError("a direction with its vector", f"{index:012x}, which no claim holds", remedy)
            return self.claimed[index]
        way, number = said(index)
        stream = self._at(layer)
        generator = np.random.default_rng([self.seed, index])
        if way == "isotropic":
            vector = generator.standard_normal(stream.shape[1])
        elif way == "covariance":
            vector = generator.standard_normal(len(stream)) @ (stream - stream.mean(axis=0))
        elif way in ("shuffled", "means"):
            wanted = self._dealt(generator) if way == "shuffled" else self.features.truth
            vector = stream[wanted].mean(axis=0) - stream[~wanted].mean(axis=0)
        else:
            raise UserError("a direction that is drawn, or that a claim holds", f"{index:012x}", "Claim it from its file.")
        length = np.linalg.norm(vector)
        if not length > 0:
            raise UserError("a direction", f"{way} number {number} of layer {layer}, of no length", "Use more questions.")
        unit: Floats = np.asarray(vector / length, dtype=np.float32)
        return unit

    def _dealt(self, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
        """The labels, dealt anew among the answers to each question."""
        dealt = self.features.truth.copy()
        for owner in np.unique(self.features.owner):
            own = np.flatnonzero(self.features.owner == owner)
            dealt[own] = dealt[generator.permutation(own)]
        return dealt
