"""A row of a table: what a verified audit says of one claim, and which part it has in the statistics.

Whether a row is a control follows from what is signed. On a model whose location is planted, a claim of that location is a
positive one, drawn at random or not, and any other claim a negative one. On other models a claim drawn at random is a negative
one. Nothing that a contributor says of a row decides anything.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from locus.models.planted.named import planted_named
from locus.records.findings import ClaimVerdict
from locus.records.place import PlaceResult
from locus.records.table import RowRecord
from locus.records.verdict import Verdict
from locus.sites.kind import default
from locus.sites.site import Location

Part = Literal["claim", "negative", "positive"]
PLANTED, RANDOM = "planted:", "random"
LEVEL = 0.05  # of a rank test: of the shift here, of the optimal edit in the audit


@dataclass(frozen=True)
class Lead:
    """How the heuristic edit fares at a claim: the ITI shift there, against the same at random places.

    Attributes:
        ahead: by how much it is ahead of their mean, in the metric's units.
        rank: its place among them and itself.
        of: how many these are.
    """

    ahead: float
    rank: int
    of: int

    @property
    def significant(self) -> bool:
        """Whether so good a rank is as rare by chance as the level asks: the first of twenty places."""
        return self.rank / self.of <= LEVEL


@dataclass(frozen=True)
class Row:
    """One claim of one audit.

    Attributes:
        name: of the row; the folder's.
        record: what its contributor says of it.
        verdict: of the audit.
        claim: which of its claims.
        signer: the public key that signed the receipt.
        whole: whether plan and scores are here, so that the verdict was derived anew.
        part: the part it has in the statistics.
    """

    name: str
    record: RowRecord
    verdict: Verdict
    claim: ClaimVerdict
    signer: str
    whole: bool
    part: Part

    @property
    def kind(self) -> str:
        """Of the claimed sites."""
        return self.claim.kind or default().name

    @property
    def share(self) -> float | None:
        """The least share of all that could be gained in training loss that an edit of the audit has gained; None if unknown."""
        places = (*self.verdict.claimed, *self.verdict.ceiling, *self.verdict.complement, *self.verdict.random)
        shares = [place.share for place in places if place.share is not None]
        return min(shares, default=None)

    @property
    def setting(self) -> str:
        """Under which the edit at the claim was searched for; "" where there is none."""
        return next((place.setting for place in self.verdict.claimed if place.name == self.claim.name), "")

    @property
    def lead(self) -> Lead | None:
        """How the heuristic edit fares at the claim; None where it was not tried."""
        verdict = self.verdict
        mine, others = steered(verdict, self.claim.name)
        ours = mine.mean(verdict.metric) if mine is not None else None
        theirs = [mean for place in others if (mean := place.mean(verdict.metric)) is not None]
        if ours is None or not theirs:
            return None
        return Lead(ours - float(np.mean(theirs)), 1 + sum(one >= ours for one in theirs), 1 + len(theirs))


def steered(verdict: Verdict, claim: str) -> tuple[PlaceResult | None, tuple[PlaceResult, ...]]:
    """The first heuristic edit of an audit, at a claim and at the random places that it is held against.

    A verdict lists them claim after claim, under names such as `iti:probe` and `iti:random-00`, as many random ones for each.
    Where it does not, nothing is said.

    Args:
        verdict: of the audit.
        claim: by its name.
    """
    names = list(dict.fromkeys(one.name for one in verdict.claims))
    if not verdict.shift:
        return None, ()
    edit = verdict.shift[0].name.partition(":")[0]
    mine, others = ([one for one in part if one.name.partition(":")[0] == edit] for part in (verdict.shift, verdict.shift_random))
    if len(names) == 1:
        return mine[0], tuple(others)
    at, each = names.index(claim), len(others) // len(names)
    own = others[at * each : (at + 1) * each]
    listed = [one.name for one in mine] == [f"{edit}:{name}" for name in names] and each * len(names) == len(others)
    return (mine[at], tuple(own)) if listed and len({one.name for one in own}) == each else (None, ())


def rows_of(name: str, record: RowRecord, verdict: Verdict, signer: str, whole: bool) -> list[Row]:
    """A row for each claim of an audit, in its first read mode."""
    first: dict[str, ClaimVerdict] = {}
    for claim in verdict.claims:
        first.setdefault(claim.name, claim)
    return [Row(name, record, verdict, claim, signer, whole, part_of(verdict.model.name, claim)) for claim in first.values()]


def part_of(model: str, claim: ClaimVerdict) -> Part:
    """The part in the statistics of a claim on a model.

    Raises:
        UserError: if the model is called planted, and is none that there is.
    """
    if not model.startswith(PLANTED):
        return "negative" if claim.origin == RANDOM else "claim"
    planted = planted_named(model)  # where a draw may hit the true place
    true = Location.parse(",".join(claim.location)) == planted.where and not planted.shuffled
    return "positive" if true and planted.expected["special"] == "supported" else "negative"
