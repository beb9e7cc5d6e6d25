"""What a map says: every component's effect with its interval, which are found at a stated error rate, and how steadily."""

import math
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np

from locus.patching.component import Component, Patch
from locus.patching.detect import Detection, bootstrap_stability, detect, split_halves, top, two_deviations
from locus.patching.metrics import Array, Effects
from locus.patching.settings import PatchConfig
from locus.patching.sweep import PatchMap
from locus.records.patch import ComponentEffect, Ends, Halves, MapRecord, MapSetting, Stability, TwoDeviations


@dataclass(frozen=True)
class Outcome:
    """One map with what was found in it.

    Attributes:
        setting: tokens, corruption, metric and site, and the width of windows.
        map: values by patch and example.
        effects: normalised effects.
        detection: the test of every patch.
        record: all of it, as patch.json has it.
    """

    setting: MapSetting
    map: PatchMap
    effects: Effects
    detection: Detection
    record: MapRecord

    @property
    def label(self) -> str:
        """The setting in a few words."""
        return self.setting.label


def outcome(config: PatchConfig, setting: MapSetting, patch_map: PatchMap) -> Outcome:
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
    record = MapRecord(
        **dict(setting),
        n=effects.values.shape[1],
        normalise=effects.normalise,
        clean=_number(patch_map.clean.mean()),
        corrupted=_number(patch_map.corrupted.mean()),
        warnings=(*patch_map.warnings, *([tested.reason] if tested.reason else [])),
        components=tuple(
            _component(patch, index, tested, bool(rough.detected[index])) for index, patch in enumerate(patch_map.patches)
        ),
        detected=tuple(name for name, is_detected in zip(patch_map.names, tested.detected, strict=True) if is_detected),
        two_deviations=TwoDeviations(
            detected=tuple(name for name, is_detected in zip(patch_map.names, rough.detected, strict=True) if is_detected),
            expected_false=rough.expected_false,
            sentence=rough.label,
        ),
        halves=_halves(config, effects.values, patch_map.names),
        stability=_stability(effects.values, tested, config.seed),
    )
    return Outcome(setting, patch_map, effects, tested, record)


def _number(value: SupportsFloat) -> float | None:
    return float(value) if math.isfinite(value) else None


def _component(patch: Patch, index: int, tested: Detection, rough: bool) -> ComponentEffect:
    first: Component = patch[0]
    interval = tested.intervals[index]
    return ComponentEffect(
        name=" + ".join(map(str, patch)),
        layer=first.layer,
        head=first.head,
        position=first.position,
        mean=_number(tested.mean[index]),
        low=_number(interval.low),
        high=_number(interval.high),
        p=_number(tested.p[index]),
        adjusted=_number(tested.adjusted[index]),
        found=bool(tested.detected[index]),
        two_deviations=rough,
    )


def _halves(config: PatchConfig, values: Array, names: list[str]) -> Halves:
    """What one half of the examples finds, with effects from the other half: free of the winner's curse."""
    n = values.shape[1]
    if n < 4:
        return Halves(found=(), held_out={}, reason=f"{n} examples are too few to halve")
    order = np.random.default_rng(config.seed).permutation(n)
    one, two = values[:, order[: n // 2]], values[:, order[n // 2 :]]
    first_half, second_half = (
        detect(half, alpha=config.alpha, control=config.control, least=config.least, draws=draws, seed=config.seed)
        for half, draws in ((one, config.flips), (two, 100))
    )
    held_out: dict[str, Ends] = {}
    for index in np.flatnonzero(first_half.detected):
        interval = second_half.intervals[index]
        held_out[names[index]] = _number(second_half.mean[index]), _number(interval.low), _number(interval.high)
    return Halves(found=tuple(held_out), held_out=held_out, reason=first_half.reason)


def _stability(values: Array, tested: Detection, seed: int) -> Stability:
    """How far the strongest components, as many as were found, are the same in other examples."""
    count = int(tested.detected.sum())
    if count == 0 or values.shape[1] < 4:
        return Stability(jaccard=None, chance=None, split_jaccard=None, split_correlation=None, size=count)
    rule = top(count)
    resampled, split = bootstrap_stability(values, rule, seed=seed), split_halves(values, rule, seed=seed)
    return Stability(
        jaccard=_number(resampled.jaccard),
        chance=_number(resampled.chance),
        split_jaccard=_number(split.jaccard),
        split_correlation=_number(split.correlation),
        size=count,
    )
