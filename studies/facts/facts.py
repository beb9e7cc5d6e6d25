"""Where facts are, and where they can be edited: causal tracing and optimal edits of the same facts, at the same places.

    LOCUS_DATA=FOLDER python -m studies.facts.facts --out runs/facts    # all that is not done; goes on where it was stopped
    LOCUS_DATA=FOLDER python -m studies.facts.facts --out /tmp/facts --rows /tmp/facts --only capital=1 --kinds mlp    # a look
    python -m studies.facts.table                                       # the tables anew, from the rows

Three steps, each of which writes down rows that hold ids of facts and numbers, never their text:

    facts.jsonl     facts that the model knows, each with a partner
    traces.jsonl    by fact: how much of the answer comes back where a layer's MLP, five layers' MLPs, or the stream entering a
                    layer is restored at the subject's last token
    edits.jsonl     by fact and kind of place: what the optimal edit at each layer gains, on wordings that it was not trained on
"""

import argparse
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import locus
from locus.errors import UserError
from locus.models.model import Model
from locus.patch import short_agrees
from locus.patching.corruptions import Noise, Replacement
from locus.patching.sweep import Batching, How
from studies.facts import material, reading
from studies.facts.material import HERE, RELATIONS, Chosen

KINDS = ("mlp", "resid")  # of places, as claims call them
SETTINGS: dict[str, Any] = {
    "prompt": "bare",
    "form": True,  # the wanted object is one and the same in all questions, and a rule that reads none gets them right
    "rounds": 6,
    "lengths": (),
    "train": 6,
    "validation": 2,
    "test": 9,
    "steering": (),
    "shift_random": 0,
    "sequential": False,
    "off_manifold": False,
    "text_passages": 0,
}
NOISE = Noise(draws=1)  # in each of a fact's wordings; on the tokens in which the subjects differ
FIRST = "token replacement"  # the corruption by which the traced layer is chosen
LEAST = 1.0  # nats that the exchange of subjects moves a fact by, below which there is nothing to trace or to edit towards


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
        """Write further rows down, all at once."""
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        self.rows.mkdir(parents=True, exist_ok=True)
        with (self.rows / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(text)

    def choose(self) -> None:
        """Find facts, relation by relation, as many as are wanted and the model knows."""
        for relation, count in self.wanted.items():
            there = [row for row in self.read("facts") if row["relation"] == relation]
            if len(there) >= count:
                continue
            clock, begin = spent(), 100 * sorted(RELATIONS).index(relation)
            found = material.choose(self.model, self.data, relation, count, right=self.right)
            rows = [Chosen(*two, begin + number).row for number, two in enumerate(found)]
            if rows[: len(there)] != there:
                raise UserError("the model and data that facts.jsonl was chosen with", "others", "Use another folder for rows.")
            self.add("facts", rows[len(there) :])
            print(f"{relation}: {len(rows)} facts of {count} that are wanted, {spent() - clock:.0f} s of processor", flush=True)

    @cached_property
    def chosen(self) -> list[Chosen]:
        """The facts that were found, with their texts, as many of each relation as are wanted."""
        rows = self.read("facts")
        by_relation = {relation: [row for row in rows if row["relation"] == relation] for relation in self.wanted}
        return material.chosen(self.data, [row for name, own in by_relation.items() for row in own[: self.wanted[name]]])

    def trace(self) -> None:
        """Trace the facts that are not traced yet."""
        done = {row["fact"] for row in self.read("traces")}
        for one in self.chosen:
            if one.fact.id not in done:
                clock, pairs = spent(), material.traced(one, self.model.tokenizer)
                batching = Batching(short=short_agrees(self.model, pairs))
                how = [How(corruption=corruption, batching=batching) for corruption in (Replacement(), NOISE)]
                self.add("traces", reading.traced(self.model, one.fact.id, pairs, how))
                print(f"{one.fact.id}: traced in {spent() - clock:.1f} s of processor", flush=True)

    def edit(self, kinds: Iterable[str]) -> list[str]:
        """Edit every fact at every place of these kinds; one that cannot be is said and passed over.

        Returns:
            Those that could not.
        """
        done = {(row["fact"], row["kind"]) for row in self.read("edits")}
        traced = {(row["fact"], row["what"]): row for row in self.read("traces") if row["corruption"] == FIRST}
        failed = []
        for one in self.chosen:
            for kind in kinds:
                if (one.fact.id, kind) in done:
                    continue
                try:
                    row = self.edited(one, kind, traced[one.fact.id, kind])
                except UserError as error:
                    failed.append(f"{one.fact.id} {kind}")
                    print(f"{failed[-1]}: {error}", flush=True)
                else:
                    self.add("edits", [row])
                    print(f"{one.fact.id} {kind}: {row['seconds']} s of processor", flush=True)
        return failed

    def edited(self, one: Chosen, kind: str, trace: dict[str, Any]) -> dict[str, Any]:
        """Audit a fact: the claim is the traced layer, all other layers are what it is held against.

        What edits are to gain is what the exchange of its subject for the partner's moves the fact by: then the new object is
        said after the one as surely as after the other.

        Raises:
            UserError: if that is next to nothing, or as `locus.audit`.
        """
        if not usable(trace):
            raise UserError(f"a fact that its subject decides by {LEAST:g} nats", str(trace["whole"]), "It is left out.")
        clock, folder = spent(), self.out / "edits" / f"{one.fact.id.replace(':', '-')}-{kind}"
        layers, layer = self.model.layout.n_layers, traced_layer(trace["restored"])
        locus.audit(
            self.model,
            locus.behaviour(material.questions(one), name="fact"),
            f"{kind}.{layer}@subject",
            also=[locus.behaviour(material.neighbours(one, self.data), name="neighbours")],
            random=layers - 1,
            taus=(1 / (2 * trace["whole"]),),
            seed=one.seed,
            out=folder,
            progress=False,
            sign=False,
            **self.settings,
        )
        found = reading.edits(folder, layers, material.parts(one)[1])
        row = {"fact": one.fact.id, "relation": one.fact.relation, "kind": kind, "claim": layer, "target": trace["whole"]}
        return {**row, **found, "seconds": round(spent() - clock, 1)}


def traced_layer(restored: list[float], first: int = 1) -> int:
    """The layer where most comes back, the first of equals. Layer 0 does not count: there MLP and stream are the embedding of a
    subject of one token, or next to it, and all that the subject decides is restored with them.

    Args:
        restored: by layer.
        first: the first layer that counts, later where several are restored together.
    """
    return first + int(np.argmax(restored[first:]))


def usable(trace: dict[str, Any]) -> bool:
    """Whether every number of a trace is defined, and the corruption takes anything that could come back."""
    return None not in (trace["whole"], *trace["restored"]) and bool(trace["whole"] >= LEAST)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def spent() -> float:
    """Seconds of processor so far, of this process and those that it waited for."""
    return sum(os.times()[:4])


def counts(text: str | None) -> dict[str, int]:
    """Facts by relation from capital=2,maker=1.

    Raises:
        UserError: if there is no such relation, or a count is none.
    """
    given = [one.partition("=") for one in text.split(",")] if text else [(name, "=", str(n)) for name, n in RELATIONS.items()]
    if wrong := [name for name, _, count in given if name not in RELATIONS or not count.isdecimal() or not int(count)]:
        raise UserError(f"facts by relation, as capital=2, of {', '.join(RELATIONS)}", ", ".join(wrong), "Mend --only.")
    return {name: int(count) for name, _, count in given}


def main() -> None:
    """Do what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="for the run folders")
    parser.add_argument("--rows", type=Path, default=HERE, help="for the rows")
    parser.add_argument("--model", help="the default model by default")
    parser.add_argument("--only", help="facts by relation, as capital=2,maker=1; all by default")
    parser.add_argument("--kinds", default=",".join(KINDS))
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if set(kinds) - set(KINDS):
        parser.error(f"--kinds: {', '.join(KINDS)}")
    data = Path(os.environ.get("LOCUS_DATA", "data")).resolve()
    try:
        wanted = counts(given.only)
        for relation in wanted:
            material.facts(data, relation)  # before weights load
        model = locus.load(given.model) if given.model else locus.load()
        study = Study(model, data, given.out.resolve(), given.rows.resolve(), wanted, SETTINGS)
        study.choose()
        study.trace()
        failed = study.edit(kinds)
    except UserError as error:
        raise SystemExit(str(error)) from error
    if failed:
        raise SystemExit(f"{len(failed)} could not be edited: {', '.join(failed)}")


if __name__ == "__main__":
    main()
