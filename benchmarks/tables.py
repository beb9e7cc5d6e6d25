"""The tables: which jobs each runs, what it asks of them, and how it says so. Every function returns one table as JSON."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.material import BILLION, allowed, device
from benchmarks.measure import Found, Job, furthest, interleaved, median, run, slope

Say = Callable[[str], None]
Table = dict[str, Any]


@dataclass(frozen=True)
class TableSize:
    """How much is run: `full` for the record (some two hours on two cores), `sample` to see that it works."""

    repeats: int
    train: int
    singles: int
    peer_places: int
    choice: int
    locations: tuple[int, ...]
    location_questions: int
    questions: tuple[int, ...]
    banks: dict[str, tuple[int, ...]]
    audit: dict[str, Any]
    standard: dict[str, Any]


SIZES = {
    "full": TableSize(
        repeats=3,
        train=6,
        singles=12,
        peer_places=3,
        choice=12,
        locations=(1, 4, 16, 64),
        location_questions=8,
        questions=(50, 100, 200, 400, 800),
        banks={"cpu": (1, 2, 3, 6, 12), "cuda": (1, 2, 4, 8, 16, 32, 64)},
        audit={},
        standard={},
    ),
    "sample": TableSize(
        repeats=2,
        train=4,
        singles=3,
        peer_places=1,
        choice=2,
        locations=(1, 2, 4),
        location_questions=4,
        questions=(4, 8, 16),
        banks={"cpu": (1, 2), "cuda": (1, 64)},
        audit={"train": 4, "validation": 4, "test": 4, "random": 4, "alpha": 0.25},
        standard={"singles": 3, "shift_random": 2, "text_passages": 2},
    ),
}


@dataclass(frozen=True)
class Setting:
    """What all tables are run on."""

    model: str
    data: str
    size: TableSize
    say: Say

    def job(self, side: str, **arguments: Any) -> Job:
        """A job on this model and these questions."""
        return side, {"model": self.model, "data": self.data, **arguments}


def _share(found: Found) -> float:
    """Share of the floor's rate that was reached: seconds the counted multiply-adds need, over seconds taken."""
    return float(found["macs"] / found["rate"] / found["seconds"])


def _row(name: str, found: list[Found], unit: str, peer: float | None) -> list[Any]:
    """[side, ms a unit, range, times as fast as the peer, share of the floor, peak MB]."""
    each = [1e3 * one["seconds"] / one[unit] for one in found]
    mine = statistics.median(each)
    share = f"{100 * median(found, _share):.0f} %" if "macs" in found[0] else "-"
    memory = f"{median(found, lambda one: one['peak_mb']):.0f}"
    return [name, f"{mine:.1f}", f"{min(each):.1f} to {max(each):.1f}", f"{peer / mine:.1f}" if peer else "1", share, memory]


def _compared(title: str, unit: str, rows: list[list[Any]], **rest: Any) -> Table:
    """A table of rows made by `_row`: each side's time a unit, against the peer and against the floor."""
    columns = ["side", f"ms {unit}", "range", "times the peer", "of the floor's rate", "peak MB"]
    return {"title": title, "columns": columns, "rows": rows, **rest}


def _each(found: list[Found], unit: str) -> float:
    return 1e3 * median(found, lambda one: one["seconds"] / one[unit])


def _agree(name: str, a: Found, b: Found, allowed: float) -> dict[str, Any]:
    """That two sides computed the same thing, or how far they are apart."""
    apart = furthest(a["check"], b["check"])
    return {
        "what": name,
        "n": len(a["check"]),
        "range": max(a["check"]) - min(a["check"]),
        "apart": apart,
        "allowed": allowed,
        "same": apart <= allowed,
    }


