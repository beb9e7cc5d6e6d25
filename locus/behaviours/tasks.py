"""task: the prompts of a patching task as questions with right and wrong answers, so that what patching finds can be audited.

Named task:NAME, task:NAME:COUNT or task:NAME:COUNT:SEED. A question is a clean prompt, asked bare; the patching command
never draws a prompt that is a question here. Sentences by this project; facts are common knowledge; licence as the package.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

from locus.behaviours import contrasts
from locus.behaviours.contrasts import Contrast
from locus.behaviours.items import Dataset, Item
from locus.errors import UserError

TASKS = ("ioi", "greater-than", "arithmetic", "docstring", "factual")
COUNT, LARGEST = 300, 100_000
MOST = 3  # answers of a side, where a task has many (years)
TRIES = 100  # draws a question wanted, before a task has run out


def load_task(name: str) -> Dataset:
    """The questions of a task.

    Raises:
        UserError: if there is no such task, or it has not so many questions.
    """
    task, *fields = name.removeprefix("task:").split(":")
    if task not in TASKS or len(fields) > 2 or not all(re.fullmatch("[0-9]{1,15}", field) for field in fields):
        raise UserError(
            f"task:NAME, task:NAME:COUNT or task:NAME:COUNT:SEED with NAME one of {', '.join(TASKS)}",
            repr(name[:80]),
            "Tasks of random tokens have no text, and cannot be asked as questions.",
        )
    numbers = [int(field) for field in fields]
    if numbers and not 1 <= numbers[0] <= LARGEST:
        raise UserError(f"1 to {LARGEST:,} questions of a task", str(numbers[0]), "Ask for another number.")
    seed = numbers[1] if len(numbers) == 2 else 0
    items = _facts() if task == "factual" else _draw_items(task, numbers[0] if numbers else COUNT, seed)
    if task == "factual" and numbers:
        picked = np.random.default_rng(seed).permutation(len(items))[: numbers[0]]
        items = [items[index] for index in sorted(picked)]
    return Dataset(f"task:{task}", tuple(items), "Apache-2.0", "written for locus")


def _draw_items(task: str, count: int, seed: int) -> list[Item]:
    rng = np.random.default_rng([seed, TASKS.index(task)])
    draw: Callable[[], Contrast] = {
        "ioi": lambda: contrasts.indirect_object(rng, contrasts.Lexicon()),
        "greater-than": lambda: contrasts.greater_than(rng, True),
        "arithmetic": lambda: contrasts.arithmetic(rng, range(100), 2, 100),
        "docstring": lambda: contrasts.docstring(rng, contrasts.ARGUMENTS, contrasts.NOUNS),
    }[task]
    items: dict[str, Item] = {}
    for _ in range(TRIES * max(1, count)):
        if len(items) == count:
            return list(items.values())
        contrast = draw()
        if contrast.for_questions:
            items.setdefault(contrast.texts[0], _item(contrast, len(items), rng))
    raise UserError(f"1 or more questions of {task}, as many as there are", f"{count}, of {len(items)}", "Ask for fewer.")


def _item(contrast: Contrast, number: int, rng: np.random.Generator) -> Item:
    """A contrast as a question; of many answers some are drawn."""
    text = contrast.texts[0]
    answers = [list(texts) for texts in contrast.answers]
    if contrast.task == "greater-than":
        # A year is asked whole: the answer then begins a word, as the bare prompt format has it.
        century = text[-2:]
        text = text[:-2].rstrip()
        answers = [[f"{century}{year}" for year in texts] for texts in answers]
    true, false = (sorted(texts[k] for k in rng.permutation(len(texts))[:MOST]) for texts in answers)
    spans = {name.lower(): place for name, place in contrast.chars[0].items() if place[1] <= len(text)}
    id = f"{contrast.task}-{number}"
    return Item(id, text, tuple(true), tuple(false), true[0], contrast.unit, contrast.group, spans=spans)


def _facts() -> list[Item]:
    """Every fact whose prompt is dealt to the questions, against two other objects of its relation."""
    return list(_items(contrasts.facts()))


def _items(triples: list[tuple[str, str, str]]) -> Iterator[Item]:
    for number, (subject, relation, right) in enumerate(triples):
        prompt = relation.replace("{}", subject)
        wrong_objects = sorted({item for one, kind, item in triples if kind == relation and item != right})
        if contrasts.dealt(prompt) and wrong_objects:
            false = [
                wrong_objects[(number * 7) % len(wrong_objects)],
                wrong_objects[(number * 7 + len(wrong_objects) // 2) % len(wrong_objects)],
            ]
            wrong = tuple(dict.fromkeys(false))
            begin = relation.index("{}")
            spans = {"subject": (begin, begin + len(subject))}
            yield Item(f"fact-{number}", prompt, (right,), wrong, right, subject, relation, spans=spans)


def open_behaviour(name: str) -> Dataset:
    """A task's questions by the name `task:NAME[:COUNT[:SEED]]`."""
    return load_task(name)
