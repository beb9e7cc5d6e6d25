"""custom: the user's own behaviour as JSON lines, checked line by line, all errors in one message.

One object a line: `question`, `true` (a list), `false` (a list); and, if wanted, `best` (default: the first true answer),
`id`, `group` (questions that must stay together in a split; default: the question itself), `category`, `source`, and `spans`
(by name, words that stand once in the question, or the characters [from, to) that they cover: `{"subject": "France"}`). A whole
number as `id` or `group` is read as a text: 7 and "7" are one. A file all of whose lines say `true` and `false` is about truth,
and can be judged by judges of truth; one that says `wanted` and `unwanted` is about whatever it is about.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from locus.behaviours import lines
from locus.behaviours.checking import Checker
from locus.behaviours.items import FILED, Dataset, Item, about_truth, normalise
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.sites.positions import SPAN, is_span

FIELDS = ("question", "true", "false", "best", "id", "group", "category", "source", "spans")
NAMES = ("id", "group")
EXPECTED = f"one JSON object {{}} with question, true (or wanted), false (or unwanted) (and if wanted {', '.join(FIELDS[3:])})"


def load_jsonl(path: str) -> Dataset:
    """Read and validate a JSONL file.

    Raises:
        UserError: listing every wrong line with its number.
    """
    make = _maker("line")
    rows = lines.read_lines(path, lambda number, row: (make(number, row), says_truth(row)), EXPECTED.format("a line"), "question")
    dataset = Dataset(f"custom:{Path(path).name}", tuple(item for item, _ in rows), "", path)
    return about_truth(dataset) if all(truth for _, truth in rows) else dataset


def says_truth(row: Any) -> bool:
    """Whether a row calls its sides true and false."""
    return isinstance(row, Mapping) and set(FILED.values()) <= row.keys()


def read_rows(rows: Iterable[tuple[int, Any]], unit: str, name: str) -> list[Item]:
    """Items from rows that are in memory, held to the same rules as a file's lines.

    Args:
        rows: each with its number.
        unit: what a row is called.
        name: of all of them, for the error.

    Raises:
        UserError: listing every wrong row with its number.
    """
    make, made, wrong = _maker(unit), [], dict[str, list[int]]()
    for number, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise ValueError([f"expected an object, received {type(row).__name__}"])
            made.append(make(number, dict(row)))
        except ValueError as error:
            for problem in error.args[0] if isinstance(error.args[0], list) else [error]:
                wrong.setdefault(str(problem), []).append(number)
    if wrong or not made:
        received = f"{name!r}: {lines.listed(wrong, unit) or 'no question'}"
        raise UserError(EXPECTED.format(f"a {unit}"), received, f"Mend these {unit}s.")
    return made


def _maker(unit: str) -> Callable[[int, JsonObject], Item]:
    """What makes items of rows one by one, and refuses what an earlier one rules out."""
    checker = Checker(unit)

    def make(number: int, row: JsonObject) -> Item:
        item = _item(number, row)
        if wrong := checker.wrong(number, item):
            raise ValueError(wrong)
        return item

    return make


def _item(number: int, given: JsonObject) -> Item:
    """A line's item.

    Raises:
        ValueError: with the list of what is wrong with its shape.
    """
    row: dict[str, Any] = {name: str(value) if name in NAMES and type(value) is int else value for name, value in given.items()}
    doubled = [new for new, old in FILED.items() if new in row and old in row]
    if doubled:
        raise ValueError([f"both {new!r} and {FILED[new]!r}, which are two names of one field" for new in doubled])
    row = {FILED.get(name, name): value for name, value in row.items()}
    wrong = [f"unknown field {name!r}" for name in row if name not in FIELDS]
    wrong += [f"no field {name!r}" for name in FIELDS[:3] if name not in row]
    for name in FIELDS:
        listed = name in ("true", "false")
        if name == "spans":
            continue
        if name in row and not (_texts(row[name]) if listed else isinstance(row[name], str)):
            wrong.append(f"{name!r} must be {'a list of texts' if listed else 'a text'}")
        elif name in NAMES and not row.get(name, name).strip():
            wrong.append(f"{name!r} is empty")
    wrong += [] if wrong else _unmarked(row["question"], row.get("spans", {}))
    if wrong:
        raise ValueError(wrong)
    true = tuple(answer.strip() for answer in row["true"])
    question = row["question"].strip()
    return Item(
        id=row.get("id", f"q{number}"),
        question=question,
        wanted=true,
        unwanted=tuple(answer.strip() for answer in row["false"]),
        best=row.get("best", true[0] if true else "").strip(),
        group=row.get("group", normalise(question)),
        category=row.get("category", ""),
        source=row.get("source", ""),
        spans={name: _characters(row["question"], words) for name, words in row.get("spans", {}).items()},
    )


def _unmarked(question: str, spans: Any) -> list[str]:
    """What is wrong with the spans of a question."""
    if not isinstance(spans, Mapping):
        return ["'spans' must be an object: by name, words of the question, or the characters [from, to) that they cover"]
    wrong = []
    for name, words in spans.items():
        if not SPAN.fullmatch(name) or not is_span(name):
            wrong.append(f"a span {name[:40]!r}: its name must be small letters, digits and _, and none of all, answer and last")
        elif isinstance(words, str):
            if not words.strip() or question.count(words) != 1:
                wrong.append(f"the words of the span {name!r} must stand in the question once")
        elif not (isinstance(words, list) and len(words) == 2 and all(type(at) is int for at in words)):
            wrong.append(f"the span {name!r} must be words of the question, or the characters [from, to) that they cover")
        elif not 0 <= words[0] < words[1] <= len(question) or not question[words[0] : words[1]].strip():
            wrong.append(f"the characters of the span {name!r} are none of the question")
    return wrong


def _characters(question: str, words: Any) -> tuple[int, int]:
    """The characters [from, to) of a span of a question without outer blanks, and without the span's own."""
    begin = question.index(words) if isinstance(words, str) else words[0]
    text = words if isinstance(words, str) else question[words[0] : words[1]]
    before = begin + len(text) - len(text.lstrip()) - (len(question) - len(question.lstrip()))
    return before, before + len(text.strip())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
