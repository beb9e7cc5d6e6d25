"""Pairs of prompts that differ in a few words and thereby in their answers, as text: what patching and an audit both draw from.

A prompt is dealt to one of the two by its own text, so that no prompt on which heads were found is among the questions
on which they are audited. The sentences are this project's own; only the tasks are the literature's.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from locus.errors import UserError

FIELD = re.compile(r"\{(\w+)\}")
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
PEOPLE = ("IO", "S1", "S2")
ARGUMENTS = (
    "size name data path file user port node text line page item list type code host mode time date key value index "
    "label level limit state image table table_id group order"
).split()
NOUNS = "report window server parser filter cache folder widget record signal record_id number".split()


@dataclass(frozen=True)
class Contrast:
    """A clean and a corrupted prompt.

    Attributes:
        texts: the clean and the corrupted prompt, without a space at the end.
        chars: for each, the characters (from, to) of every named span.
        answers: right next words of each, without a space before them.
        task: which generator made it.
        group: pairs of one template or relation share it.
        unit: what a split of questions should not cut.
    """

    texts: tuple[str, str]
    chars: tuple[Mapping[str, tuple[int, int]], Mapping[str, tuple[int, int]]]
    answers: tuple[Sequence[str], Sequence[str]]
    task: str
    group: str
    unit: str

    @property
    def for_questions(self) -> bool:
        """Whether its clean prompt belongs to the questions of an audit rather than to the pairs that are patched."""
        return dealt(self.texts[0])


def dealt(text: str) -> bool:
    """A fair coin that depends on a text alone."""
    return bool(hashlib.sha256(text.encode()).digest()[0] & 1)


def filled(template: str, words: Mapping[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """A template with its fields filled, and the characters (from, to) of the fields in capitals."""
    text, spans, last = "", {}, 0
    for match in FIELD.finditer(template):
        text += template[last : match.start()]
        if match[1].isupper():
            spans[match[1]] = (len(text), len(text) + len(words[match[1]]))
        text, last = text + words[match[1]], match.end()
    return text + template[last:], spans


def _contrast(
    template: str,
    words: tuple[Mapping[str, str], Mapping[str, str]],
    answers: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str, str],
) -> Contrast:
    (clean, clean_spans), (corrupted, corrupted_spans) = filled(template, words[0]), filled(template, words[1])
    return Contrast((clean, corrupted), (clean_spans, corrupted_spans), answers, *names)


@dataclass(frozen=True)
class Lexicon:
    """The words sentences are made of; patching keeps those that are one token."""

    names: Sequence[str] = tuple(NAMES)
    places: Sequence[str] = tuple(PLACES)
    objects: Sequence[str] = tuple(OBJECTS)


def _draw_word(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def people(tokens: str) -> tuple[str, ...]:
    """Which of IO, S1 and S2 a setting such as "S2" or "S1+IO" corrupts; "ABC" is all three.

    Raises:
        UserError: if it names anybody else.
    """
    names = PEOPLE if tokens == "ABC" else tuple(tokens.split("+"))
    if not set(names) <= set(PEOPLE) or len(set(names)) < len(names):
        raise UserError("corrupted tokens among S2, S1, IO joined by +, or ABC", repr(tokens), "Try S2, S1+IO or ABC.")
    return names


def indirect_object(rng: np.random.Generator, lexicon: Lexicon, tokens: str = "S2", order: str = "both") -> Contrast:
    """Two people, one acts, the other is named next. Spans IO, S1, S2.

    Args:
        rng: of the draw.
        lexicon: its words.
        tokens: which people are corrupted. "S2" puts the other person's name there, which exchanges the answers; any
            other choice ("S1+IO", "ABC") puts new names, one each, and the subject stays the other answer.
        order: "ABBA" (the indirect object first), "BABA" or "both".

    Source: Wang et al. 2022 for the task; Zhang & Nanda 2023 for corrupting S2 or S1 and IO.
    """
    scene, flip = int(rng.integers(len(SCENES))), int(rng.integers(2))
    form = order if order != "both" else ("ABBA", "BABA")[flip]
    io, subject, *other_names = (lexicon.names[k] for k in rng.choice(len(lexicon.names), size=5, replace=False))
    setting = {"place": _draw_word(rng, lexicon.places), "object": _draw_word(rng, lexicon.objects)}
    clean = {"IO": io, "S1": subject, "S2": subject}
    fresh = {"S2": io} if tokens == "S2" else dict(zip(people(tokens), other_names, strict=False))
    template = SCENES[scene].replace("FIRST", "IO" if form == "ABBA" else "S1")
    template = template.replace("SECOND", "S1" if form == "ABBA" else "IO")
    labels = ("indirect-object", f"{form}-{scene}", " and ".join(sorted((io, subject))))
    return _contrast(template, (clean | setting, clean | fresh | setting), ([io], [subject]), labels)


def greater_than(rng: np.random.Generator, two_digits: bool) -> Contrast:
    """An event begins in a year, and the year it ends must be later. Span YEAR; corrupted to year 01.

    Args:
        rng: of the draw.
        two_digits: whether answers are the two last digits of a year (later ones against the rest), or the third digit
            alone (later decades against earlier ones, the year's own being neither).

    Source: Hanna et al. 2023 for the task.
    """
    year, century = int(rng.integers(*((2, 99) if two_digits else (10, 90)))), int(rng.integers(11, 19))
    event = _draw_word(rng, EVENTS)
    template = f"The {event} lasted from the year {century}{{YEAR}} to the year {century}"
    years = [f"{number:02d}" for number in range(100)] if two_digits else [str(digit) for digit in range(10)]
    answers = (years[year + 1 :], years[: year + 1]) if two_digits else (years[year // 10 + 1 :], years[: year // 10])
    labels = ("greater-than", event, f"{century}{year:02d}")
    return _contrast(template, ({"YEAR": f"{year:02d}"}, {"YEAR": "01"}), answers, labels)


def arithmetic(rng: np.random.Generator, results: Sequence[int], shots: int, limit: int) -> Contrast:
    """Two operands, plus or minus, after worked examples. Spans A and B; corrupted to other operands with another result."""

    def operands(sign: str) -> tuple[int, int, int]:
        result = results[int(rng.integers(len(results)))]
        first = int(rng.integers(0, result + 1)) if sign == "+" else int(rng.integers(result, min(limit, result + 10)))
        return first, abs(result - first), result

    sign = "+-"[int(rng.integers(2))]
    worked = [operands(sign) for _ in range(shots)]
    (a, b, right), (c, d, wrong) = operands(sign), operands(sign)
    template = "".join(f"{x} {sign} {y} = {z}\n" for x, y, z in worked) + f"{{A}} {sign} {{B}} ="
    words = {"A": str(a), "B": str(b)}, {"A": str(c), "B": str(d)}
    return _contrast(template, words, ([str(right)], [str(wrong)]), ("arithmetic", sign, f"{a} {sign} {b}"))


def docstring(rng: np.random.Generator, arguments: Sequence[str], nouns: Sequence[str]) -> Contrast:
    """A Python function whose docstring names its arguments in order; the third is next. Spans A_DEF to C_DEF, B_DOC.

    The corrupted prompt has another third argument in the definition, which is then its own answer.

    Source: Heimersheim & Janiak 2023 for the task.
    """
    a, b, c, d, *spare = (arguments[k] for k in rng.choice(len(arguments), size=7, replace=False))
    function, first, second = (_draw_word(rng, nouns) for _ in range(3))
    template = (
        f"def {function}(self, {spare[0]}, {{A_DEF}}, {{B_DEF}}, {{C_DEF}}, {spare[1]}, {spare[2]}):\n"
        f'    """the {function} of the {first}\n\n'
        f"    :param {{A_DOC}}: the {second}\n    :param {{B_DOC}}: the {first}\n    :param"
    )
    clean = {"A_DEF": a, "B_DEF": b, "C_DEF": c, "A_DOC": a, "B_DOC": b}
    return _contrast(template, (clean, clean | {"C_DEF": d}), ([c], [d]), ("docstring", "", f"{a} {b} {c}"))


def facts(text: str = "") -> list[tuple[str, str, str]]:
    """(subject, relation, object) of the facts that come with the package; a relation has {} where the subject goes."""
    text = text or resources.files("locus.behaviours").joinpath("facts.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    return [(row["subject"], row["relation"], row["object"]) for row in rows]


def factual(relation: str, first: tuple[str, str], second: tuple[str, str]) -> Contrast:
    """Two facts (subject, object) of one relation. Span SUBJECT; corrupted to the other subject."""
    template, words = relation.replace("{}", "{SUBJECT}"), ({"SUBJECT": first[0]}, {"SUBJECT": second[0]})
    return _contrast(template, words, ([first[1]], [second[1]]), ("factual-recall", relation, first[0]))
