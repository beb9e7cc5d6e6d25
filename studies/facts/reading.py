"""From run folders to rows: what a map of patching and an audit found of a fact, layer by layer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

import locus
from locus.conclude.derive import recorded
from locus.conclude.record import Arm, Record
from locus.records.plan import asked_of

# What is restored, by the name of its rows: the kind of site in patching, and how many layers together.
RESTORED = {"mlp": ("mlp", 1), "mlp x 5": ("mlp", 5), "resid": ("residual", 1)}
Array = npt.NDArray[np.float64]


def traces(folder: Path, owners: Sequence[str], n_layers: int) -> Iterator[dict[str, Any]]:
    """A finished map as rows: by fact, corruption and what is restored, means over the fact's wordings in nats.

    A window counts at its middle layer, and is cut at the ends of the model.

    Args:
        folder: of the map.
        owners: the fact of each example.
        n_layers: layers that have an MLP, and a stream entering them.
    """
    table = pq.read_table(folder / "effects.parquet").to_pandas()
    for corruption in dict.fromkeys(table.corruption):
        for what, (kind, width) in RESTORED.items():
            own = table[(table.corruption == corruption) & (table.site == kind) & (table.width == width)]
            by_layer = [own[own.component == _named(kind, layer, width, n_layers)] for layer in range(n_layers)]
            assert all(sorted(one.example) == list(range(len(owners))) for one in by_layer), "all are patched at every layer"
            ordered = [one.sort_values("example") for one in by_layer]
            restored = np.stack([(one.patched - one.corrupted).to_numpy() for one in ordered])
            whole = (ordered[0].clean - ordered[0].corrupted).to_numpy()
            for fact in dict.fromkeys(owners):
                mine = [at for at, owner in enumerate(owners) if owner == fact]
                row = {"fact": fact, "corruption": corruption, "what": what, "whole": rounded(whole[mine].mean())}
                yield {**row, "restored": [rounded(one) for one in restored[:, mine].mean(axis=1)]}


def _named(kind: str, layer: int, width: int, n_layers: int) -> str:
    low = max(0, layer - width // 2)
    high = min(n_layers, layer - width // 2 + width)
    return " + ".join(f"{kind} {one}@last" for one in range(low, high))


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
