"""custom: the user's own behaviour as JSON lines, checked line by line, all errors in one message.

One object a line: `question`, `true` (a list), `false` (a list); and, if wanted, `best` (default: the first true answer),
`id`, `group` (questions that must stay together in a split; default: the question itself), `category`, `source`. A whole
number as `id` or `group` is read as a text: 7 and "7" are one.
"""

from pathlib import Path
from typing import Any

from locus.behaviours import lines
from locus.behaviours.items import FILED, Dataset, Item, contradicted, normalise, problems, repeats

FIELDS = ("question", "true", "false", "best", "id", "group", "category", "source")
NAMES = ("id", "group")


def load(path: str) -> Dataset:
    """Read and validate a JSONL file.

    Raises:
        UserError: listing every wrong line with its number.
    """
    ids: dict[str, int] = {}
    groups: dict[str, tuple[str, int]] = {}
    labels: dict[tuple[str, str], bool] = {}

    def make(number: int, row: dict[str, Any]) -> Item:
        item = _item(number, row)
        found = problems(item) + (repeats(item) or contradicted(item, labels))
        if item.id in ids:
            found.append(f"the id {item.id!r} is that of line {ids[item.id]} too")
        ids[item.id] = number
        group, line = groups.setdefault(item.question, (item.group, number))
        if group != item.group:
            found.append(f"the question of line {line} again, in another group: a split could cut it")
        if found:
            raise ValueError(found)
        return item

    expected = f"one JSON object a line with {', '.join(FIELDS[:3])} (and if wanted {', '.join(FIELDS[3:])})"
    return Dataset(f"custom:{Path(path).name}", tuple(lines.read(path, make, expected, "question")), "", path)


def _item(number: int, row: dict[str, Any]) -> Item:
    """A line's item.

    Raises:
        ValueError: with the list of what is wrong with its shape.
    """
    row = {name: str(value) if name in NAMES and type(value) is int else value for name, value in row.items()}
    both = [new for new, old in FILED.items() if new in row and old in row]
    if both:
        raise ValueError([f"both {new!r} and {FILED[new]!r}, which are two names of one field" for new in both])
    row = {FILED.get(name, name): value for name, value in row.items()}
    wrong = [f"unknown field {name!r}" for name in row if name not in FIELDS]
    wrong += [f"no field {name!r}" for name in FIELDS[:3] if name not in row]
    for name in FIELDS:
        listed = name in ("true", "false")
        if name in row and not (_texts(row[name]) if listed else isinstance(row[name], str)):
            wrong.append(f"{name!r} must be {'a list of texts' if listed else 'a text'}")
        elif name in NAMES and not row.get(name, name).strip():
            wrong.append(f"{name!r} is empty")
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
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
