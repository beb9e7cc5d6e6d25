"""The facts of the study: which there are, which the model knows, and how each is asked, traced and edited.

A fact is a subject and an object of a relation. Its partner is another fact of the relation whose subject has as many tokens: it
corrupts the fact when that is traced, and its object is what an edit is to make the model say instead. Texts of facts stay where
they are published, in LOCUS_DATA; what is kept here names them by their place there, with a hash of what stood there.

Who edits at the subject's last token changes what is computed from what stands up to it. So no two wordings of a relation have
the same words before the subject: to an edit a question of training and one of testing would be one and the same. And none
begins with the subject, whose last token would be the text's first, at which models hold what they hold nowhere else.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import locus
from locus.behaviours import lines
from locus.behaviours.encoding import unclosed
from locus.behaviours.items import content_hash, split
from locus.boundary import incoming
from locus.errors import UserError
from locus.models.model import Model
from locus.patching.material import correct
from locus.patching.pairs import PatchPair, aligned

HERE = Path(__file__).resolve().parent
RELATIONS = {"capital": 4, "country": 4, "language": 2, "tongue": 2, "maker": 2, "headquarters": 2}  # facts wanted of each
TABLED = {"capital": "capital", "country": "city_in_country"}  # as `facts` calls them; of the others these of known_1000
PUBLISHED = {"language": ("P37",), "tongue": ("P103",), "maker": ("P176", "P178"), "headquarters": ("P159",)}
RIGHT = 10  # of twelve wordings, in which the model prefers a fact's object to its partner's
TRACED = 3  # wordings in which a fact is traced, among those that edits are trained on
NEIGHBOURS = 20  # questions about other subjects of the relation; on a fifth of them it is looked what an edit does there
REMEDY = "Take the files as they are published."


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
        """As it is written down: by ids, and the hash of the texts that they stood for."""
        texts = [self.fact.subject, self.fact.object, self.partner.subject, self.partner.object]
        ids = {"fact": self.fact.id, "partner": self.partner.id, "relation": self.fact.relation, "seed": self.seed}
        return {**ids, "texts": content_hash(texts)[:16]}


@cache
def wordings() -> dict[str, list[str]]:
    """Relation -> twelve ways to ask it, and under `leads` what may stand before."""
    held: dict[str, list[str]] = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))
    return held


def facts(data: Path, relation: str) -> list[Fact]:
    """All published facts of a relation whose subject has one object, and does not give it away.

    Names that are not plain text in one line, or hold the marks of a wording or of a span, are left out.

    Args:
        data: the folder that LOCUS_DATA names.
        relation: one of RELATIONS.

    Raises:
        UserError: if the data are not there, or are not as they are published.
    """
    rows = _tabled(data, TABLED[relation]) if relation in TABLED else _known(data, PUBLISHED[relation])
    found: dict[str, dict[str, list[str]]] = {}
    for id, subject, object in rows:
        found.setdefault(subject, {}).setdefault(object, []).append(id)
    # Of capitals the two sources have to agree, as the list of the data says.
    least = 2 if relation == "capital" else 1
    sure = [(subject, *one) for subject, objects in found.items() if len(objects) == 1 for one in objects.items()]
    fine = [one for one in sure if len(one[2]) >= least and _plain(one[0]) and _plain(one[1]) and not told(one[0], one[1])]
    return [Fact(ids[0], relation, subject, object) for subject, object, ids in fine]


def told(subject: str, object: str) -> bool:
    """Whether a subject gives its object away (Tunisia, Tunis): two of their words begin with the same three letters."""
    begins = [{word[:3] for word in name.casefold().replace("-", " ").split()} for name in (subject, object)]
    return bool(begins[0] & begins[1])


def _plain(name: str) -> bool:
    return name.isprintable() and name == name.strip() != "" and not any(mark in name for mark in ("{}", "[[", "]]"))


def _tabled(data: Path, relation: str) -> Iterator[tuple[str, str, str]]:
    path = data / "facts" / "facts.csv"
    content = lines.text(path, "the published facts, in LOCUS_DATA/facts/facts.csv")
    for number, row in lines.read_table(content, str(path), ("subject", "relation", "object"), REMEDY):
        if row["relation"] == relation:
            yield f"facts:{number}", row["subject"], row["object"]


def _known(data: Path, relations: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    path, what = data / "known_1000" / "known_1000.json", "the published facts, in LOCUS_DATA/known_1000/known_1000.json"
    rows, named = incoming.read_json(path, what), ("relation_id", "subject", "attribute")
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        texts = [row.get(name) for name in named] if isinstance(row, dict) else []
        if not texts or not all(isinstance(one, str) for one in texts) or not isinstance(row.get("known_id"), int):
            raise UserError(f"{what}: rows with known_id, {', '.join(named)}", f"row {number}, which lacks one", REMEDY)
        if texts[0] in relations:
            yield f"known_1000:{row['known_id']}", texts[1], texts[2]


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

    Known is: of twelve wordings the model prefers the object to the partner's in so many, and so the other way around. Who asks
    for more gets the same ones, and others behind them.
    """
    held, used, given = facts(data, relation), set[str](), 0
    rng, asked = np.random.default_rng([seed, sorted(RELATIONS).index(relation)]), wordings()[relation]
    for at in rng.permutation(len(held)):
        fact, partners = held[at], rng.permutation(len(held))
        if given == count:
            return
        if fact.subject in used:
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


