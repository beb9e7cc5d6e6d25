"""What the value of a single setting may be: a day, plain variables, names that the registry knows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from locus import registry
from locus.behaviours.template import Scalar
from locus.boundary.incoming import EXACT
from locus.errors import UserError
from locus.metrics.base import Metric, metric
from locus.models.devices import DeviceMap, as_map


def device_map(value: Any) -> DeviceMap | None:
    """A word, a table of modules and devices, or a JSON file of one, which is read now."""
    with _gathered():
        return as_map(value)


def day(value: Any) -> date:
    """A day as TOML and plans have it, and nothing else that could be read as one."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        return date.fromisoformat(value)
    raise ValueError("a day such as 2024-07-26 is expected")


def scalars(value: Any) -> dict[str, Scalar]:
    """A table of names and plain values."""
    if not isinstance(value, dict) or not all(isinstance(name, str) and name.isidentifier() for name in value):
        raise ValueError("a table of variables is expected, such as {enable_thinking=false}")
    for name, one in value.items():
        if not isinstance(one, Scalar) or (not isinstance(one, str) and not abs(one) <= EXACT):
            raise ValueError(f"{name} is to be true, false, a number or a text")
    return value


def deciding(name: str) -> str:
    """A metric from which a verdict may be drawn."""
    if not _metric(name).decides:
        raise ValueError("a metric of test questions of which more is better is expected")
    return name


def metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    """Metrics that are known."""
    for name in names:
        _metric(name)
    return names


def _metric(name: str) -> Metric:
    with _gathered():
        return metric(name)


def edit(name: str) -> str:
    """A known kind of edit; it is not imported to be named."""
    with _gathered():
        registry.entry("edits", name)
    return name


def edits(names: tuple[str, ...]) -> tuple[str, ...]:
    """Known kinds of edit, each once."""
    if len(set(names)) < len(names):
        raise ValueError("different edits are expected")
    return tuple(map(edit, names))


def executor(name: str) -> str:
    """A known executor; it is not imported to be named."""
    if name != "auto":
        with _gathered():
            registry.entry("executors", name)
    return name


@contextmanager
def _gathered() -> Iterator[None]:
    """What the registry does not know is said as pydantic gathers it, with all else that is wrong."""
    try:
        yield
    except UserError as error:
        raise ValueError(f"{error.expected} is expected. {error.remedy}") from error
