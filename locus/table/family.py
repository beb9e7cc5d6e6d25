"""What follows from all rows of a table together.

A table asks one question many times, so some claims rank first by luck. The rate of false discoveries is controlled over all
claims that are no controls (Benjamini and Hochberg): of the claims that are found special, few are wrong. Beside it stands how
many would be found by chance alone, and what came out for the controls, whose answers are known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from locus import stats
from locus.conclude.family import PUT, adjusted
from locus.stats.estimate import Estimate
from locus.table.rows import LEVEL, Row
from locus.units import share

RATE = LEVEL  # of false discoveries


@dataclass(frozen=True)
class Group:
    """Claims of one kind of site and one origin.

    Attributes:
        kind, origin: which.
        claims: how many.
        led: that led by the heuristic edit, of `tried` where that edit was made.
        special, refuted, undecided: by the optimal edit; of the rest the question could not be put, or its answer is withheld.
        held: of those that led and whose question could be put, the share that is special, with its exact 95 % interval.
    """

    kind: str
    origin: str
    claims: int
    led: int
    tried: int
    special: int
    refuted: int
    undecided: int
    held: Estimate

    @property
    def put(self) -> int:
        """Of how many the question could be put."""
        return self.special + self.refuted + self.undecided


@dataclass(frozen=True)
class Family:
    """The statistics of a table.

    Attributes:
        groups: the claims by kind of site and origin.
        total: of all claims.
        found: row and claim of those that are special at the controlled rate.
        by_chance: how many special ones chance alone would give at most, if none were.
        negative: the share of negative controls that are special, with its exact 95 % interval.
        positive: the share of positive controls that are.
    """

    groups: tuple[Group, ...]
    total: Group
    found: tuple[tuple[str, str], ...]
    by_chance: float
    negative: Estimate
    positive: Estimate


def family(rows: Sequence[Row]) -> Family:
    """The statistics of the rows of a table."""
    claims = [row for row in rows if row.part == "claim"]
    keys = sorted({(row.kind, row.claim.origin) for row in claims})
    groups = tuple(_group(*key, [row for row in claims if (row.kind, row.claim.origin) == key]) for key in keys)
    controlled = adjusted([row.claim.special for row in claims])
    ps = [(row, one.p) for row, one in zip(claims, controlled, strict=True) if one.p is not None]
    found = tuple((row.name, row.claim.name) for row, p in ps if p <= RATE)
    controls = {part: [row for row in rows if row.part == part] for part in ("negative", "positive")}
    return Family(
        groups, _group("", "", claims), found, RATE * len(ps),
        _special(controls["negative"]), _special(controls["positive"]),
    )  # fmt: skip


def _special(rows: Sequence[Row]) -> Estimate:
    """The share that is special, of those whose question could be put."""
    return stats.clopper_pearson(_count(rows, "supported"), sum(row.claim.special.standing in PUT for row in rows))


def _group(kind: str, origin: str, rows: Sequence[Row]) -> Group:
    tried = [row for row in rows if row.lead is not None]
    led = [row for row in tried if row.lead is not None and row.lead.significant]
    special, refuted, undecided = (_count(rows, standing) for standing in ("supported", "refuted", "undecided"))
    return Group(kind, origin, len(rows), len(led), len(tried), special, refuted, undecided, _special(led))


def _count(rows: Iterable[Row], standing: str) -> int:
    return sum(row.claim.special.standing == standing for row in rows)


def sentences(found: Family) -> list[str]:
    """What the table says, in words; the first is its head."""
    controls = [_negative(found.negative), _positive(found.positive)]
    if not found.total.claims:
        if not (found.negative.n or found.positive.n):
            return ["No claim has been audited yet."]
        return ["No claim but controls has been audited yet: claims on planted models, or of sites drawn at random.", *controls]
    total, led = found.total, found.total.held
    looks = "looks localized by its" if led.n == 1 else "look localized by their"
    head = (
        f"Of {_counted(led.n, 'claim')} that {looks} own heuristic, {_be(_hits(led))} better than random places under the "
        f"optimal edit at level {RATE:g}{_interval(led)}."
    )
    if not led.n:
        head = "No claim leads under its heuristic edit, so none could lose its lead under the optimal one."
    held = [one for one in found.groups if one.held.n]
    by_group = [f"{one.kind}, {one.origin}: {_hits(one.held)} of {one.held.n}{_interval(one.held)}" for one in held]
    return [
        head,
        *([f"By kind of site and heuristic: {'; '.join(by_group)}."] if by_group else []),
        f"Of {_counted(total.claims, 'claim')} in all, the question could be put of {total.put}: {_be(total.special)} special, "
        f"{total.refuted} refuted and {total.undecided} undecided. By chance alone at most {found.by_chance:.1f} would be "
        "special.",
        f"At a false discovery rate of {share(RATE)} over all of them, {_be(len(found.found))} special.",
        *controls,
    ]


def _negative(one: Estimate) -> str:
    if not one.n:
        return "There are no negative controls."
    head = f"Of {_counted(one.n, 'negative control')} whose question could be put, {_be(_hits(one))} special{_interval(one)}"
    return f"{head}; by chance alone at most {RATE * one.n:.1f} would be."


def _positive(one: Estimate) -> str:
    if not one.n:
        return "There are no positive controls."
    return f"Of {_counted(one.n, 'positive control')}, likewise, {_be(_hits(one))} special{_interval(one)}; all should be."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _be(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def _hits(one: Estimate) -> int:
    return round(one.value * one.n) if one.n else 0


def _interval(one: Estimate) -> str:
    return f" ({share(one.low)} to {share(one.high)})" if one.n else ""
