"""How often detection finds a head that does nothing, and whether it finds the planted one. Printed as a Markdown table.

Every draw is a planted model with its own weights and places. For false detections a fair coin decides, example by example,
which answer counts as right: then no head has an effect on average, and whatever is found is false.

Run: python studies/patching/null.py [--draws 200] [--pairs 40] > studies/patching/null.md
"""

import argparse
from collections.abc import Iterator

import numpy as np

from locus.models.model import Model
from locus.models.planted import COMPACT, build
from locus.patching.corruptions import Ablation, Replacement
from locus.patching.detect import detect, two_deviations
from locus.patching.known import planted_pairs
from locus.patching.metrics import Array
from locus.patching.sweep import Batching, heads, sweep
from locus.stats import clopper_pearson

ALPHA, LEAST = 0.05, 0.05  # level; nats that count as an effect where there is one
COINS = 5  # an exchange of right and wrong turns the sign of an effect and no more: new coins need no new run
KINDS = ("localized", "decoy", "redundant", "negative", "dormant")
RULES = ("max-statistic", "benjamini-hochberg", "two standard deviations")


def detections(effects: Array, rule: str, least: float, seed: int) -> Array:
    """[heads], what a rule finds."""
    if rule == RULES[2]:
        return two_deviations(effects).detected.astype(float)
    control = "max-statistic" if rule == RULES[0] else "benjamini-hochberg"
    return detect(effects, alpha=ALPHA, control=control, least=least, draws=1000, seed=seed).detected.astype(float)


def maps(kind: str, seed: int, count: int, shuffled: bool) -> tuple[Array, Array]:
    """Effects [heads, examples] in nats of zero ablation, and which heads do the work."""
    planted = build(kind, seed, **COMPACT)
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    pairs, patches = planted_pairs(planted, count, seed, shuffled), heads(model.layout)
    corruption, direction = (Replacement(), "denoise") if shuffled else (Ablation("zero"), "noise")
    effects = sweep(model, pairs, patches, direction, corruption, batching=Batching(64)).effects("none").values
    truth = [(patch[0].layer, patch[0].head) in planted.truth for patch in patches]
    return effects, np.array(truth)


def share(hits: int, draws: int) -> str:
    """A share with its exact 95 % interval, in percent."""
    one = clopper_pearson(hits, draws)
    return f"{100 * one.value:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def false_rows(draws: int, pairs: int) -> Iterator[tuple[str, ...]]:
    """Where nothing has an effect: draws with any detection, and detections a draw; every model meets COINS rows of coins."""
    effects = []
    for seed in range(draws):
        once, _ = maps(KINDS[seed % len(KINDS)], seed, pairs, True)
        coins = np.random.default_rng([7, seed]).choice([-1.0, 1.0], size=(COINS, 1, pairs))
        effects += list(once * coins)
    for rule in RULES:
        counts = [float(detections(one, rule, 0.0, seed).sum()) for seed, one in enumerate(effects)]
        yield rule, share(sum(count > 0 for count in counts), len(counts)), f"{np.mean(counts):.2f}"


def true_rows(draws: int, pairs: int) -> Iterator[tuple[str, ...]]:
    """Where planted heads do the work: all of them found, and any other found."""
    for kind in KINDS:
        results = [maps(kind, 1000 + seed, pairs, False) for seed in range(draws // len(KINDS))]
        for rule in (RULES[0], RULES[2]):
            masks = [detections(effects, rule, LEAST, seed) > 0 for seed, (effects, _) in enumerate(results)]
            whole = sum(bool(mask[truth].all()) for mask, (_, truth) in zip(masks, results, strict=True))
            other = sum(bool(mask[~truth].any()) for mask, (_, truth) in zip(masks, results, strict=True))
            yield kind, rule, share(whole, len(results)), share(other, len(results))


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=40)
    args = parser.parse_args()
    print(
        f"# Detection on planted models\n\n{args.draws} draws, {args.pairs} examples, 24 heads, alpha {ALPHA}; 95 % intervals.\n"
    )
    print(f"Nothing has an effect (token replacement, right answer by a coin; {COINS} rows of coins a model):\n")
    table(("rule", "draws with a false detection, %", "false detections a draw"), false_rows(args.draws, args.pairs))
    print(f"\nPlanted heads do the work (zero ablation; an effect is {LEAST} nats or more):\n")
    table(("kind", "rule", "all planted heads found, %", "another head found, %"), true_rows(args.draws, args.pairs))


if __name__ == "__main__":
    main()
