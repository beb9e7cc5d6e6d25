"""Repeat random trials of a run and hold what comes out against what is stored.

A trial's whole bank is repeated, since its edits share a forward; on the same machine the scores are the same bits. Elsewhere
sums are taken in another order, so smooth scores may differ by `TOLERANCE` (absolute, and relative), and scores that jump (a
choice between answers, a generated text) may differ for few items.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from locus import conclude, datasets, plan_file, run, trials
from locus.audit import set_up
from locus.claims import Claim
from locus.config import AuditConfig
from locus.errors import UserError, VerificationError
from locus.report.derived import copied_store, first_difference
from locus.sites import Location
from locus.store import Result, Store

SMOOTH = ("mc2", "margin", "kl", "ce")
TOLERANCE = 1e-3
JUMPS = 0.02  # share of items, and always one, for which a score that jumps may differ


def rerun(
    folder: Path, count: int, seed: int | None = None, told: Callable[[str, float], None] = lambda what, share: None
) -> dict[str, Any]:
    """Repeat `count` random finished trials, with the banks they belong to.

    Args:
        folder: the run folder; nothing in it is written.
        count: how many trials are drawn.
        seed: of the draw; by default one that nobody could know beforehand.
        told: told what goes on and the share of it.

    Returns:
        `seed`, `drawn` (ids), `repeated` (number of trials compared), `largest` (measure -> largest absolute difference).

    Raises:
        UserError: if model or data cannot be had, or `count` is not positive.
        VerificationError: if they are others than the run's, or with the first score that differs.
    """
    if count < 1:
        raise UserError("at least one trial to repeat", str(count), "Give --rerun 1 or more.")
    recorded = conclude.read_plan(folder)
    plan, bench = _prepared(recorded, told)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    largest: dict[str, float] = {}
    with copied_store(folder) as store, tempfile.TemporaryDirectory() as place:
        done = sorted(store.done() & {trial.id for trial in plan.trials})
        chosen = set(np.random.default_rng(seed).choice(done, size=min(count, len(done)), replace=False).tolist())
        banks = [bank for bank in plan.banks if chosen & set(bank)]
        for number, bank in enumerate(banks):
            told("repeating trials", number / len(banks))
            here = [plan.trial(identity) for identity in bank]
            for result in run.run_bank(here, bench, Path(place), lambda share: None):
                if result.id in done:
                    _compare(result, store, largest)
    return {"seed": seed, "drawn": sorted(chosen), "repeated": len({one for bank in banks for one in bank}), "largest": largest}


def _prepared(recorded: dict[str, Any], told: Callable[[str, float], None]) -> tuple[trials.Plan, run.Bench]:
    """The plan made anew from its claims, on model and data that are the run's.

    Raises:
        VerificationError: naming the first part in which they are not.
    """
    config = AuditConfig(**recorded["config"])
    dataset = datasets.load(config.data)
    bench = set_up(config, dataset, told)
    claims = [
        Claim(one["name"], Location.parse(",".join(one["heads"])), one["origin"], one["scores"], one["about"])
        for one in recorded["claims"]
    ]
    document = plan_file.document(bench, dataset, [], recorded["schema"])
    if difference := first_difference(recorded["context"], json.loads(json.dumps(document["context"]))):
        raise VerificationError(f"the trials would be run on something else: {difference}")
    plan = trials.make(config, bench.model.anatomy, claims, document, run.room(bench))
    # Which trials share a forward is the run's: on a device with other memory they would be grouped otherwise.
    banks = tuple(map(tuple, recorded["banks"]))
    if {trial.id for trial in plan.trials} != {one for bank in banks for one in bank}:
        raise VerificationError("this version of locus plans other trials than the run's")
    return replace(plan, banks=banks), bench


def _compare(result: Result, store: Store, largest: dict[str, float]) -> None:
    """Hold a repeated trial's scores against the stored ones; note the largest difference of each measure."""
    for (split, measure), values in result.scores.items():
        items = list(values)
        stored = store.scores(result.id, split, measure, items)
        fresh = np.array([values[item] for item in items], dtype=np.float64)
        gap = np.where(np.isnan(stored) & np.isnan(fresh), 0.0, np.abs(stored - fresh))
        wrong = ~(gap <= TOLERANCE * (1 + np.abs(stored)))
        largest[measure] = max(largest.get(measure, 0.0), float(np.nanmax(gap, initial=0.0)))
        allowed = 0 if measure in SMOOTH else max(1, int(JUMPS * len(items)))
        if wrong.sum() > allowed:
            at = int(np.argmax(wrong))
            raise VerificationError(
                f"trial {result.id} ({result.role} {result.arm}), {measure} of {split} item {items[at]}: "
                f"stored {stored[at]:.6g}, repeated {fresh[at]:.6g}; {int(wrong.sum())} of {len(items)} items differ"
            )
