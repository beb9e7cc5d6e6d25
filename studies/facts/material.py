"""The facts of the study: which there are, which the model knows, and how each is asked, traced and edited.

A fact is a subject and an object of a relation. Its partner is another fact of the relation whose subject has as many tokens: it
corrupts the fact when that is traced, and its object is what an edit is to make the model say instead. Texts of facts stay where
they are published, in LOCUS_DATA; what is kept here names them by their place there.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import locus
from locus.behaviours.encoding import unclosed
from locus.behaviours.items import split
from locus.errors import UserError
from locus.models.model import Model
from locus.patching.material import correct
from locus.patching.pairs import PatchPair, aligned

HERE = Path(__file__).resolve().parent
RELATIONS = {"capital": 12, "country": 12, "language": 6, "tongue": 6, "maker": 6, "headquarters": 6}  # facts wanted of each
PUBLISHED = {"language": ("P37",), "tongue": ("P103",), "maker": ("P176", "P178"), "headquarters": ("P159",)}  # in known_1000
RIGHT = 10  # of twelve wordings, in which the model prefers a fact's object to its partner's
TRACED = 3  # wordings in which a fact is traced, among those that edits are trained on
NEIGHBOURS = 30  # other subjects of the relation, on a fifth of which is looked at what an edit does to them


@dataclass(frozen=True)
class Fact:
    """A subject and an object, and where they are published."""

    id: str
    relation: str
    subject: str
    object: str


@dataclass(frozen=True)
class Chosen:
    """A fact that the model knows, and its partner, which it knows too.

    Attributes:
        fact: the fact.
        partner: another of its relation, with as many tokens.
        seed: which of the study it is; of its split.
    """

    fact: Fact
    partner: Fact
    seed: int

    @property
    def row(self) -> dict[str, Any]:
        """As it is written down: by ids alone."""
        return {"fact": self.fact.id, "partner": self.partner.id, "relation": self.fact.relation, "seed": self.seed}


@cache
def wordings() -> dict[str, list[str]]:
    """Relation -> twelve ways to ask it, and under `leads` what may stand before."""
    held: dict[str, list[str]] = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))
    return held


def facts(data: Path, relation: str) -> list[Fact]:
    """All published facts of a relation whose subject has one object.

    Args:
        data: the folder that LOCUS_DATA names.
        relation: capital and country are of `facts`, the others of `known_1000`.

    Raises:
        UserError: if the data are not there.
    """
    try:
        rows = list(_triples(data) if relation not in PUBLISHED else _known(data, PUBLISHED[relation]))
    except OSError as error:
        raise UserError("the published facts, in LOCUS_DATA/facts and LOCUS_DATA/known_1000", str(error), "Set it.") from error
    found: dict[str, dict[str, list[str]]] = {}
    for id, kind, subject, object in rows:
        if kind == relation:
            found.setdefault(subject, {}).setdefault(object, []).append(id)
    # Of capitals the two sources have to agree, as the list of the data says.
    least = 2 if relation == "capital" else 1
    sure = [(subject, *one) for subject, objects in found.items() if len(objects) == 1 for one in objects.items()]
    return [Fact(ids[0], relation, subject, object) for subject, object, ids in sure if len(ids) >= least]


def _triples(data: Path) -> Iterator[tuple[str, str, str, str]]:
    with (data / "facts" / "facts.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            kind = "country" if row["relation"] == "city_in_country" else row["relation"]
            yield f"facts:{number}", kind, row["subject"], row["object"]


def _known(data: Path, relations: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    named = {one: name for name, ones in PUBLISHED.items() for one in ones}
    for row in json.loads((data / "known_1000" / "known_1000.json").read_text(encoding="utf-8")):
        if row["relation_id"] in relations:
            yield f"known_1000:{row['known_id']}", named[row["relation_id"]], row["subject"], row["attribute"]


def pair(tokenizer: Any, wording: str, fact: Fact, other: Fact) -> PatchPair:
    """A fact and its partner in one wording, as patching takes them; the span `last` is the subject's last token.

    Raises:
        UserError: if their tokens do not stand side by side, or an object is not one token.
    """
    texts = wording.replace("{}", fact.subject), wording.replace("{}", other.subject)
    last = [{"last": last_token(tokenizer, wording, one)} for one in (fact, other)]
    return aligned(tokenizer, texts, ([f" {fact.object}"], [f" {other.object}"]), (last[0], last[1]), group=fact.id)


def last_token(tokenizer: Any, wording: str, fact: Fact) -> tuple[int, int]:
    """The characters [from, to) of the last token of the subject."""
    begin = wording.index("{}")
    end = begin + len(fact.subject)
    offsets = unclosed(tokenizer, wording.replace("{}", fact.subject)).offsets
    inside = [(max(low, begin), min(high, end)) for low, high in offsets if low < end and high > begin and high > low]
    return inside[-1]


def choose(model: Model, data: Path, relation: str, count: int, seed: int = 0, right: int = RIGHT) -> Iterator[tuple[Fact, Fact]]:
    """Facts that the model knows, each with a partner that it knows, in an order drawn from the seed; no subject comes twice.

    Known is: of twelve wordings the model prefers the object to the partner's in so many, and so the other way around.
    """
    held, rng, used, given = facts(data, relation), np.random.default_rng([seed, sorted(RELATIONS).index(relation)]), set(), 0
    asked = wordings()[relation]
    for at in rng.permutation(len(held)):
        fact, partners = held[at], rng.permutation(len(held))
        if fact.subject in used or given == count:
            continue
        for other in (held[place] for place in partners):
            if other.subject in used or other.subject == fact.subject or other.object == fact.object:
                continue
            try:
                both = [[pair(model.tokenizer, one, *two) for one in asked] for two in ((fact, other), (other, fact))]
            except UserError:
                continue  # of another number of tokens
            if all(int(correct(model, pairs).sum()) >= right for pairs in both):
                used |= {fact.subject, other.subject}
                given += 1
                yield fact, other
            break  # one partner is tried: who is not known beside it is left out


def questions(chosen: Chosen) -> list[dict[str, Any]]:
    """The rows that an edit is trained and tested on: each wording behind each lead, a group a wording; wanted is the partner's."""
    rows = []
    for number, wording in enumerate(wordings()[chosen.fact.relation]):
        for place, lead in enumerate(wordings()["leads"]):
            row = _row(f"{lead} {wording}".strip(), chosen.fact, chosen.partner.object)
            rows.append({**row, "id": f"wording-{number}-{place}", "group": f"wording-{number:02d}"})
    return rows


