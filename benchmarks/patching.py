"""Table 6: patching every head's output, against TransformerLens on the same prompts.

Both sides are timed in seconds of processor time of their process, so that whatever else the machine does says little.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import material
from benchmarks.measure import Found, furthest, interleaved, median
from benchmarks.tables import Setting, Table
from locus.models.locate import locate
from locus.models.model import Model
from locus.patching import tasks
from locus.patching.attribution import attribute
from locus.patching.pairs import PatchPair
from locus.patching.sweep import Batching, How, batches, heads, sweep

ROWS = 64
# By size: prompts, every which layer's heads, repeats.
SIZES = {"full": (64, 1, 1), "sample": (16, 6, 1)}


def every_head(setting: Setting) -> Table:
    """Table 6: exact patching of every head's output, and attribution patching."""
    count, every, repeats = SIZES["full" if setting.size.repeats > 2 else "sample"]
    told = {"model": setting.model, "count": count}
    jobs = [
        ("patching.lens", {**told, "every": every}),
        ("patching.exact", {**told, "every": every}),
        ("patching.attribution", told),
    ]
    peer, ours, guessed = interleaved(jobs, repeats, setting.say)
    seconds = [median(found, lambda one: one["seconds"]) for found in (peer, ours, guessed)]
    plain = median(guessed, lambda one: one["plain"])
    sides = ("TransformerLens, one head a forward", "locus, exact", "locus, attribution patching, all heads")
    apart = furthest(peer[0]["check"], ours[0]["check"])
    return {
        "title": f"Patching {ours[0]['values'] // count} heads into {count} indirect-object prompts, effects of each kept",
        "columns": ["side", "seconds of processor time", "ms a head and prompt", "times the peer", "peak MB"],
        "rows": [
            [side, f"{spent:.1f}", f"{1e3 * spent / found[0]['values']:.1f}", f"{seconds[0] / spent:.1f}", _peak(found)]
            for side, spent, found in zip(sides[:2], seconds[:2], (peer, ours), strict=True)
        ]
        + [[sides[2], f"{seconds[2]:.1f}", f"{1e3 * seconds[2] / guessed[0]['values']:.2f}", "-", _peak(guessed)]],
        "aims": [
            {
                "what": "times as fast as TransformerLens",
                "aim": 3,
                "measured": (ratio := seconds[0] / seconds[1]),
                "reached": ratio >= 3,
            },
            {
                "what": "plain passes that attribution patching costs, at most",
                "aim": 4,
                "measured": (passes := seconds[2] / plain),
                "reached": passes <= 4,
            },
        ],
        "checks": [
            {
                "what": "mean logit difference of every patched head",
                "n": len(peer[0]["check"]),
                "range": max(peer[0]["check"]) - min(peer[0]["check"]),
                "apart": apart,
                "allowed": 1e-4,
                "same": apart <= 1e-4,
            }
        ],
        "notes": [
            f"A plain pass: one forward of the {count} clean prompts without hooks, {plain:.1f} s. Attribution patching makes "
            "a clean and a corrupted one, and from the first token that differs one more with its backward.",
        ],
        "found": [*peer, *ours, *guessed],
    }


def _peak(found: list[Found]) -> str:
    return f"{median(found, lambda one: one['peak_mb']):.0f}"


def pairs_of(frozen: Model, count: int) -> list[PatchPair]:
    """Indirect-object pairs, S2 replaced."""
    return tasks.indirect_object(frozen.tokenizer, count, 0)


def exact(model: str, count: int, every: int = 1) -> Found:
    """`sweep` over every head of every `every`-th layer: effects of each example."""
    frozen = material.frozen(model)
    pairs = pairs_of(frozen, count)
    patches = [patch for patch in heads(frozen.layout) if patch[0].layer % every == 0]
    start = time.process_time()
    found = sweep(frozen, pairs, patches, batching=Batching(ROWS))
    return _found(start, count * len(patches), found.patched)


def attribution(model: str, count: int) -> Found:
    """`attribute` for all heads, and a plain forward of the same prompts, in one process."""
    frozen = material.frozen(model)
    pairs, patches = pairs_of(frozen, count), heads(frozen.layout)
    groups = [[pairs[index] for index in members] for members in batches(pairs, Batching(ROWS))]
    plain = min(_timed(lambda: _forwards(frozen, groups)) for _ in range(3))
    start = time.process_time()
    found = attribute(frozen, pairs, patches, How(batching=Batching(ROWS)))[0]
    return {**_found(start, count * len(patches), found.patched), "plain": plain}


def lens(model: str, count: int, every: int = 1) -> Found:
    """TransformerLens: its own function for all heads, one forward a head, effects of each example kept."""
    frozen = material.frozen(model)
    pairs = pairs_of(frozen, count)
    bridge = bridged(model)
    layers = range(0, frozen.layout.n_layers, every)
    values = np.zeros((len(layers) * frozen.layout.n_heads, count))
    start = time.process_time()
    for members in batches(pairs, Batching(ROWS)):
        values[:, members] = lens_values(bridge, [pairs[index] for index in members], layers)
    return _found(start, values.size, values)


def bridged(model: str) -> Any:
    """TransformerLens' wrapper of the same weights."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(locate(model)[0], device="cpu", dtype=torch.float32)


def lens_values(bridge: Any, pairs: Sequence[PatchPair], layers: Sequence[int]) -> np.ndarray:
    """[heads, pairs], logit difference of the corrupted run with one head of the clean run each, as TransformerLens has it."""
    import pandas
    from transformer_lens import patching

    patching.tqdm = lambda rows: rows
    clean, corrupted = (torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("clean", "corrupted"))
    answer, other = (torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("answer", "other"))

    def difference(logits: torch.Tensor) -> torch.Tensor:
        return (logits[:, -1].gather(-1, answer) - logits[:, -1].gather(-1, other))[:, 0]

    with torch.no_grad():
        _, cache = bridge.run_with_cache(clean, names_filter=lambda name: name.endswith("hook_z"))
        found = patching.generic_activation_patch(
            bridge,
            corrupted,
            cache,
            difference,
            patching.layer_head_vector_patch_setter,
            "z",
            index_df=pandas.DataFrame([[layer, head] for layer in layers for head in range(bridge.cfg.n_heads)]),
            reduce="none",
        )
    return found.values.double().numpy()


def _forwards(frozen: Model, groups: Sequence[Sequence[PatchPair]]) -> None:
    with torch.no_grad():
        for group in groups:
            frozen.hf(input_ids=torch.tensor([pair.clean for pair in group]), logits_to_keep=1, use_cache=False)


def _timed(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _found(start: float, values: int, patched: np.ndarray) -> Found:
    return {"seconds": time.process_time() - start, "values": values, "check": patched.mean(axis=1).tolist()}
