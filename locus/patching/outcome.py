"""What a map says: every component's effect with its interval, which are found at a stated error rate, and how steadily."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from locus.patching.component import Component, Patch
from locus.patching.detect import Detection, bootstrap_stability, detect, split_halves, top, two_deviations
from locus.patching.metrics import Array, Effects
from locus.patching.settings import PatchConfig
from locus.patching.sweep import PatchMap


@dataclass(frozen=True)
class Outcome:
    """One map with what was found in it.

    Attributes:
        setting: tokens, corruption, metric and site, and the width of windows.
        map: values by patch and example.
        effects: normalised effects.
        detection: the test of every patch.
        entry: all of it as JSON, for patch.json.
    """

    setting: dict[str, Any]
    map: PatchMap
    effects: Effects
    detection: Detection
    entry: dict[str, Any]

    @property
    def label(self) -> str:
        """The setting in a few words."""
        return label(self.setting)


def label(setting: dict[str, Any]) -> str:
    """A setting in a few words."""
    width = f", windows of {setting['width']}" if setting["width"] > 1 else ""
    tokens = f"{setting['tokens']}, " if setting["tokens"] else ""
    return f"{tokens}{setting['corruption']}, {setting['metric']}, {setting['site']}{width}"


def outcome(config: PatchConfig, setting: dict[str, Any], patch_map: PatchMap) -> Outcome:
    """Test a map.

    Args:
        config: level, control, least effect and seed.
        setting: what the map is of.
        patch_map: the map.
    """
    effects = patch_map.effects(config.normalise)
    if effects.reason and config.normalise != "none":  # an ablation has no scale of its own
        effects = patch_map.effects("none")
    tested = detect(
        effects.values, alpha=config.alpha, control=config.control, least=config.least, draws=config.flips, seed=config.seed
    )
    rough = two_deviations(effects.values)
    entry = {
        **setting,
        "n": effects.values.shape[1],
        "normalise": effects.normalise,
        "clean": _number(patch_map.clean.mean()),
        "corrupted": _number(patch_map.corrupted.mean()),
        "warnings": [*patch_map.warnings, *([tested.reason] if tested.reason else [])],
        "components": [
            _component(patch, index, tested, bool(rough.detected[index])) for index, patch in enumerate(patch_map.patches)
        ],
        "detected": [name for name, is_detected in zip(patch_map.names, tested.detected, strict=True) if is_detected],
        "two_deviations": {
            "detected": [name for name, is_detected in zip(patch_map.names, rough.detected, strict=True) if is_detected],
            "expected_false": rough.expected_false,
            "sentence": rough.label,
        },
        "halves": _halves(config, effects.values, patch_map.names),
        "stability": _stability(effects.values, tested, config.seed),
    }
    return Outcome(setting, patch_map, effects, tested, entry)


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _component(patch: Patch, index: int, tested: Detection, rough: bool) -> dict[str, Any]:
    first: Component = patch[0]
    interval = tested.intervals[index]
    return {
        "name": " + ".join(map(str, patch)),
        "layer": first.layer,
        "head": first.head,
        "position": first.position,
        "mean": _number(tested.mean[index]),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "p": _number(tested.p[index]),
        "adjusted": _number(tested.adjusted[index]),
        "found": bool(tested.detected[index]),
        "two_deviations": rough,
    }


def _halves(config: PatchConfig, values: Array, names: list[str]) -> dict[str, Any]:
    """What one half of the examples finds, with effects from the other half: free of the winner's curse."""
    n = values.shape[1]
    if n < 4:
        return {"found": [], "held_out": {}, "reason": f"{n} examples are too few to halve"}
    order = np.random.default_rng(config.seed).permutation(n)
    one, two = values[:, order[: n // 2]], values[:, order[n // 2 :]]
    settings: dict[str, Any] = {"alpha": config.alpha, "least": config.least, "draws": config.flips, "seed": config.seed}
    first_half = detect(one, control=config.control, **settings)
    second_half = detect(two, control=config.control, **{**settings, "draws": 100})
    held_out = {
        names[index]: [
            _number(one) for one in (second_half.mean[index], second_half.intervals[index].low, second_half.intervals[index].high)
        ]
        for index in np.flatnonzero(first_half.detected)
    }
    return {"found": list(held_out), "held_out": held_out, "reason": first_half.reason}


def _stability(values: Array, tested: Detection, seed: int) -> dict[str, Any]:
    """How far the strongest components, as many as were found, are the same in other examples."""
    count = int(tested.detected.sum())
    if count == 0 or values.shape[1] < 4:
        return {"jaccard": None, "chance": None, "split_jaccard": None, "split_correlation": None, "size": count}
    rule = top(count)
    resampled, split = bootstrap_stability(values, rule, seed=seed), split_halves(values, rule, seed=seed)
    return {
        "jaccard": _number(resampled.jaccard),
        "chance": _number(resampled.chance),
        "split_jaccard": _number(split.jaccard),
        "split_correlation": _number(split.correlation),
        "size": count,
    }
