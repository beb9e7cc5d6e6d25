"""Rows of a fact: what patching and an audit find of it, layer by layer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import locus
from locus.conclude.derive import recorded
from locus.conclude.record import Arm, Record
from locus.models.model import Model
from locus.patching.component import Kind
from locus.patching.pairs import PatchPair
from locus.patching.sweep import How, patch_maps, window
from locus.records.plan import asked_of

# What is restored, by the name of its rows: the kind of site in patching, and how many layers together.
RESTORED: dict[str, tuple[Kind, int]] = {"mlp": ("mlp", 1), "mlp x 5": ("mlp", 5), "resid": ("residual", 1)}


def traced(model: Model, fact: str, pairs: Sequence[PatchPair], how: Sequence[How]) -> Iterator[dict[str, Any]]:
    """Trace a fact: a row for every corruption and for all that is restored, means over its wordings in nats.

    A window counts at its middle layer, and is cut at the ends of the model.

    Args:
        model: the model.
        fact: its id.
        pairs: the fact and its partner in some wordings, each with a span `last`.
        how: it is corrupted.
    """
    layers, layout = range(model.layout.n_layers), model.layout
    by_what = {what: [window(layout, kind, layer, width, "last") for layer in layers] for what, (kind, width) in RESTORED.items()}
    for one in how:
        (found,) = patch_maps(model, pairs, [patch for patches in by_what.values() for patch in patches], one)
        restored = (found.patched - found.corrupted).mean(axis=1).reshape(len(by_what), len(layers))
        row = {"fact": fact, "corruption": found.corruption, "whole": rounded((found.clean - found.corrupted).mean())}
        yield from (
            {**row, "what": what, "restored": list(map(rounded, own))} for what, own in zip(by_what, restored, strict=True)
        )


def edits(folder: Path, n_layers: int, tested: set[str]) -> dict[str, Any]:
    """What an audit of a fact found, by layer.

    Args:
        folder: of the run.
        n_layers: of the model; there is an edit at each.
        tested: the groups that its test questions must be of.

    Returns:
        gain: in nats, of the new object over the old, mean over test questions; says: the probability of the new object of
        the two; moved: as gain, at neighbours. Each by layer, and with `_ceiling` and `_complement`; `says_base` unedited.
        settled: searches that had settled. None where a number is not defined.
    """
    with recorded(folder) as record:
        assert set(record.groups) == tested, "a fact is tested on wordings that it was not traced in, nor its edits trained on"
        away = Record(record.plan, record.store, asked=asked_of(record.plan.also[0].name))
        found: dict[str, Any] = {"says_base": _mean(record, record.find("base")[0], "mc2")}
        for name, one, measure in (("gain", record, "margin"), ("says", record, "mc2"), ("moved", away, "margin")):
            by_layer = {_layer(arm): _mean(one, arm, measure) for arm in one.arms if arm.role in ("claim", "random")}
            assert sorted(by_layer) == list(range(n_layers)), "an edit at every layer"
            found[name] = [by_layer[layer] for layer in range(n_layers)]
            found |= {f"{name}_{role}": _mean(one, one.find(role)[0], measure) for role in ("ceiling", "complement")}
        ends = [arm.ends[0].converged for arm in record.arms if arm.role in ("claim", "random")]
        return {**found, "settled": sum(map(bool, ends)), "asked": len(record.groups), "asked_away": len(away.groups)}


def _mean(record: Record, arm: Arm, measure: str) -> float | None:
    return rounded(record.of(arm, measure).mean())


def _layer(arm: Arm) -> int:
    (layer,) = locus.claim(list(arm.trials[0].spec.location)).location.layers
    return int(layer)


def rounded(value: float) -> float | None:
    """For a file: four digits behind the point, None for what is not defined."""
    return round(float(value), 4) if np.isfinite(value) else None