def training_everywhere(setting: Setting) -> Table:
    """Table 1: rank-1 edits of all layers."""
    size, job = setting.size, setting.job
    peer, same, fast = interleaved(
        [
            job("peers.training", count=size.train, place="all"),
            job("ours.training", count=size.train, places=["all"], form="free", batching="pairs"),
            job("ours.training", count=size.train, places=["all"], form="free"),
        ],
        size.repeats,
        setting.say,
    )
    theirs = _each(peer, "pairs")
    ratio, share = theirs / _each(fast, "pairs"), median(fast, _share)
    rows = [
        _row("TRL + PEFT, batches of 4 pairs", peer, "pairs", None),
        _row("locus, the peer's batches", same, "pairs", theirs),
        _row("locus, 4 questions a step", fast, "pairs", theirs),
    ]
    return _compared(
        f"Training one edit of all layers, rank 1, IPO, one epoch of {peer[0]['pairs']} pairs",
        "a pair",
        rows,
        aims=[_aim("times as fast a pair as TRL + PEFT", 30, ratio), _aim("of the floor's rate", 0.65, share)],
        checks=[_agree("losses of all steps, the peer's batches on both sides", peer[0], same[0], allowed(2e-3))],
        notes=["The pass that makes the reference log-probs is part of every side's time, and of the floor."],
        found=[*peer, *same, *fast],
    )


