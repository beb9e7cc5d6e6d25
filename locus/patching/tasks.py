"""Generators of aligned prompt pairs: any number of them, from a seed, for the tokenizer at hand.

Words are kept only where the tokenizer makes one token of them; what a generator cannot align it does not hand out, and
if too little is left it says so. The sentences are this project's own; only the tasks are the literature's.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from locus.datasets import lines
from locus.errors import UserError
from locus.patching.pairs import END, PatchPair, aligned, next_tokens

FIELD = re.compile(r"\{(\w+)\}")
TRIES = 30  # draws per pair wanted, before a generator says that it has run out
NAMES = (
    "John Mary Tom James Paul Anna David Sarah Mark Laura Peter Alice Robert Emma Michael Kate Simon Jane Daniel Lucy "
    "Adam Helen Kevin Rachel Brian Amy George Lisa Henry Julia Martin Susan"
).split()
PLACES = "school station library garden office market museum harbour kitchen church hospital theatre".split()
OBJECTS = "book letter ticket key cup ball map ring lamp basket drink camera".split()
SCENES = (
    "On Monday {FIRST} and {SECOND} walked to the {place}, where {S2} handed a {object} to",
    "After the storm, {FIRST} and {SECOND} met at the {place}. Then {S2} gave a {object} to",
    "While {FIRST} and {SECOND} were waiting near the {place}, {S2} passed the {object} to",
    "Last year {FIRST} and {SECOND} shared a room by the {place}, and {S2} lent a {object} to",
    "When {FIRST} and {SECOND} came home from the {place}, {S2} showed a {object} to",
)
EVENTS = "war siege strike voyage reign famine trial feud drought expedition truce journey".split()


def single(tokenizer: Any, words: Iterable[str]) -> list[str]:
    """The words that are one token behind a space."""
    kept = []
    for word in words:
        try:
            next_tokens(tokenizer, "the", [f" {word}"])
        except UserError:
            continue
        kept.append(word)
    return kept


def filled(template: str, words: dict[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """A template with its fields filled, and the characters (from, to) of the fields in capitals."""
    text, spans, last = "", {}, 0
    for found in FIELD.finditer(template):
        text += template[last : found.start()]
        if found[1].isupper():
            spans[found[1]] = (len(text), len(text) + len(words[found[1]]))
        text, last = text + words[found[1]], found.end()
    return text + template[last:], spans


def collect(count: int, task: str, draw: Callable[[], PatchPair]) -> list[PatchPair]:
    """Draw until there are `count` different pairs; a draw that cannot be aligned is left out.

    Raises:
        UserError: if they run out.
    """
    if count < 1:
        raise UserError("at least one pair", str(count), "Ask for more.")
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], PatchPair] = {}
    problem = "no further pair exists"
    for _ in range(TRIES * count + 200):
        try:
            pair = draw()
        except UserError as error:
            problem = str(error)
            continue
        found.setdefault((pair.clean, pair.corrupted), pair)
        if len(found) == count:
            return list(found.values())
    raise UserError(
        f"{count} different pairs of the task {task}", f"{len(found)} under this tokenizer ({problem})", "Ask for fewer."
    )


def enough(words: list[str], least: int, what: str) -> list[str]:
    """The words, if there are enough.

    Raises:
        UserError: if not.
    """
    if len(words) < least:
        raise UserError(
            f"at least {least} {what} of one token each",
            f"{len(words)} under this tokenizer",
            "Give your own prompt pairs as a JSONL file, or use the task 'induction', which needs no words.",
        )
    return words


def indirect_object(
    tokenizer: Any, count: int, seed: int, *, counterfactual: Literal["S2", "ABC"] = "S2", order: str = "both"
) -> list[PatchPair]:
    """Indirect object: two people, one acts, the other is named next. Spans IO, S1, S2.

    Args:
        tokenizer: a fast tokenizer.
        count: how many pairs.
        seed: of the draws.
        counterfactual: "S2" puts the other name in the second subject's place, which exchanges the answers; "ABC" puts
            three other names in all three places, which leaves no answer (the subject stays the other answer).
        order: "ABBA" (the indirect object first), "BABA" or "both".

    Raises:
        UserError: if an option or the tokenizer cannot be used.

    Source: Wang et al. 2022 for the task.
    """
    if counterfactual not in ("S2", "ABC") or order not in ("ABBA", "BABA", "both"):
        raise UserError("counterfactual S2 or ABC, order ABBA, BABA or both", f"{counterfactual}, {order}", "Choose one.")
    names = enough(single(tokenizer, NAMES), 5, "names")
    places = enough(single(tokenizer, PLACES), 1, "places")
    objects = enough(single(tokenizer, OBJECTS), 1, "things")
    rng = np.random.default_rng(seed)

    def draw() -> PatchPair:
        scene = int(rng.integers(len(SCENES)))
        form = order if order != "both" else ("ABBA", "BABA")[int(rng.integers(2))]
        io, subject, *others = (names[k] for k in rng.choice(len(names), size=5, replace=False))
        setting = {"place": places[int(rng.integers(len(places)))], "object": objects[int(rng.integers(len(objects)))]}
        people = {"IO": io, "S1": subject, "S2": subject}
        swapped = people | {"S2": io} if counterfactual == "S2" else dict(zip(people, others, strict=True))
        template = SCENES[scene].replace("FIRST", "IO" if form == "ABBA" else "S1")
        template = template.replace("SECOND", "S1" if form == "ABBA" else "IO")
        clean, here = filled(template, people | setting)
        corrupted, there = filled(template, swapped | setting)
        answers = [f" {io}"], [f" {subject}"]
        return aligned(tokenizer, (clean, corrupted), answers, (here, there), "indirect-object", f"{form}-{scene}")

    return collect(count, "indirect-object", draw)


def greater_than(tokenizer: Any, count: int, seed: int) -> list[PatchPair]:
    """Greater-than: an event begins in a year, and the year it ends must be later. Span YEAR; corrupted to year 01.

    Where two digits are one token, answers are the later two-digit years and the others the rest. Where every digit is a
    token, the first digit is asked: later decades against earlier ones, the year's own decade being neither.

    Raises:
        UserError: if the tokenizer divides years otherwise.

    Source: Hanna et al. 2023 for the task.
    """
    events = enough(single(tokenizer, EVENTS), 1, "events")
    rng = np.random.default_rng(seed)
    probe = "The event lasted from the year 1732 to the year 17"
    digits = [str(digit) for digit in range(10)]
    years = [f"{year:02d}" for year in range(100)]
    try:
        next_tokens(tokenizer, probe, years)
        units, span = years, (2, 99)
    except UserError:
        next_tokens(tokenizer, probe, digits)
        units, span = digits, (10, 90)

    def draw() -> PatchPair:
        year, century = int(rng.integers(*span)), int(rng.integers(11, 19))
        event = events[int(rng.integers(len(events)))]
        template = f"The {event} lasted from the year {century}{{YEAR}} to the year {century}"
        clean, here = filled(template, {"YEAR": f"{year:02d}"})
        corrupted, there = filled(template, {"YEAR": "01"})
        if units is years:
            answers = years[year + 1 :], years[: year + 1]
        else:
            answers = digits[year // 10 + 1 :], digits[: year // 10]
        return aligned(tokenizer, (clean, corrupted), answers, (here, there), "greater-than", event)

    return collect(count, "greater-than", draw)


def arithmetic(tokenizer: Any, count: int, seed: int, *, shots: int = 2, limit: int = 100) -> list[PatchPair]:
    """Two operands, plus or minus, after worked examples. Spans A and B; corrupted to other operands with another result.

    Results that are more than one token under the tokenizer are left out, so that with one token a digit results
    have one digit.

    Args:
        tokenizer: a fast tokenizer.
        count: how many pairs.
        seed: of the draws.
        shots: worked examples before the question.
        limit: operands and results lie below it.

    Raises:
        UserError: if no result is a single token, or pairs run out.
    """
    joint = ""
    results = _numbers(tokenizer, joint := " ", limit) or _numbers(tokenizer, joint := "", limit)
    if len(results) < 2:
        raise UserError(
            "a tokenizer that has numbers as single tokens", f"{len(results)} of {limit} under this one", "Use another task."
        )
    lead = "" if joint else " "
    rng = np.random.default_rng(seed)

    def operands(sign: str) -> tuple[int, int, int]:
        result = int(results[int(rng.integers(len(results)))])
        first = int(rng.integers(0, result + 1)) if sign == "+" else int(rng.integers(result, min(limit, result + 10)))
        return first, abs(result - first), result

    def draw() -> PatchPair:
        sign = "+-"[int(rng.integers(2))]
        worked = [operands(sign) for _ in range(shots)]
        (a, b, right), (c, d, wrong) = operands(sign), operands(sign)
        head = "".join(f"{x} {sign} {y} = {z}\n" for x, y, z in worked)
        template = f"{head}{{A}} {sign} {{B}} ={lead}"
        clean, here = filled(template, {"A": str(a), "B": str(b)})
        corrupted, there = filled(template, {"A": str(c), "B": str(d)})
        answers = [f"{joint}{right}"], [f"{joint}{wrong}"]
        return aligned(tokenizer, (clean, corrupted), answers, (here, there), "arithmetic", sign)

    return collect(count, "arithmetic", draw)


def _numbers(tokenizer: Any, joint: str, limit: int) -> list[str]:
    """Numbers below a limit that are one token after "="; the joint is the space, if it belongs to the number."""
    kept = []
    for number in range(limit):
        try:
            next_tokens(tokenizer, "1 + 1 =" if joint else "1 + 1 = ", [f"{joint}{number}"])
        except UserError:
            continue
        kept.append(str(number))
    return kept


def induction(tokenizer: Any, count: int, seed: int, *, length: int = 16) -> list[PatchPair]:
    """Random tokens, then the same again up to one: what followed it before comes next. Spans FIRST, NEXT and end.

    The corrupted prompt has another random token where the answer stood (NEXT), which is then its own answer.

    Args:
        tokenizer: any tokenizer; its special tokens are left out.
        count: how many pairs.
        seed: of the draws.
        length: tokens before the repetition, at least 3.

    Raises:
        UserError: if the length or the vocabulary is too small.
    """
    special = set(tokenizer.all_special_ids)
    usable = np.array([token for token in range(len(tokenizer)) if token not in special])
    if length < 3 or len(usable) < length + 1:
        raise UserError(
            "a length of 3 or more, and a larger vocabulary", f"length {length}, {len(usable)} tokens", "Choose another length."
        )
    opening = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    rng = np.random.default_rng(seed)

    def draw() -> PatchPair:
        *stretch, other = (int(token) for token in rng.choice(usable, size=length + 1, replace=False))
        at = int(rng.integers(1, length - 1))
        changed = [*stretch[: at + 1], other, *stretch[at + 2 :]]
        clean, corrupted = ([*opening, *tokens, *stretch[: at + 1]] for tokens in (stretch, changed))
        first = len(opening) + at
        spans = {"FIRST": (first,), "NEXT": (first + 1,), END: (len(clean) - 1,)}
        text = tokenizer.decode(clean), tokenizer.decode(corrupted)
        return PatchPair(tuple(clean), tuple(corrupted), (stretch[at + 1],), (other,), spans, "induction", "", text)

    return collect(count, "induction", draw)


def factual_recall(tokenizer: Any, count: int, seed: int, path: str) -> list[PatchPair]:
    """Facts of one relation, told apart by their subject. Span SUBJECT; corrupted to another subject of as many tokens.

    Args:
        tokenizer: a fast tokenizer.
        count: how many pairs, in both directions.
        seed: of the draws.
        path: JSON lines with `subject`, `relation` (a text that contains {} where the subject goes, and ends where the
            object follows) and `object`.

    Raises:
        UserError: listing wrong lines; or if too few subjects can be aligned.
    """
    relations: dict[str, dict[str, str]] = {}
    for subject, relation, item in _triples(path):
        relations.setdefault(relation, {})[subject] = item
    choices = [
        (relation, one, two)
        for relation, facts in sorted(relations.items())
        for one in sorted(facts)
        for two in sorted(facts)
        if facts[one] != facts[two]
    ]
    found: list[PatchPair] = []
    # Every pair of facts is tried once: few may align, and none should come twice.
    for at in np.random.default_rng(seed).permutation(len(choices)).tolist():
        relation, one, two = choices[at]
        template, facts = relation.replace("{}", "{SUBJECT}"), relations[relation]
        clean, here = filled(template, {"SUBJECT": one})
        corrupted, there = filled(template, {"SUBJECT": two})
        answers = [f" {facts[one]}"], [f" {facts[two]}"]
        try:
            found.append(aligned(tokenizer, (clean, corrupted), answers, (here, there), "factual-recall", relation))
        except UserError:
            continue
        if len(found) == count:
            return found
    raise UserError(
        f"{count} pairs of facts of one relation, with subjects of equal token length and objects of one token",
        f"{len(found)} in {path!r} under this tokenizer",
        "Give more triples, or ask for fewer pairs.",
    )


def _triples(path: str) -> list[tuple[str, str, str]]:
    def make(_: int, row: dict[str, Any]) -> tuple[str, str, str]:
        parts: list[Any] = [row.get(name) for name in ("subject", "relation", "object")]
        if not all(isinstance(part, str) and part.strip() for part in parts) or parts[1].count("{}") != 1:
            raise ValueError("needs the texts subject, relation (with one {}) and object")
        return parts[0].strip(), parts[1].rstrip(), parts[2].strip()

    return lines.read(path, make, "facts as JSON lines", "fact")
