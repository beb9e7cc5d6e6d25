"""Where facts are, and where they can be edited: causal tracing and optimal edits of the same facts, at the same places.

    LOCUS_DATA=FOLDER python -m studies.facts.facts --out runs/facts     # all that is not done; goes on where it was stopped
    LOCUS_DATA=FOLDER python -m studies.facts.facts --out /tmp/facts --rows /tmp/facts --only capital=1 --kinds mlp  # does it run?
    python -m studies.facts.table                                        # the table anew, from the rows

Three steps, each of which writes down rows that hold ids of facts and numbers, never their text:

    facts.jsonl     facts that the model knows, each with a partner
    traces.jsonl    by fact: how much of the answer comes back where a layer's MLP, or the stream entering it, is restored at the
                    subject's last token
    edits.jsonl     by fact and kind of place: what the optimal edit at each layer gains, on wordings that it was not trained on
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import locus
from locus.conclude.derive import recorded
from locus.conclude.record import Arm, Record
from locus.models.model import Model
from locus.records.plan import asked_of
from studies.facts import material
from studies.facts.material import HERE, RELATIONS, Chosen

KINDS = {"mlp": "mlp", "resid": "residual"}  # as claims call them, and as patching does
SETTINGS: dict[str, Any] = {
    "prompt": "bare",
    "form": True,  # the wanted object is one and the same in all questions, and a rule that reads none gets them right
    "taus": (0.1,),
    "rounds": 6,
    "lengths": (),
    "train": 8,
    "validation": 2,
    "test": 9,
    "steering": (),
    "shift_random": 0,
    "sequential": False,
    "text_passages": 0,
}
TRACING: dict[str, Any] = {
    "sites": tuple(KINDS.values()),
    "positions": ("last",),
    "corruptions": ("replacement", "noise"),
    "draws": 3,
    "least_right": 0.0,  # the model knows these facts; that was seen before
    "flips": 100,
    "controls": 0,
    "rows": 32,
}


@dataclass(frozen=True)
class Study:
    """The study: a model, and folders.

    Attributes:
        model: as `locus.load` gives it.
        data: the folder that LOCUS_DATA names.
        out: for runs, which may be thrown away.
        rows: for the rows.
        wanted: relation -> facts of it.
        settings: of every audit.
        right: see `material.choose`.
    """

    model: Model
    data: Path
    out: Path
    rows: Path
    wanted: dict[str, int]
    settings: dict[str, Any]
    right: int = material.RIGHT

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of a step that are there."""
        return read(self.rows / f"{name}.jsonl")

    def add(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write further rows down."""
        self.rows.mkdir(parents=True, exist_ok=True)
        with (self.rows / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def choose(self) -> None:
        """Find facts, relation by relation."""
        there = self.read("facts")
        for relation, count in self.wanted.items():
            if any(row["relation"] == relation for row in there):
                continue
            begin = 100 * sorted(RELATIONS).index(relation)
            found = material.choose(self.model, self.data, relation, count, right=self.right)
            chosen = [Chosen(*two, begin + number) for number, two in enumerate(found)]
            self.add("facts", [one.row for one in chosen])
            print(f"{relation}: {len(chosen)} facts", flush=True)

    @cached_property
    def chosen(self) -> list[Chosen]:
        """The facts that were found, with their texts."""
        known = {one.id: one for relation in self.wanted for one in material.facts(self.data, relation)}
        rows = [row for row in self.read("facts") if row["relation"] in self.wanted]
        return [Chosen(known[row["fact"]], known[row["partner"]], row["seed"]) for row in rows]

    def trace(self) -> None:
        """Trace all facts in one map, and write down what of it is each fact's."""
        if {row["fact"] for row in self.read("traces")} >= {one.fact.id for one in self.chosen}:
            return
        pairs = [(one, row) for one in self.chosen for row in material.traced(one, self.model.tokenizer)]
        self.out.mkdir(parents=True, exist_ok=True)
        os.chdir(self.out)  # so that no record names a folder of this machine
        Path("traced.jsonl").write_text("".join(json.dumps(row) + "\n" for _, row in pairs), encoding="utf-8")
        began = time.monotonic()
        locus.patch(self.model, task="traced.jsonl", pairs=len(pairs), out="trace", progress=False, **TRACING)
        rows = list(traces(Path("trace"), [one.fact.id for one, _ in pairs], self.model.layout.n_layers))
        self.add("traces", rows)
        print(f"traced {len(self.chosen)} facts in {time.monotonic() - began:.0f} s", flush=True)

    def edit(self, kinds: Iterable[str]) -> None:
        """Edit every fact at every place of these kinds, that of the traced layer being what is claimed."""
        done = {(row["fact"], row["kind"]) for row in self.read("edits")}
        traced = {(row["fact"], row["kind"]): row["restored"] for row in self.read("traces") if row["corruption"] == FIRST}
        for one in self.chosen:
            for kind in kinds:
                if (one.fact.id, kind) not in done:
                    row = self.edited(one, kind, int(np.argmax(traced[one.fact.id, kind])))
                    self.add("edits", [row])
                    print(json.dumps({name: row[name] for name in ("fact", "kind", "claim", "seconds")}), flush=True)

    def edited(self, one: Chosen, kind: str, layer: int) -> dict[str, Any]:
        """Audit a fact: the claim is the traced layer, all other layers are what it is held against."""
        began = time.monotonic()
        folder = self.out / "edits" / f"{one.fact.id.replace(':', '-')}-{kind}"
        run = locus.audit(
            self.model,
            locus.behaviour(material.questions(one), name="fact"),
            f"{kind}.{layer}@subject",
            also=[locus.behaviour(material.neighbours(one, self.data), name="neighbours")],
            random=self.model.layout.n_layers - 1,
            seed=one.seed,
            out=folder,
            progress=False,
            sign=False,
            **self.settings,
        )
        seconds = {"audit": round(time.monotonic() - began, 1), "trials": run.verdict.seconds and run.verdict.seconds.trials}
        return {"fact": one.fact.id, "relation": one.fact.relation, "kind": kind, "claim": layer, **numbers(folder), "seconds": seconds}


FIRST = "token replacement"  # the corruption by which the traced layer is chosen, and the first of the table


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def traces(folder: Path, owners: list[str], n_layers: int) -> Iterable[dict[str, Any]]:
    """A finished map as rows: by fact, corruption and kind, means over its wordings in nats.

    Args:
        folder: of the map.
        owners: the fact of each example.
        n_layers: layers that have an MLP, and a stream entering them.
    """
    table = pq.read_table(folder / "effects.parquet").to_pandas()
    for corruption in dict.fromkeys(table.corruption):
        for kind, called in KINDS.items():
            own = table[(table.corruption == corruption) & (table.site == called)]
            by_layer = [own[own.component == f"{called} {layer}@last"].sort_values("example") for layer in range(n_layers)]
            assert all(len(one) == len(owners) for one in by_layer), "every example is patched at every layer"
            restored = np.stack([(one.patched - one.corrupted).to_numpy() for one in by_layer])
            whole = (by_layer[0].clean - by_layer[0].corrupted).to_numpy()
            for fact in dict.fromkeys(owners):
                mine = [at for at, owner in enumerate(owners) if owner == fact]
                row = {"fact": fact, "corruption": corruption, "kind": kind, "whole": round(float(whole[mine].mean()), 4)}
                yield {**row, "restored": [round(float(one), 4) for one in restored[:, mine].mean(axis=1)]}


def numbers(folder: Path) -> dict[str, Any]:
    """What an audit of a fact found, by layer: the gain of the optimal edit in nats, and what it does to neighbours."""
    with recorded(folder) as record:
        away = Record(record.plan, record.store, asked=asked_of(record.plan.also[0].name))
        found = {}
        for name, one in (("gain", record), ("moved", away)):
            base = _mean(one, one.find("base")[0])
            gains = {arm.name: _mean(one, arm) - base for arm in one.arms}
            layers = {_layer(arm): gains[arm.name] for arm in one.arms if arm.role in ("claim", "random")}
            found |= {f"{name}_base": round(base, 4), name: [round(layers[layer], 4) for layer in sorted(layers)]}
            found |= {f"{name}_{role}": round(gains[one.find(role)[0].name], 4) for role in ("ceiling", "complement")}
        settled = {_layer(arm): arm.ends[0].converged for arm in record.arms if arm.role in ("claim", "random")}
        return {**found, "settled": sum(map(bool, settled.values())), "layers": len(settled), "tested": len(record.groups)}


def _mean(record: Record, arm: Arm) -> float:
    """Over questions; all groups are of one size."""
    return float(record.of(arm, "margin").mean())


def _layer(arm: Arm) -> int:
    (layer,) = {locus.claim(list(arm.trials[0].spec.location)).location.layers[0]}
    return layer


def main() -> None:
    """Do what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="for the run folders")
    parser.add_argument("--rows", type=Path, default=HERE, help="for the rows")
    parser.add_argument("--model", help="the default model by default")
    parser.add_argument("--only", help="facts by relation, as capital=2,maker=1; all by default")
    parser.add_argument("--kinds", default=",".join(KINDS))
    given = parser.parse_args()
    wanted = RELATIONS if given.only is None else {name: int(n) for name, n in (one.split("=") for one in given.only.split(","))}
    model = locus.load(given.model) if given.model else locus.load()
    data = Path(os.environ.get("LOCUS_DATA", "data")).resolve()
    study = Study(model, data, given.out.resolve(), given.rows.resolve(), wanted, SETTINGS)
    study.choose()
    study.trace()
    study.edit(given.kinds.split(","))


if __name__ == "__main__":
    main()
