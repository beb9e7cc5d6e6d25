"""Generators of aligned prompt pairs: any number of them, from a seed, for the tokenizer at hand.

Words are kept only where the tokenizer makes one token of them; what a generator cannot align it does not hand out, and
if too little is left it says so.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from locus.behaviours import contrasts, lines
from locus.behaviours.contrasts import Contrast, Lexicon
from locus.errors import UserError
from locus.patching.pairs import END, PatchPair, aligned, next_tokens
from locus.records.base import JsonObject

TRIES = 30  # draws per pair wanted, before a generator says that it has run out


def single(tokenizer: Any, words: Iterable[str]) -> list[str]:
    """The words that are one token behind a space."""
    single_token = []
    for word in words:
        try:
            next_tokens(tokenizer, "the", [f" {word}"])
        except UserError:
            continue
        single_token.append(word)
    return single_token


def collect_pairs(count: int, task: str, draw: Callable[[], PatchPair | None]) -> list[PatchPair]:
    """Draw until there are `count` different pairs; a draw that cannot be aligned, or is None, is left out.

    Raises:
        UserError: if they run out.
    """
    if count < 1:
        raise UserError("at least one pair", str(count), "Ask for more.")
    pairs: dict[tuple[tuple[int, ...], tuple[int, ...]], PatchPair] = {}
    problem = "no further pair exists"
    for _ in range(TRIES * count + 200):
        try:
            pair = draw()
        except UserError as error:
            problem = str(error)
            continue
        if pair is not None:
            pairs.setdefault((pair.clean, pair.corrupted), pair)
        if len(pairs) == count:
            return list(pairs.values())
    raise UserError(
        f"{count} different pairs of the task {task}", f"{len(pairs)} under this tokenizer ({problem})", "Ask for fewer."
    )


def aligned_pair(tokenizer: Any, contrast: Contrast, joint: str = " ", lead: str = "") -> PatchPair | None:
    """A contrast as token ids; None where its prompt is kept for the questions of an audit.

    Args:
        tokenizer: a fast tokenizer.
        contrast: the texts.
        joint: what stands before an answer and belongs to it.
        lead: what stands before an answer and belongs to the prompt.
    """
    if contrast.for_questions:
        return None
    texts = contrast.texts[0] + lead, contrast.texts[1] + lead
    answers = tuple([f"{joint}{answer}" for answer in texts_] for texts_ in contrast.answers)
    return aligned(tokenizer, texts, (answers[0], answers[1]), contrast.chars, contrast.task, contrast.group)


def enough(words: list[str], least: int, unit: str) -> list[str]:
    """The words, if there are enough.

    Raises:
        UserError: if not.
    """
    if len(words) < least:
        raise UserError(
            f"at least {least} {unit} of one token each",
            f"{len(words)} under this tokenizer",
            "Give your own prompt pairs as a JSONL file, or use the task 'induction', which needs no words.",
        )
    return words


def indirect_object(tokenizer: Any, count: int, seed: int, *, tokens: str = "S2", order: str = "both") -> list[PatchPair]:
    """Indirect object; see `contrasts.indirect_object` for `tokens` and `order`. Spans IO, S1, S2.

    Raises:
        UserError: if an option or the tokenizer cannot be used.
    """
    contrasts.people(tokens)
    if order not in ("ABBA", "BABA", "both"):
        raise UserError("order ABBA, BABA or both", order, "Choose one.")
    lexicon = Lexicon(
        enough(single(tokenizer, contrasts.NAMES), 5, "names"),
        enough(single(tokenizer, contrasts.PLACES), 1, "places"),
        enough(single(tokenizer, contrasts.OBJECTS), 1, "things"),
    )
    rng = np.random.default_rng(seed)
    return collect_pairs(
        count, "indirect-object", lambda: aligned_pair(tokenizer, contrasts.indirect_object(rng, lexicon, tokens, order))
    )


def greater_than(tokenizer: Any, count: int, seed: int) -> list[PatchPair]:
    """Greater-than: the year an event ends must be later than that it began in. Span YEAR; corrupted to year 01.

    Where two digits are one token, answers are the later two-digit years and the others the rest. Where every digit is a
    token, the first digit is asked: later decades against earlier ones, the year's own decade being neither.

    Raises:
        UserError: if the tokenizer divides years otherwise.
    """
    rng = np.random.default_rng(seed)
    probe = "The event lasted from the year 1732 to the year 17"
    two_digits = True
    try:
        next_tokens(tokenizer, probe, [f"{year:02d}" for year in range(100)])
    except UserError:
        next_tokens(tokenizer, probe, [str(digit) for digit in range(10)])
        two_digits = False
    return collect_pairs(count, "greater-than", lambda: aligned_pair(tokenizer, contrasts.greater_than(rng, two_digits), ""))


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
    rng = np.random.default_rng(seed)
    lead = "" if joint else " "
    return collect_pairs(
        count, "arithmetic", lambda: aligned_pair(tokenizer, contrasts.arithmetic(rng, results, shots, limit), joint, lead)
    )


def docstring(tokenizer: Any, count: int, seed: int) -> list[PatchPair]:
    """The third argument of a function, as its docstring names it. Spans A_DEF, B_DEF, C_DEF, A_DOC, B_DOC.

    Raises:
        UserError: if too few argument names are one token.
    """
    arguments = enough(single(tokenizer, contrasts.ARGUMENTS), 7, "argument names")
    nouns = enough(single(tokenizer, contrasts.NOUNS), 1, "nouns")
    rng = np.random.default_rng(seed)
    return collect_pairs(count, "docstring", lambda: aligned_pair(tokenizer, contrasts.docstring(rng, arguments, nouns)))


def _numbers(tokenizer: Any, joint: str, limit: int) -> list[int]:
    """Numbers below a limit that are one token after "="; the joint is the space, if it belongs to the number."""
    numbers = []
    for number in range(limit):
        try:
            next_tokens(tokenizer, "1 + 1 =" if joint else "1 + 1 = ", [f"{joint}{number}"])
        except UserError:
            continue
        numbers.append(number)
    return numbers


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

    return collect_pairs(count, "induction", draw)


def factual_recall(tokenizer: Any, count: int, seed: int, path: str = "") -> list[PatchPair]:
    """Facts of one relation, told apart by their subject. Span SUBJECT; corrupted to another subject of as many tokens.

    Args:
        tokenizer: a fast tokenizer.
        count: how many pairs, in both directions.
        seed: of the draws.
        path: JSON lines with `subject`, `relation` (a text that contains {} where the subject goes, and ends where the
            object follows) and `object`; without it, those facts of the package that no audit asks.

    Raises:
        UserError: listing wrong lines; or if too few subjects can be aligned.
    """
    relations: dict[str, dict[str, str]] = {}
    for subject, relation, item in _triples(path) if path else contrasts.facts():
        if path or not contrasts.dealt(relation.replace("{}", subject)):
            relations.setdefault(relation, {})[subject] = item
    choices = [
        (relation, first, second)
        for relation, facts in sorted(relations.items())
        for first in sorted(facts)
        for second in sorted(facts)
        if facts[first] != facts[second]
    ]
    pairs: list[PatchPair] = []
    # Every pair of facts is tried once: few may align, and none should come twice.
    for at in np.random.default_rng(seed).permutation(len(choices)).tolist():
        relation, first, second = choices[at]
        facts = relations[relation]
        contrast = contrasts.factual(relation, (first, facts[first]), (second, facts[second]))
        answers = [f" {facts[first]}"], [f" {facts[second]}"]
        try:
            pairs.append(aligned(tokenizer, contrast.texts, answers, contrast.chars, contrast.task, contrast.group))
        except UserError:
            continue
        if len(pairs) == count:
            return pairs
    raise UserError(
        f"{count} pairs of facts of one relation, with subjects of equal token length and objects of one token",
        f"{len(pairs)} in {path or 'the package'!r} under this tokenizer",
        "Give more triples, or ask for fewer pairs.",
    )


def _triples(path: str) -> list[tuple[str, str, str]]:
    def triple_of(_: int, row: JsonObject) -> tuple[str, str, str]:
        parts: list[Any] = [row.get(name) for name in ("subject", "relation", "object")]
        if not all(isinstance(part, str) and part.strip() for part in parts) or parts[1].count("{}") != 1:
            raise ValueError("needs the texts subject, relation (with one {}) and object")
        return parts[0].strip(), parts[1].rstrip(), parts[2].strip()

    return lines.read_lines(path, triple_of, "facts as JSON lines", "fact")
