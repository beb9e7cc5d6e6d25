"""How near to the optimum a few Gauss-Newton steps come on a real model, place by place.

    python -m studies.optimum.search TruthfulQA.csv --steps 3 --places random-00,everywhere

The settings are those of `quick`: 40 training and 50 test questions, IPO at tau = 0.1. One line of JSON a step and place.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from locus.claims import null
from locus.edits import Rank1, full
from locus.engine.linear import answers_of
from locus.engine.newton import Objective
from locus.engine.optimum import FirstOrder, Search
from locus.engine.train import all_pairs
from locus.metrics.choice import measures, score
from locus.plan import preconditions
from locus.plan.config import resolve
from locus.run.setup import set_up
from locus.sites import Location


def main() -> None:
    """Search at each place, a step at a time, and print loss, promise and what test questions say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="questions: a name or a path, as --data of an audit")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--places", default="random-00,everywhere")
    given = parser.parse_args()
    config = resolve("quick", data=given.data, text_passages=0)
    with tempfile.TemporaryDirectory() as folder:
        dataset = preconditions.check(config, Path(folder) / "RUN")
    context = set_up(config, dataset, lambda what, share: None)
    model, train, test = context.model, context.parts["train"], context.parts["test"]
    layout, count = model.layout, len(train.trie.sequences)
    pairs = np.concatenate([all_pairs(train.items, train.trie, owner) for owner in range(len(train.items))])
    objective = Objective(pairs, torch.ones(count), 0.1, "ipo")
    four = Location.parse("12.3,14.0,5.1,20.2")  # only their number matters
    places = {one.name: one.location for one in null.draw_locations(four, layout.n_layers, layout.n_heads, 3, 0)}

    def scored(edits):  # type: ignore[no-untyped-def]
        return score(model, train.base.prepared, edits, count, residual_cache=train.base.residuals)

    started = time.monotonic()
    shared = FirstOrder(model, train.trie, objective)
    print(json.dumps({"shared": round(time.monotonic() - started, 1), "answers": count, "pairs": len(pairs)}), flush=True)
    for name in given.places.split(","):
        edit = full(layout) if name == "everywhere" else Rank1(layout, places[name])
        for step in range(given.steps):
            search = Search(model, answers_of(train.trie, range(count)), objective, scored, train.base.logprobs, 1)
            ended = search.run(edit, shared)
            said = score(
                model, test.base.prepared, [edit.frozen({})], len(test.trie.sequences), residual_cache=test.base.residuals
            )
            found = measures(test.items, test.trie, said[0], test.base.logprobs)
            line = {"place": name, "step": step + 1, "loss": round(ended.loss, 2), "promised": round(ended.promised, 3)}
            line |= {"margin": round(float(found["margin"].mean()), 3), "mc2": round(100 * float(found["mc2"].mean()), 1)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
