"""A run folder of many trials: a small audit whose random Locations are made more, with stores and plans as locus writes them.

A tiny planted model is audited; its plan is then given as many random Locations as are asked for, each searched for with every
setting of a grid and every seed, and the store gets a result of each through `Store.commit`. Scores are drawn at random around
those of the audit: what is measured is how long a run of that size takes to open, to go on with and to conclude.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from locus.audit import audit
from locus.behaviours.items import content_hash
from locus.plan.config import resolve
from locus.records.plan import TrialSpec
from locus.records.result import Result
from locus.records.store import Store

# Four questions are asked and two choose; what is scored beside the main metric is what every audit scores.
SEED: dict[str, Any] = {
    "model": "planted:localized:0",
    "claims": ("0.1",),
    "claim_size": 1,
    "train": 8,
    "validation": 2,
    "test": 4,
    "epochs": 1,
    "random": 4,
    "alpha": 0.25,
    "sequential": False,
    "text_passages": 0,
    "shift_random": 0,
    "iti_strengths": (),
}
BANK = 64  # trials that are committed together
LAYERS, HEADS, SITES = 64, 64, 4  # of the model that the random Locations are said to be of, and heads of each


def small(folder: Path) -> Path:
    """Audit the tiny model in a folder; the folder."""
    audit(resolve("quick", **SEED), folder, sign=False)
    return folder


def grow(run: Path, folder: Path, places: int, settings: int, seeds: int) -> int:
    """Copy a small run, and make the copy one of so many random Locations, settings of the grid and seeds.

    Returns:
        How many trials it has.
    """
    shutil.copytree(run, folder)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (old,) = [bank for bank in plan["banks"] if any(one["id"] == bank[0] and one["role"] == "random" for one in plan["trials"])]
    (sample, *_) = [trial for trial in plan["trials"] if trial["id"] == old[0]]
    kept = [trial for trial in plan["trials"] if trial["id"] not in old]
    taus = [round(0.01 * (1 + number), 4) for number in range(settings)]
    plan["model"]["anatomy"] |= {"n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": HEADS, "width": 4 * HEADS}
    plan["config"] |= {"random": places, "seeds": seeds, "taus": taus}
    made = list(_trials(sample, places, taus, seeds))
    banks = list(_cut([trial["id"] for trial in made], BANK))
    plan["trials"], plan["banks"] = [*kept, *made], [*(bank for bank in plan["banks"] if bank != old), *banks]
    plan.pop("sha256")
    plan["sha256"] = content_hash(plan)
    (folder / "plan.json").write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _fill(folder / "trials.sqlite", old, made)
    for name in ("verdict.json", "receipt.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / "edits").iterdir():
        path.unlink()  # there are as many edits as trials; none is read where a run is opened or concluded
    return len(plan["trials"])


def bare(run: Path, folder: Path, places: int, settings: int, seeds: int) -> int:
    """As `grow`, but the store alone, of more trials than a plan may name."""
    shutil.copytree(run, folder)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (folder / "plan.json").unlink()
    old = [trial for trial in plan["trials"] if trial["role"] == "random"]
    taus = [round(0.01 * (1 + number), 4) for number in range(settings)]
    _fill(folder / "trials.sqlite", [trial["id"] for trial in old], _trials(old[0], places, taus, seeds))
    return len(plan["trials"]) - len(old) + places * settings * seeds


def _trials(sample: dict[str, Any], places: int, taus: Sequence[float], seeds: int) -> Iterator[dict[str, Any]]:
    draw = np.random.default_rng(0)
    for place in range(places):
        heads = sorted(draw.choice(LAYERS * HEADS, SITES, replace=False).tolist())
        sites = [f"{head // HEADS}.{head % HEADS}" for head in heads]
        for tau, seed in product(taus, range(seeds)):
            recipe = {**sample["recipe"], "tau": tau, "seed": seed}
            spec = {**sample, "arm": f"random-{place:06d}", "location": sites, "recipe": recipe, "seed": seed}
            spec.pop("id")
            yield {**spec, "id": content_hash(spec)[:16]}


def _cut(names: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


def results(run: Path, count: int) -> list[Result]:
    """So many results of random Locations, like those of a small run."""
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    sample = next(trial for trial in plan["trials"] if trial["role"] == "random")
    store = Store(run / "trials.sqlite")
    like = _Like(store, sample["id"])
    store.close()
    return [like.result(trial) for trial in _trials(sample, count, [0.1], 1)]


def _fill(path: Path, old: Sequence[str], made: Iterable[dict[str, Any]]) -> None:
    """Take the old random Locations out of a store and commit results of the new ones, bank by bank."""
    store = Store(path)
    like = _Like(store, old[0])
    with store.transaction():
        for table, key in (("trials", "id"), ("scores", "trial"), ("texts", "trial"), ("costs", "trial")):
            store.db.executemany(f"DELETE FROM {table} WHERE {key} = ?", [(name,) for name in old])
    store.db.execute("PRAGMA synchronous = OFF")  # a crash of the machine while it is built is nobody's loss
    coming = iter(made)
    while bank := list(islice(coming, BANK)):
        store.commit([like.result(trial) for trial in bank])
    store.settle()
    store.close()


class _Like:
    """Results like one that a store has, with scores drawn at random around its own."""

    def __init__(self, store: Store, trial: str):
        self.rows = [row[1:] for row in store.dump() if row[0] == trial]
        self.cost = store.costs()[trial]
        (self.fit,) = [one.fit for one in store.trials() if one.id == trial]
        self.draw = np.random.default_rng(1)

    def result(self, trial: dict[str, Any]) -> Result:
        """That of a trial of a plan."""
        scores: dict[tuple[str, str], dict[str, float]] = {}
        noise = self.draw.uniform(-1e-3, 1e-3, len(self.rows))
        for (split, measure, item, value, _), more in zip(self.rows, noise, strict=True):
            scores.setdefault((split, measure), {})[item] = float("nan") if value is None else value + float(more)
        spec = TrialSpec.parse({name: value for name, value in trial.items() if name != "id"})
        return Result(trial["id"], spec, 0.1, True, fit=self.fit, scores=scores, cost=self.cost)
