"""How sites are written and read, whatever their kind: each kind says its notations, and no text fits two of them."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby

from locus.errors import UserError
from locus.sites.kind import SiteKind, kind_of, kinds
from locus.sites.positions import SPAN

NUMBER = "(0|[1-9][0-9]{0,4})"
HEX = "([0-9a-f]{12})"  # what {:012x} stands for: what is known by its content has no count
MOST = 1 << 22  # sites that one text may name
RUN = 3  # neighbours from which on a run is written as one
Place = tuple[int, int]  # layer and index


@cache
def pattern(notation: str, runs: bool = False) -> "re.Pattern[str]":
    """What fits a notation, in which {} stands for a number counted from zero; with `runs` the last one may be a run of them."""
    *parts, end = (re.escape(part) for part in re.split(r"\{(?::012x)?\}", notation))
    numbers = [HEX if field == "{:012x}" else NUMBER for field in re.findall(r"\{(?::012x)?\}", notation)]
    if runs:
        numbers[-1] = f"{NUMBER}(?:-{NUMBER})?"
    return re.compile("".join(part + number for part, number in zip(parts, numbers, strict=True)) + end, re.ASCII)


def named(word: str) -> tuple[str, list[Place]] | None:
    """The kind of site that a word names and which ones; None where it names none.

    Raises:
        ValueError: if it is a run that ends before it begins, or acts at positions that nothing is called.
    """
    word, marked, at = word.partition("@")
    if marked:
        if (found := named(word)) is None:
            return None
        if not SPAN.fullmatch(at):
            raise ValueError(f"{at!r}, which no positions are called")
        return kind_of(found[0]).acting(at).name, found[1]
    for kind in kinds():
        for notation in kind.notations:
            if match := pattern(notation, kind.runs and notation == kind.notations[0]).fullmatch(word):
                base = 16 if notation.endswith("{:012x}") else 10
                layer, *ends = (int(number, base if place else 10) for place, number in enumerate(match.groups()) if number)
                first, last = (ends[0], ends[-1]) if ends else (0, 0)
                if last < first:
                    raise ValueError(f"{word!r}, a run that goes down")
                return kind.name, [(layer, index) for index in range(first, last + 1)]
    return None


def is_name(word: str) -> bool:
    """Whether a word names sites, in any notation of any kind."""
    try:
        return named(word) is not None
    except ValueError:
        return True  # of which it is said later what is wrong


def read(words: Sequence[str]) -> tuple[str, list[Place]]:
    """The one kind that words name and its places, in the order given.

    Raises:
        UserError: if a word names no site, or words name sites of several kinds.
    """
    found: list[tuple[str, list[Place]]] = []
    wrong: list[str] = []
    total = 0
    for word in words:
        try:
            one = named(word)
        except ValueError:
            one = None
        if one is None or (total := total + len(one[1])) > MOST:
            wrong.append(word)
        else:
            found.append(one)
    if wrong or not found:
        raise UserError(
            f"sites counted from zero and separated by commas, such as {examples()}",
            ", ".join(repr(word[:40]) for word in wrong[:5]) or "nothing",
            "docs/claims.md says how the sites of each kind are written.",
        )
    return one_kind({kind for kind, _ in found}), [place for _, places in found for place in places]


def one_kind(names: Iterable[str]) -> str:
    """The one kind of several sites; "" where there are none.

    Raises:
        UserError: if there are several.
    """
    several = sorted(names)
    if len(several) > 1:
        nouns = " and ".join(kind_of(name).nouns for name in several)
        raise UserError("a claim of one kind of site", f"{nouns} together", "Audit each kind by itself: its places are compared.")
    return several[0] if several else ""


def written(kind: str, places: Sequence[Place]) -> list[str]:
    """Places of a kind as it writes them, in order; where the kind has runs, three neighbours or more are one."""
    own = kind_of(kind)
    if not own.runs:
        return [own.notations[0].format(*place) for place in places]
    texts: list[str] = []
    for _, run in groupby(enumerate(places), key=lambda one: (one[1][0], one[1][1] - one[0])):
        (layer, first), *more = (place for _, place in run)
        if len(more) + 1 < RUN:
            texts += [own.notations[0].format(layer, index) for index in range(first, first + len(more) + 1)]
        else:
            texts.append(own.notations[0].format(layer, f"{first}-{more[-1][1]}"))
    return texts


def examples(kind: SiteKind | None = None) -> str:
    """How sites are written, for errors: those of one kind, or one of each."""
    if kind is not None:
        return " or ".join(notation.format(12, 3) for notation in kind.notations[:2])
    return ", ".join(one.notations[0].format(12, 3) for one in kinds() if one.by_name)
