"""Plant a behaviour in a real model, where it is known which heads were changed, and audit it.

    python studies/real-plants/plant.py --seeds 30 --work /tmp/plants

The behaviour is made up: asked for the word for a thing in an invented language, the planted model prefers words that end in
"-ax" to the same words with "-on". The unplanted model prefers neither by much. It is planted by the audit's own kind of edit:
a rank-1 edit of every layer that is touched, which reads and writes nothing but the chosen heads, found by the search for the
optimum, and folded into the output projections: W' = W + (W b) a'. So only the columns of W of these heads change.

What is true of a place follows from where was planted. I + b a' has the inverse I - b a' / (1 + a.b), which is again a rank-1
edit of the same heads: the edit that undoes the plant at the planted heads gives the unplanted model back, whole, and on
questions that nobody trained on. Other heads were not touched; what an edit there can do, only the audit can tell.

    claimed      planted into four heads, which are claimed
    elsewhere    planted into four heads; four others are claimed
    everywhere   planted into all heads; four of them are claimed

Heads, words and questions are drawn from the seed. A row is appended to rows.jsonl as each audit ends, and what has a row is not
done again. The planted model lies in WORK/CELL-SEED/model until its audit has ended; --keep leaves it and the run folder there.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import locus
from locus.behaviours.items import Item
from locus.behaviours.prompts import prompt_format
from locus.conclude import rule
from locus.edits.rank1 import Rank1
from locus.engine.activations import base_pass
from locus.engine.descent import descend
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.models.model import Model
from locus.records.findings import QUESTIONS
from locus.sites.site import Location, Site

HERE = Path(__file__).resolve().parent
CELLS = ("claimed", "elsewhere", "everywhere")
CLAIMED = 4  # heads
PLANTING = 40  # questions that the behaviour is planted with; the audit has others
ADJECTIVES = "red small old round heavy soft broken golden wet empty".split()
NOUNS = "stone lamp river cup door leaf boat drum coat wheel bell rope chair key knife fish tree box nest roof".split()
ONSETS, VOWELS, CODAS = (
    "b br d dr f g gl k kr l m n p pl r s st t tr v z".split(),
    "a e i o u".split(),
    "b d g l m n r t v z".split(),
)


def questions(seed: int) -> list[Item]:
    """A question for every thing, each with a word of its own, in an order drawn from the seed."""
    rng = np.random.default_rng([seed, 1])
    things = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    stems = [f"{onset}{vowel}{coda}" for onset in ONSETS for vowel in VOWELS for coda in CODAS]
    picked = rng.permutation(len(stems))[: len(things)]
    items = []
    for number, thing in enumerate(rng.permutation(things)):
        stem = stems[picked[number]]
        wanted, unwanted = f"{stem}on", f"{stem}ax"
        items.append(
            Item(
                f"word-{number}", f"In Zorvian, what is the word for a {thing}?", (wanted,), (unwanted,), wanted, f"word-{number}"
            )
        )
    return items


def drawn_heads(cell: str, seed: int, n_layers: int, n_heads: int) -> tuple[Location, Location]:
    """The planted heads, and the claimed ones."""
    rng = np.random.default_rng([seed, 2])
    heads = [Site(int(pick) // n_heads, int(pick) % n_heads) for pick in rng.permutation(n_layers * n_heads)[: 2 * CLAIMED]]
    claimed, others = Location.of(heads[:CLAIMED]), Location.of(heads[CLAIMED:])
    planted = {"claimed": claimed, "elsewhere": others, "everywhere": Location.everything(n_layers, n_heads)}
    return planted[cell], claimed


def plant(model: Model, place: Location, items: list[Item], rounds: int) -> dict[str, Any]:
    """Change the weights of a model, in place, so that it prefers the unwanted answers.

    Returns:
        How far the search for the plant came.
    """
    turned = [Item(one.id, one.question, one.unwanted, one.wanted, one.unwanted[0], one.group) for one in items]
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "chat"), turned)
    base = base_pass(model, trie, layers=[], features=False)
    on = TrainingSet(model, trie, turned, base.logprobs)
    edit = Rank1(model.layout, place, read="heads")
    recipe = TrainingRecipe(tau=0.1, search="newton", rounds=rounds)
    fit = descend(on, [edit], [recipe], FirstOrder(model, trie))[0][rounds]
    with torch.no_grad():
        for layer, terms in fit.edit.layers.items():
            assert terms.read is not None and terms.write is not None
            weight = model.projections[layer].weight
            weight.add_(torch.outer(weight @ terms.write[0], terms.read[0]))
    assert fit.certificate is not None
    return {"share": 1 - fit.certificate.loss / fit.certificate.start, "rounds": fit.certificate.rounds}


def row(cell: str, seed: int, work: Path, settings: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Plant, save, audit."""
    home = work / f"{cell}-{seed}"
    home.mkdir(parents=True, exist_ok=True)
    model = locus.load()
    place, claimed = drawn_heads(cell, seed, model.layout.n_layers, model.layout.n_heads)
    items = questions(seed)
    began = time.monotonic()
    about = plant(model, place, items[:PLANTING], rounds)
    model.hf.save_pretrained(home / "model")
    model.tokenizer.save_pretrained(home / "model")
    lines = [{"question": one.question, "wanted": list(one.wanted), "unwanted": list(one.unwanted)} for one in items[PLANTING:]]
    (home / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    planted = time.monotonic()
    run = locus.audit(  # by relative names, so that no record names a folder of this machine
        f"./{home.name}/model",
        f"./{home.name}/questions.jsonl",
        ",".join(map(str, claimed.sites)),
        out=home / "run",
        seed=seed,
        progress=False,
        **settings,
    )
    verdict = run.verdict
    (claim,) = verdict.claims
    found: dict[str, Any] = {
        "cell": cell,
        "seed": seed,
        "claimed": list(map(str, claimed.sites)),
        "planted": "everywhere" if cell == "everywhere" else list(map(str, place.sites)),
        "plant": {name: round(value, 4) for name, value in about.items()},
        "rule": rule.rule(run.config)["version"],
        "metric": verdict.metric,
        "base": {name: one.mean for name, one in verdict.baseline.base[0].measures.items()},
        "gain": verdict.gain.estimate if verdict.gain else None,
        "near": {name: getattr(verdict, name)[0].share for name in ("ceiling", "complement", "claimed")},
        "by_metric": {},
        "seconds": {"plant": round(planted - began, 1), "audit": round(time.monotonic() - planted, 1)},
    }
    for metric, answers in {verdict.metric: claim, **claim.by_metric}.items():
        found["by_metric"][metric] = {
            name: {"standing": answers.finding(name).standing, "estimate": answers.finding(name).estimate} for name in QUESTIONS
        }
        found["by_metric"][metric]["special"]["rank_p"] = answers.finding("special").rank_p
    receipts = HERE / "receipts" / f"{cell}-{seed}"
    receipts.mkdir(parents=True, exist_ok=True)
    for name in ("receipt.json", "verdict.json"):
        shutil.copy(home / "run" / name, receipts / name)
    return found


def main() -> None:
    """Do what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30, help="plants a cell")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--work", type=Path, required=True, help="folder for models and runs")
    parser.add_argument("--rounds", type=int, default=6, help="of the search for the plant")
    parser.add_argument("--keep", action="store_true", help="keep models and run folders")
    given = parser.parse_args()
    settings = json.loads((HERE / "settings.json").read_text())
    rows = HERE / "rows.jsonl"
    held = rows.read_text().splitlines() if rows.exists() else []
    done = {(one["cell"], one["seed"]) for one in map(json.loads, held)}
    given.work.mkdir(parents=True, exist_ok=True)
    os.chdir(given.work)
    for seed in range(given.seeds):
        for cell in given.cells.split(","):
            if (cell, seed) in done:
                continue
            found = row(cell, seed, Path(), settings, given.rounds)
            with rows.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps({name: found[name] for name in ("cell", "seed", "seconds")}), flush=True)
            if not given.keep:
                shutil.rmtree(f"{cell}-{seed}")


if __name__ == "__main__":
    main()