def training_at_heads(setting: Setting) -> Table:
    """Table 2: edits at single random heads, and at random sets of 4 and 16."""
    from benchmarks import material

    size, layout = setting.size, material.frozen(setting.model).layout
    generator = np.random.default_rng(3)
    rows, aims, checks, everything = [], [], [], []
    for heads, count in ((1, size.singles), (4, size.singles), (16, size.singles)):
        places, layers = [], []
        for _ in range(count):
            total = layout.n_layers * layout.n_heads
            picks = sorted(generator.choice(total, size=min(heads, total), replace=False))
            places.append(",".join(f"{pick // layout.n_heads}.{pick % layout.n_heads}" for pick in picks))
            layers.append(",".join(str(layer) for layer in sorted({int(pick) // layout.n_heads for pick in picks})))
        asked = size.peer_places if heads == 1 else max(1, size.peer_places - 1)
        chosen = [layers[index] for index in np.linspace(0, count - 1, asked).astype(int)]
        peers = [run(setting.job("peers.training", count=size.train, place=place)) for place in chosen]
        setting.say(f"  {heads} head(s): the peer at {len(peers)} places")
        found = [run(setting.job("ours.training", count=size.train, places=places)) for _ in range(size.repeats)]
        same = run(setting.job("ours.training", count=size.train, places=[chosen[0]], form="free", batching="pairs"))
        theirs = 1e3 * statistics.fmean(one["seconds"] / one["pairs"] for one in peers)
        rows += [
            _row(f"TRL + PEFT, layers of {heads} head(s), {len(peers)} places", peers, "pairs", None),
            _row(f"locus, {heads} head(s), {count} places in banks of 6", found, "pairs", theirs),
        ]
        if heads == 1:
            aims.append(_aim("times as fast a pair as TRL + PEFT at single heads", 60, theirs / _each(found, "pairs")))
        checks.append(_agree(f"losses of all steps at layer(s) {chosen[0]}", peers[0], same, allowed(2e-3)))
        everything += [peers, found]
    return _compared(
        "Training at single random heads and at random sets of heads, one epoch",
        "a pair and edit",
        rows,
        aims=aims,
        checks=checks,
        notes=[
            "PEFT cannot write to some heads only: its LoRA of those heads' whole layers stands for them; a mask would not "
            "change its cost. The peer's mean over places is compared with the median of our repeats over all places."
        ],
        found=everything,
    )


def multiple_choice(setting: Setting) -> Table:
    """Table 3: log-probs of all answers after lm-eval's six-shot prompt."""
    from benchmarks.peers import six_shot

    size, template = setting.size, six_shot()
    jobs = [
        setting.job("peers.choice", count=size.choice, template=template, batch=1),
        setting.job("peers.choice", count=size.choice, template=template, batch=8),
        setting.job("ours.choice", count=size.choice, template=template),
    ]
    one, eight, fast = interleaved(jobs, size.repeats, setting.say)
    best = min(_each(one, "answers"), _each(eight, "answers"))
    first = fast[0]
    rows = [
        _row("lm-eval, HF backend, batch 1", one, "answers", None),
        _row("lm-eval, HF backend, batch 8", eight, "answers", None),
        _row("locus", fast, "answers", best),
    ]
    return _compared(
        f"Multiple choice after lm-eval's six-shot prompt, {first['answers']} answers to {size.choice} questions",
        "an answer",
        rows,
        aims=[_aim("times as fast as lm-eval at its better batch size", 15, best / _each(fast, "answers"))],
        checks=[_agree("log-probs of all answers", eight[0], first, allowed(1e-3))],
        notes=[f"{first['plain_tokens']} tokens as one row an answer, {first['tokens']} once each shared prefix is held once."],
        found=[*one, *eight, *fast],
    )


def scaling(setting: Setting) -> Table:
    """Table 5: cost of N random Locations, and of questions."""
    size = setting.size
    rows, by_location, by_question = [], [], []
    for random in size.locations:
        found = run(setting.job("ours.scaling", count=size.location_questions, random=random, heads=4))
        setting.say(f"  {random} Locations: {found['seconds']:.1f} s")
        by_location.append(found)
        rows.append([f"{random} Locations", size.location_questions, f"{found['seconds']:.1f}", f"{found['peak_mb']:.0f}"])
    for count in size.questions:
        found = run(setting.job("ours.scaling", count=count, random=1, heads=1, first_layer=1))
        setting.say(f"  {count} questions: {found['seconds']:.1f} s")
        by_question.append(found)
        rows.append(["1 Location", found["questions"], f"{found['seconds']:.1f}", f"{found['peak_mb']:.0f}"])
    steep = slope(size.locations, [found["seconds"] for found in by_location])
    wide = slope([found["pairs"] for found in by_question], [found["seconds"] for found in by_question])
    memory = [found["peak_mb"] for found in by_location]
    flat = max(memory[2:]) / min(memory[2:])  # fewer do not fill a bank of six
    return {
        "title": "Scaling: train and score, one epoch, set-up and reference pass included",
        "columns": ["what", "questions", "seconds", "peak MB"],
        "rows": rows,
        "aims": [
            _aim("R squared of a straight line in Locations", 0.99, steep[2]),
            _aim("R squared of a straight line in pairs", 0.99, wide[2]),
            _aim(
                f"peak memory of most Locations over that of fewest (from {size.locations[2]} on), at most", 1.1, flat, lower=True
            ),
        ],
        "checks": [],
        "notes": [
            f"{steep[0]:.2f} s a random Location of 4 heads + {steep[1]:.1f} s; {1e3 * wide[0]:.1f} ms a pair + {wide[1]:.1f} s."
        ],
        "found": [*by_location, *by_question],
    }


def banks(setting: Setting) -> Table:
    """Table 10: tokens a second against the number of edits in a bank; on a GPU of a model of a billion parameters, too."""
    size, kind = setting.size, device()
    rows, notes, everything = [], [], []
    for model in (setting.model,) if kind == "cpu" else (setting.model, BILLION):
        each = []
        for edits in size.banks[kind]:
            job = setting.job("ours.banked", count=size.location_questions, edits=edits)
            found = [run((job[0], {**job[1], "model": model})) for _ in range(size.repeats)]
            trained, scored = (median(found, lambda one, what=what: one[what]) for what in ("trained", "scored"))  # type: ignore[misc]
            share, memory = median(found, _share), median(found, lambda one: one["peak_mb"])
            rows.append([Path(model).name, edits, f"{trained:.0f}", f"{scored:.0f}", f"{100 * share:.0f} %", f"{memory:.0f}"])
            setting.say(f"  {model}, {edits} edits: {trained:.0f} tokens a second in training")
            each.append(trained)
            everything.append(found)
        enough = next(edits for edits, rate in zip(size.banks[kind], each, strict=True) if rate >= 0.95 * max(each))
        notes.append(f"{Path(model).name}: from {enough} edits on, training is within 5 % of its best.")
    if kind == "cpu":
        notes.append(
            "No GPU was at hand: these are the banks that a CPU holds (`python -m benchmarks --device cuda` for a GPU's)."
        )
    return {
        "title": f"Tokens a second against the edits of all layers in a bank, {size.location_questions} questions",
        "columns": ["model", "edits", "tokens a second, training", "scoring", "of the floor's rate", "peak MB"],
        "rows": rows,
        "aims": [],
        "checks": [],
        "notes": ["A row's tokens count once for every edit.", *notes],
        "found": everything,
    }


def _aim(what: str, aim: float, measured: float, lower: bool = False) -> dict[str, Any]:
    return {"what": what, "aim": aim, "measured": measured, "reached": measured <= aim if lower else measured >= aim}