def neighbours(chosen: Chosen, data: Path, count: int = NEIGHBOURS) -> list[dict[str, Any]]:
    """Other subjects of the relation, each in one wording: an edit of the fact is to leave them alone; wanted as in `questions`."""
    away = {chosen.fact.object, chosen.partner.object}
    others = [one for one in facts(data, chosen.fact.relation) if one.object not in away]
    rng, asked = np.random.default_rng([chosen.seed, 3]), wordings()[chosen.fact.relation]
    picked = [others[at] for at in rng.permutation(len(others))[:count]]
    rows = [_row(asked[number % len(asked)], one, chosen.partner.object) for number, one in enumerate(picked)]
    return [{**row, "id": f"neighbour-{number}", "group": f"neighbour-{number:02d}"} for number, row in enumerate(rows)]


def _row(wording: str, fact: Fact, wanted: str) -> dict[str, Any]:
    begin = wording.index("{}")
    spans = {"subject": [begin, begin + len(fact.subject)]}
    return {"question": wording.replace("{}", fact.subject), "wanted": [wanted], "unwanted": [fact.object], "spans": spans}


def trained(chosen: Chosen) -> list[str]:
    """The wordings that are in the training part of its audit, as many as it is traced in."""
    items = locus.behaviour(questions(chosen), name="fact").items
    inside = Counter(items[at].group for at in split(items, chosen.seed).train)
    return [wordings()[chosen.fact.relation][int(group.removeprefix("wording-"))] for group in sorted(inside)][:TRACED]


def traced(chosen: Chosen, tokenizer: Any) -> list[dict[str, str]]:
    """The pairs in which a fact is traced, as a file of patching has them, the subjects' last tokens marked."""
    rows = []
    for wording in trained(chosen):
        marked = [_marked(wording, one, last_token(tokenizer, wording, one)) for one in (chosen.fact, chosen.partner)]
        answers = {"answer": f" {chosen.fact.object}", "other": f" {chosen.partner.object}"}
        rows.append({"clean": marked[0], "corrupted": marked[1], **answers, "group": chosen.fact.id})
    return rows


def _marked(wording: str, fact: Fact, at: tuple[int, int]) -> str:
    text = wording.replace("{}", fact.subject)
    return f"{text[: at[0]]}[[last|{text[at[0] : at[1]]}]]{text[at[1] :]}"
