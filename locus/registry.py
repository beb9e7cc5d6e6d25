"""What can be named: behaviours, claims, edits, metrics, judges, executors, model sources. Code is imported when asked for.

An entry is a name, the place of its code (`module:attribute`), a line of help, and the extra whose packages it needs. Our own are
listed here; another package's are found through entry points of the groups `locus.behaviours`, `locus.claims` and so on; and a
script or notebook may `register` one of its own.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, get_args

from locus.errors import UserError

Kind = Literal["behaviours", "claims", "edits", "metrics", "judges", "executors", "models"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEMORY = "memory:"  # begins the name of what lay in somebody's memory, which no name opens again


@dataclass(frozen=True)
class Entry:
    """Something that can be named.

    Attributes:
        name: what it is called; what follows a colon in what a user writes is its argument.
        target: where it is, as `module:attribute`.
        help: what it is, in a line.
        extra: the extra of this package that brings what it needs, or "".
    """

    name: str
    target: str
    help: str
    extra: str = ""

    def load(self) -> Any:
        """What the name stands for; imported now.

        Raises:
            UserError: if what it needs is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").startswith("locus"):
                raise
            raise UserError(
                f"the packages that {self.name!r} needs",
                f"none by the name of {error.name!r}",
                f"pip install 'locus-audit[{self.extra}]'.",
            ) from error


OWN: dict[Kind, tuple[Entry, ...]] = {
    "behaviours": (
        Entry("misconceptions", "locus.behaviours.misconceptions:open_behaviour", "common misconceptions, with the package"),
        Entry("truthfulqa", "locus.behaviours.truthfulqa:open_behaviour", "TruthfulQA, from the hub or truthfulqa:FILE"),
        Entry("task", "locus.behaviours.tasks:open_behaviour", "task:NAME, the prompts of a patching task as questions"),
        Entry("planted", "locus.models.planted.named:open_behaviour", "planted:KIND:SEED, the questions of a planted model"),
    ),
    "models": (Entry("planted", "locus.models.planted.named:load_named", "planted:KIND:SEED, a model whose location is known"),),
    "claims": (),
    "edits": (),
    "metrics": (),
    "judges": (),
    "executors": (),
}
_registered: dict[Kind, dict[str, Entry]] = {}


def register(kind: Kind, name: str, target: str | Callable[..., Any], help: str = "", extra: str = "") -> None:
    """Make something of one's own known by a name, for this process.

    Args:
        kind: what it is.
        name: what it will be called; it takes the place of none that is there.
        target: where it is, as `module:attribute`, or a function or class at the top of a module.
        help: what it is, in a line.
        extra: the extra that brings what it needs.

    Raises:
        UserError: if the name is taken by something else, or the target cannot be named.
    """
    where = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
    if not isinstance(target, str) and "<" in where:
        raise UserError("a function or class at the top of a module, or 'module:attribute'", where, "Define it at the top.")
    made = Entry(name, where, help, extra)
    if (known := entries(kind).get(name)) is not None and known.target != where:
        raise UserError(f"a name that is not taken among {kind}", repr(name), f"It stands for {known.target}; choose another.")
    _registered.setdefault(kind, {})[name] = made


def entries(kind: Kind) -> dict[str, Entry]:
    """All that is known of a kind, by name: ours, other packages', and what was registered here."""
    found = {one.name: one for one in OWN[kind]}
    for name, target in _installed(kind):
        found.setdefault(name, Entry(name, target, f"from {target.partition(':')[0].partition('.')[0]}"))
    return {**found, **_registered.get(kind, {})}


@cache
def _installed(kind: Kind) -> tuple[tuple[str, str], ...]:
    return tuple((one.name, one.value) for one in entry_points(group=f"locus.{kind}"))


def known(kind: Kind, name: str) -> bool:
    """Whether a name, up to its first colon, is known."""
    return name.partition(":")[0] in entries(kind)


def get(kind: Kind, name: str) -> Any:
    """What a name stands for.

    Args:
        kind: of what.
        name: its name; an argument behind a colon is not read here.

    Raises:
        UserError: if there is none of the name, suggesting the nearest; or if what it needs is not installed.
    """
    found, called = entries(kind), name.partition(":")[0]
    if called not in found:
        near = difflib.get_close_matches(called, found, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}? " if near else ""
        raise UserError(f"one of {', '.join(sorted(found))}", repr(name[:80]), f"{remedy}`locus list {kind}` shows them.")
    return found[called].load()
