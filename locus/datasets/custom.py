"""custom: the user's own behaviour as JSON lines, checked line by line, all errors in one message.

One object a line: `question`, `true` (a list), `false` (a list); and, if wanted, `best` (default: the first true answer),
`id`, `group` (questions that must stay together in a split; default: the question itself), `category`, `source`.
"""

import json
from pathlib import Path
from typing import Any

from locus.datasets.items import Dataset, Item, normalise, problems
from locus.errors import UserError

FIELDS = ("question", "true", "false", "best", "id", "group", "category", "source")


def load(path: str) -> Dataset:
    """Read and validate a JSONL file.

    Raises:
        UserError: listing every wrong line with its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("a UTF-8 JSONL file of questions", f"{path!r} ({error})", "Check the path.") from error
    items: list[Item] = []
    wrong: list[str] = []
    ids: dict[str, int] = {}
    groups: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        item, found = _item(line, number)
        if item is not None:
            found += problems(item)
            if item.id in ids:
                found.append(f"the id {item.id!r} is that of line {ids[item.id]} too")
            ids[item.id] = number
            key = normalise(item.question)
            if key in groups and groups[key][0] != item.group:
                found.append(f"the question of line {groups[key][1]} again, in another group: a split could cut it")
            groups.setdefault(key, (item.group, number))
            items.append(item)
        wrong += [f"line {number}: {problem}" for problem in found]
    if wrong or not items:
        shown = "; ".join(wrong[:20]) + (f"; and {len(wrong) - 20} more" if len(wrong) > 20 else "")
        raise UserError(
            f"one JSON object a line with {', '.join(FIELDS[:3])} (and if wanted {', '.join(FIELDS[3:])})",
            f"{path!r}: {shown or 'no question'}",
            "Mend these lines.",
        )
    return Dataset(f"custom:{Path(path).name}", tuple(items), "", path)


def _item(line: str, number: int) -> tuple[Item | None, list[str]]:
    """One line's item, or what is wrong with its shape."""
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return None, [f"not JSON ({error.msg} at column {error.colno})"]
    if not isinstance(row, dict):
        return None, [f"expected an object, received {type(row).__name__}"]
    wrong = [f"unknown field {name!r}" for name in row if name not in FIELDS]
    wrong += [f"no field {name!r}" for name in FIELDS[:3] if name not in row]
    for name in FIELDS:
        listed = name in ("true", "false")
        if name in row and not (_texts(row[name]) if listed else isinstance(row[name], str)):
            wrong.append(f"{name!r} must be {'a list of texts' if listed else 'a text'}")
    if wrong:
        return None, wrong
    true = tuple(answer.strip() for answer in row["true"])
    question = row["question"].strip()
    return (
        Item(
            id=row.get("id", f"q{number}"),
            question=question,
            true=true,
            false=tuple(answer.strip() for answer in row["false"]),
            best=row.get("best", true[0] if true else "").strip(),
            group=row.get("group", normalise(question)),
            category=row.get("category", ""),
            source=row.get("source", ""),
        ),
        [],
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
