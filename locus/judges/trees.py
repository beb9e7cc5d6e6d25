"""Boosted trees as plain arrays: trained with scikit-learn, shipped and evaluated without it (and without pickle)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS = ("feature", "threshold", "left", "right", "value")
ROWS = 1024


@dataclass(frozen=True)
class Trees:
    """A sum of regression trees, padded to the same number of nodes.

    Attributes:
        feature: column tested at each node, shape (n_trees, n_nodes); a leaf points to itself.
        threshold: go left where the column is at or below it; likewise shaped.
        left: index of the left child; likewise `right`.
        value: of the leaf; 0 elsewhere.
        baseline: added to the sum.
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: NDArray[np.float32]
    baseline: float

    def logit(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds of each row.

        Args:
            x: features, shape (n, n_features), float32: thresholds were rounded for exactly this type.
        """
        logits = [self._logit(x[start : start + ROWS]) for start in range(0, len(x), ROWS)]
        return np.concatenate(logits) if logits else np.zeros(0)

    def _logit(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        rows, trees = np.arange(len(x))[:, None], np.arange(len(self.feature))[None, :]
        node = np.zeros((len(x), len(self.feature)), np.int16)
        while True:
            goes_left = x[rows, self.feature[trees, node]] <= self.threshold[trees, node]
            below = np.where(goes_left, self.left[trees, node], self.right[trees, node])
            if np.array_equal(below, node):
                total: NDArray[np.float64] = self.value[trees, node].astype(np.float64).sum(axis=1)
                return total + self.baseline
            node = below

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Named arrays for a safetensors file."""
        named_arrays = {f"{prefix}.{name}": getattr(self, name) for name in FIELDS}
        return {**named_arrays, f"{prefix}.baseline": np.array([self.baseline])}


def from_arrays(arrays: dict[str, NDArray[Any]], prefix: str) -> Trees:
    """The inverse of `Trees.arrays`."""
    fields = {name: arrays[f"{prefix}.{name}"] for name in FIELDS}
    return Trees(**fields, baseline=float(arrays[f"{prefix}.baseline"][0]))


def from_sklearn(model: Any) -> Trees:
    """Read the trees out of a fitted binary `HistGradientBoostingClassifier`.

    Thresholds are rounded down to float32, so a float32 feature falls on the same side as it did in training.
    """
    nodes = [stage[0].nodes for stage in model._predictors]
    shape = (len(nodes), max(len(tree) for tree in nodes))
    feature, left, right = (np.zeros(shape, np.int16) for _ in range(3))
    threshold, value = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for row, tree in enumerate(nodes):
        own = np.arange(len(tree), dtype=np.int16)
        leaf = tree["is_leaf"].astype(bool)
        n = len(tree)
        feature[row, :n] = np.where(leaf, 0, tree["feature_idx"])
        left[row, :n] = np.where(leaf, own, tree["left"])
        right[row, :n] = np.where(leaf, own, tree["right"])
        exact = np.where(leaf, 0.0, tree["num_threshold"])
        rounded = np.minimum(exact, np.finfo(np.float32).max).astype(np.float32)
        threshold[row, :n] = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        value[row, :n] = np.where(leaf, tree["value"], 0.0)
    return Trees(feature, threshold, left, right, value, float(np.ravel(model._baseline_prediction)[0]))
