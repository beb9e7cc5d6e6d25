"""Table 9: where the time goes, operation by operation, as torch's profiler counts it in one thread.

Every aim that is missed is missed for something in this table: products below the rate that the machine reaches on one large
product, attention, what lies between the products, and Python.
"""

import time
from typing import Any

import torch

from benchmarks import floor, material
from benchmarks.measure import median, run
from benchmarks.ours import RATE, _started
from benchmarks.tables import Setting, Table
from locus.engine.activations import base_pass
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.metrics.choice import score

QUESTIONS = {"full": 8, "sample": 2}
EVERYWHERE, SETS = ("all",), ("0.1,3.2,11.5,20.1", "1.4,9.2,12.5,21.1", "2.1,3.3,14.5,26.1")
FUSED = "_scaled_dot_product"  # how attention's own operations begin
CLASSES = {  # of torch's operations, by name; batched products are attention's, but for the edits' few vectors
    "matrix products": "mm addmm",
    "attention": "bmm baddbmm _softmax _softmax_backward_data",
    "activations, norms, sums, rotations": (
        "mul mul_ silu silu_backward add add_ sub sub_ neg pow div div_ rsqrt sum mean exp exp_ amax maximum addcmul_ "
        "linalg_vector_norm square_ rsqrt_"
    ),
    "copies": "cat copy_ index index_select gather clone fill_ zero_ index_add_ stack index_put_",
}


def profiled(model: str, data: str, count: int, places: list[str], trained: bool) -> dict[str, Any]:
    """Train edits in one bank, or score them, in one thread under the profiler: seconds by class of operation."""
    torch.set_num_threads(1)
    frozen, items = material.frozen(model), material.questions(data, count)
    trie = material.trie_of(frozen, items)
    made = [place for place in places if place == "all" or _fits(frozen.layout, place)] or ["0.0"]
    edits = [_started(frozen, place, "heads", seed) for seed, place in enumerate(made)]
    found = base_pass(frozen, trie, layers={edit.first_layer for edit in edits})
    recipe = TrainingRecipe(tau=0.1, lr=RATE, epochs=1, batch=4)

    def work() -> None:
        if trained:
            train(TrainingSet(frozen, trie, items, found.logprobs, found.residuals), edits, [recipe] * len(edits))
        else:
            frozen_edits = [edit.frozen({}) for edit in edits]
            score(frozen, found.prepared, frozen_edits, len(trie.sequences), residual_cache=found.residuals)

    work()
    rate = floor.matrix_rate()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start  # without what the profiler does at its end
    by_class, products = dict.fromkeys(CLASSES, 0.0), 0.0
    for one in profile.key_averages(group_by_input_shape=True):
        name = one.key.removeprefix("aten::")
        for kind, names in CLASSES.items():
            if name in names.split() or (kind == "attention" and name.startswith(FUSED)):
                by_class[kind] += one.self_cpu_time_total / 1e6
        if name == "mm":
            (rows, inner), (_, columns) = one.input_shapes[:2]
            products += one.count * rows * inner * columns
    return {"seconds": seconds, "by_class": by_class, "products": products, "rate_alone": rate, "edits": len(edits)}


def _fits(layout: Any, place: str) -> bool:
    """Whether a model is large enough for a place."""
    heads = [tuple(map(int, one.split("."))) for one in place.split(",")]
    return all(layer < layout.n_layers and head < layout.n_heads for layer, head in heads)


def shares(setting: Setting) -> Table:
    """Table 9: by kind of work, the share of time in every class of operations, and the rate of its matrix products."""
    count = QUESTIONS["full" if setting.size.repeats > 2 else "sample"]
    rows, everything = [], []
    for name, places, trained in (
        ("training, one edit of all layers", EVERYWHERE, True),
        ("training, a bank of 3 random sets of 4 heads", SETS, True),
        ("scoring, the same bank", SETS, False),
    ):
        job = setting.job("where.profiled", count=count, places=list(places), trained=trained)
        found = [run(job) for _ in range(setting.size.repeats)]
        setting.say(f"  {name}: {median(found, lambda one: one['seconds']):.1f} s")
        each = [median(found, lambda one, kind=kind: one["by_class"][kind] / one["seconds"]) for kind in CLASSES]  # type: ignore[misc]
        rate = median(found, lambda one: one["products"] / one["by_class"]["matrix products"] / one["rate_alone"])
        rows.append([name, *(f"{100 * share:.0f} %" for share in (*each, 1 - sum(each))), f"{100 * rate:.0f} %"])
        everything.append(found)
    return {
        "title": f"Where the time goes, {count} questions, one thread",
        "columns": ["work", *CLASSES, "all else, and Python", "the products' rate, of one large product's"],
        "rows": rows,
        "aims": [],
        "checks": [],
        "notes": ["Self time by torch's profiler, which costs something itself: medians of runs, each in a process of its own."],
        "found": everything,
    }
