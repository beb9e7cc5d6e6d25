"""Our side of each comparison; every function is run in a process of its own and times only the work."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floor, material
from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat
from locus.conclude.rule import rule
from locus.edits import Rank1, full
from locus.engine.activations import base_pass
from locus.engine.train import TrainingRecipe, schedule, train
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.metrics.choice import score
from locus.models.model import Model
from locus.plan import context
from locus.sites.site import Location

RATE = 1e-2  # high enough that a dozen steps move the loss, so that comparing them means something


def _started(model: Any, place: str, form: str, seed: int) -> Rank1:
    """A fresh edit at "all", at whole layers ("3" or "3,7") or at heads ("3.1,7.2")."""
    layout = model.layout
    if place == "all":
        return full(layout, form=form, seed=seed)  # type: ignore[arg-type]
    if "." in place:
        return Rank1(layout, Location.parse(place), seed=seed)
    heads = ",".join(f"{layer}.{head}" for layer in place.split(",") for head in range(layout.n_heads))
    return Rank1(layout, Location.parse(heads), form=form, seed=seed)  # type: ignore[arg-type]


def training(
    model: str, data: str, count: int, places: list[str], form: str = "heads", batching: str = "questions", bank: int = 6
) -> dict[str, Any]:
    """Train one edit at every place for one epoch of IPO (mean over tokens), banks of `bank`; the reference pass included."""
    frozen, items = material.frozen(model), material.questions(data, count)
    recipe = TrainingRecipe(tau=0.1, lr=RATE, reduce="mean", epochs=1, batch=4, batching=batching)  # type: ignore[arg-type]
    start = time.perf_counter()
    trie = material.trie_of(frozen, items)
    edits = [_started(frozen, place, form, seed) for seed, place in enumerate(places)]
    edits.sort(key=lambda edit: edit.first_layer)
    found = base_pass(frozen, trie, layers={edit.first_layer for edit in edits})
    surveyed = time.perf_counter() - start
    fits = []
    for begin in range(0, len(edits), bank):
        part = edits[begin : begin + bank]
        fits += train(TrainingSet(frozen, trie, items, found.logprobs, found.residuals), part, [recipe] * len(part))
    seconds = time.perf_counter() - start
    macs = floor.base_macs(frozen, trie)
    for step in schedule(items, trie, recipe)[0]:
        used = sorted(set(step.reshape(-1).tolist()))
        row = trie.row(used, ends=False)
        targets = trie.targets(row, used)
        macs += sum(floor.edit_macs(frozen, row, targets, edit.first_layer, backward=True) for edit in edits)
    return {
        "seconds": seconds,
        "survey": surveyed,
        "pairs": material.pair_count(items) * len(edits),
        "macs": macs,
        "check": fits[0].losses.tolist(),
    }


def choice(model: str, data: str, count: int, template: str, tokens: int = 512) -> dict[str, Any]:
    """Log-probs of all answers after a few-shot prompt."""
    frozen, items = material.frozen(model), material.questions(data, count)
    start = time.perf_counter()
    trie = build_trie(frozen.tokenizer, PromptFormat("few-shot", template, " ", False), items)
    logprobs = base_pass(frozen, trie, tokens=tokens).logprobs
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "answers": len(logprobs),
        "macs": floor.base_macs(frozen, trie),
        "check": logprobs.tolist(),
        "tokens": len(trie),
        "plain_tokens": trie.n_plain,
    }


def banked(model: str, data: str, count: int, edits: int) -> dict[str, Any]:
    """Train and score one bank of edits of all layers; tokens a second of each, once all is warm."""
    return in_bank(material.frozen(model), material.questions(data, count), edits)


def in_bank(frozen: Model, items: tuple[Item, ...], edits: int) -> dict[str, Any]:
    """The same of a model that is loaded."""
    trie = material.trie_of(frozen, items)
    found = base_pass(frozen, trie, layers=[0])
    recipe = TrainingRecipe(tau=0.1, lr=RATE, epochs=1)
    steps = [sorted(set(step.reshape(-1).tolist())) for step in schedule(items, trie, recipe)[0]]
    rows = [(trie.row(used, ends=False), used) for used in steps]
    for _ in range(2):  # the first time warms up
        begun = [_started(frozen, "all", "heads", seed) for seed in range(edits)]
        start = time.perf_counter()
        fits = train(TrainingSet(frozen, trie, items, found.logprobs, found.residuals), begun, [recipe] * edits)
        floor.finish()
        middle = time.perf_counter()
        score(frozen, found.prepared, [fit.edit for fit in fits], len(trie.sequences), residual_cache=found.residuals)
        floor.finish()
        end = time.perf_counter()
    macs = edits * sum(floor.edit_macs(frozen, row, trie.targets(row, used), 0, backward=True) for row, used in rows)
    return {
        "seconds": middle - start,
        "trained": edits * sum(len(row.tokens) for row, _ in rows) / (middle - start),
        "scored": edits * sum(len(one.row.tokens) for one in found.prepared) / (end - middle),
        "macs": macs,
        "scoring": end - middle,
        "scoring_macs": edits * sum(floor.edit_macs(frozen, one.row, one.targets, 0, backward=False) for one in found.prepared),
    }


def _random_places(layout: Any, count: int, heads: int, first_layer: int = 0) -> list[str]:
    """Locations of some heads, drawn at random from a layer on."""
    generator = np.random.default_rng(7)
    places = []
    for _ in range(count):
        picks = generator.choice((layout.n_layers - first_layer) * layout.n_heads, size=heads, replace=False)
        places.append(",".join(f"{first_layer + pick // layout.n_heads}.{pick % layout.n_heads}" for pick in sorted(picks)))
    return places


def audit(preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A whole audit, set-up included, with nothing cached."""
    os.environ["LOCUS_CACHE_GB"] = "0"
    from locus.audit import audit as run_audit
    from locus.plan.config import resolve

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_audit(resolve(preset, **settings, device=material.device()), Path(folder) / "RUN")
        return {"seconds": time.perf_counter() - start}