def chosen(data: Path, rows: Sequence[dict[str, Any]]) -> list[Chosen]:
    """Facts that were written down, with their texts.

    Raises:
        UserError: if the data are no longer those that they were chosen from.
    """
    known = {one.id: one for relation in {row["relation"]: None for row in rows} for one in facts(data, relation)}
    both = [(known.get(row["fact"]), known.get(row["partner"]), row["seed"]) for row in rows]
    found = [Chosen(fact, partner, seed) for fact, partner, seed in both if fact is not None and partner is not None]
    if [one.row for one in found] != list(rows):
        remedy = "Take those, or another folder for rows."
        raise UserError("the data that facts.jsonl was chosen from", f"others in {data}", remedy)
    return found


def questions(one: Chosen) -> list[dict[str, Any]]:
    """What an edit is trained and tested on: each wording behind each lead, a group a wording; wanted is the partner's object."""
    rows = []
    for number, wording in enumerate(wordings()[one.fact.relation]):
        for place, lead in enumerate(wordings()["leads"]):
            row = _row(f"{lead} {wording}".strip(), one.fact, one.partner.object)
            rows.append({**row, "id": f"wording-{number}-{place}", "group": _group(number)})
    return rows


def neighbours(one: Chosen, data: Path, count: int = NEIGHBOURS) -> list[dict[str, Any]]:
    """Questions about other subjects of the relation: an edit of the fact is to leave them alone; wanted as in `questions`.

    A subject is asked about once, and again in another wording where there are too few of them.
    """
    away = {one.fact.object, one.partner.object}
    others = [other for other in facts(data, one.fact.relation) if other.object not in away]
    rng, asked, rows = np.random.default_rng([one.seed, 3]), wordings()[one.fact.relation], []
    order = rng.permutation(len(others))[:count]
    for number in range(count if len(others) else 0):
        again, place = divmod(number, len(order))
        row = _row(asked[(place + again) % len(asked)], others[order[place]], one.partner.object)
        rows.append({**row, "id": f"neighbour-{number}", "group": f"neighbour-{number:02d}"})
    return rows


def _row(wording: str, fact: Fact, wanted: str) -> dict[str, Any]:
    begin = wording.index("{}")
    spans = {"subject": [begin, begin + len(fact.subject)]}
    return {"question": wording.replace("{}", fact.subject), "wanted": [wanted], "unwanted": [fact.object], "spans": spans}


def _group(number: int) -> str:
    return f"wording-{number:02d}"


def parts(one: Chosen) -> tuple[list[str], set[str]]:
    """The wordings that a fact is traced in, which are of the training part of its audit; and the groups of its test part."""
    items = locus.behaviour(questions(one), name="fact").items
    found = split(items, one.seed)
    train, test = ({items[at].group for at in part} for part in (found.train, found.test))
    asked = wordings()[one.fact.relation]
    return [asked[number] for number in range(len(asked)) if _group(number) in train][:TRACED], test


def traced(one: Chosen, tokenizer: Any) -> list[PatchPair]:
    """The pairs in which a fact is traced."""
    return [pair(tokenizer, wording, one.fact, one.partner) for wording in parts(one)[0]]