def sampled(preset: str, settings: dict[str, Any], share: int) -> dict[str, Any]:
    """A long audit counted up from one bank of every class of trials, on one question in `share`.

    Each bank is run as an audit runs banks: as many at once, here of the same bank, as there are workers.
    """
    os.environ["LOCUS_CACHE_GB"] = "0"
    from benchmarks.audits import counted_up, sample_of
    from locus import behaviours as datasets
    from locus import claims
    from locus.plan import document as plan_file
    from locus.plan import trials
    from locus.plan.config import resolve
    from locus.records.result import Result
    from locus.run import bank as run
    from locus.run.executors import side_by_side
    from locus.run.setup import set_up

    config = resolve(preset, **settings, device=material.device())
    dataset = datasets.load(config.data)
    start = time.perf_counter()
    bench = set_up(config, dataset, lambda what, done: None)
    set_up = time.perf_counter() - start
    layout = bench.model.layout
    claim = claims.given(_place(layout, config.claim_size))
    made = plan_file.deal(
        trials.make(
            config, layout, [claim], plan_file.basis(bench, dataset, [], rule(bench.config)), context.memory_budget(bench)
        ),
        bench,
    )
    by_id = {trial.id: trial for trial in made.trials}
    seconds: dict[str, list[float]] = {}
    chosen = sample_of([[by_id[one] for one in bank] for bank in made.banks])
    workers = bench.arithmetic.at_once
    with tempfile.TemporaryDirectory() as folder:

        def work(bank: list[trials.Trial], say: Callable[[float], None]) -> list[Result]:
            return run.run_bank(bank, bench, Path(folder), say)

        for bank in chosen:
            for results in side_by_side([bank] * workers, work, workers, lambda number, share: None):
                for trial, result in zip(bank, results, strict=True):
                    seconds.setdefault(trial.role, []).append(result.seconds / workers)
    counts = Counter(trial.role for trial in made.trials)
    for role, alike in (("claim", "random"), ("shift", "shift-random"), ("complement", "ceiling")):
        if role in counts and role not in seconds:  # they lie in banks led by another class
            seconds[role] = seconds[alike]
    whole = share * (set_up + counted_up(seconds, dict(counts)))
    return {"seconds": whole, "sampled": sum(map(len, chosen)), "workers": workers, "set_up": set_up, "classes": seconds}


def _place(layout: Any, heads: int) -> str:
    """A Location of some heads drawn at random."""
    picks = np.random.default_rng(0).permutation(layout.n_layers * layout.n_heads)[:heads]
    return ",".join(f"{pick // layout.n_heads}.{pick % layout.n_heads}" for pick in sorted(picks))


def plan(preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The plan of an audit as classes of like trials: role, places, how many, pairs trained, answers scored."""
    from locus import behaviours as datasets
    from locus import claims
    from locus.models.load import load
    from locus.plan import trials
    from locus.plan.config import resolve
    from locus.records.plan import PlanBasis

    config = resolve(preset, **settings, device=material.device())
    dataset = datasets.load(config.data)
    items = context.choose(dataset, datasets.split(dataset.items, config.seed), config)
    layout = load(config.model, device=material.device()).layout
    basis = PlanBasis.model_construct(context={})  # what trials are run on names them, and decides nothing else
    made = trials.make(config, layout, [claims.given(_place(layout, config.claim_size))], basis, trials.MemoryBudget())
    groups: dict[str, list[Any]] = {}
    for trial in made.trials:
        groups.setdefault(trial.role, []).append(trial)
    pairs = sum(item.n_pairs for item in items["train"]) * config.epochs
    scored = sum(len(item.answers) for part in ("validation", "test") for item in items[part])
    classes = [
        {
            "role": role,
            "count": len(group),
            "trained": group[0].recipe is not None,
            "layers": [sorted({site.layer for site in trial.location.sites}) for trial in group],
        }
        for role, group in groups.items()
    ]
    return {"seconds": 0.0, "classes": classes, "pairs": pairs, "answers": scored, "config": config.model_dump(mode="json")}


def scaling(model: str, data: str, count: int, random: int, heads: int, first_layer: int = 0) -> dict[str, Any]:
    """Train and score edits at `random` random Locations of some heads on `count` questions, one epoch, set-up included."""
    frozen, items = material.frozen(model), material.questions(data, count)
    start = time.perf_counter()
    trie = material.trie_of(frozen, items)
    places = _random_places(frozen.layout, random, heads, first_layer)
    edits = sorted((_started(frozen, place, "heads", 0) for place in places), key=lambda edit: edit.first_layer)
    found = base_pass(frozen, trie, layers={edit.first_layer for edit in edits})
    surveyed = time.perf_counter() - start
    recipe = TrainingRecipe(tau=0.1, lr=RATE, epochs=1)
    for begin in range(0, len(edits), 6):
        part = edits[begin : begin + 6]
        fits = train(TrainingSet(frozen, trie, items, found.logprobs, found.residuals), part, [recipe] * len(part))
        score(frozen, found.prepared, [fit.edit for fit in fits], len(trie.sequences), residual_cache=found.residuals)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "survey": surveyed, "pairs": material.pair_count(items), "questions": len(items)}
