"""What a published file says of where a behaviour lives, before anything is chosen of it; and the choice that makes a claim.

A site is written as everywhere: `12.3` a head, `attn.12` and `mlp.12` a module's output, `resid.12` the stream entering a layer.
Other people's files make claims of heads alone as yet; our own form names sites of any kind. Of scores a claim is the highest, so
many as the user says: how many is never guessed, nor whether a large negative score counts, nor which of two equal ones is left
out.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from locus.boundary.notices import notice
from locus.claims import direction
from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites.kind import along, default, kind_of
from locus.sites.names import named
from locus.sites.site import Location

Rank = Literal["largest", "absolute"]
RANKS: tuple[Rank, ...] = get_args(Rank)
HEAD = re.compile(r"\d+\.\d+")
PART = re.compile(r"(?:(?P<size>\d{1,6})|(?P<all>all)|(?P<budget>\d{1,3}(?:\.\d{1,6})?)%)(?:,(?P<rank>[a-z]+))?")
HOW = "FILE#16, FILE#5% or FILE#all (--size or --budget; size= or budget= in Python)"


class LeftOut(UserWarning):
    """Parts of a published file that are no heads, and so are not audited."""


@dataclass(frozen=True)
class Choice:
    """What of a file's scores is claimed.

    Attributes:
        size: the so many highest, or `all` that have a score.
        budget: instead, this share of the heads that have a score, rounded down.
        rank: whether the largest values are highest, or the largest magnitudes; "" where it is left to the shape.
    """

    size: int | Literal["all"] | None = None
    budget: float | None = None
    rank: Rank | None = None

    def __post_init__(self) -> None:
        wrong = self.size not in (None, "all") and (type(self.size) is not int or self.size < 1)
        if wrong or (self.size is not None and self.budget is not None):
            received = repr(self.size) if wrong else f"size {self.size} and budget {self.budget}"
            raise UserError("a size of 1 or more, or 'all', and no budget beside it", received, f"Say {HOW}.")
        budget: Any = self.budget
        if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget <= 1):
            raise UserError("a budget above 0 and not above 1, as a share of the heads", repr(budget), f"Say {HOW}.")
        if self.rank is not None and self.rank not in RANKS:
            raise UserError(f"a rank: {' or '.join(RANKS)}", repr(self.rank), "Choose one of them.")

    @classmethod
    def of_part(cls, part: str) -> "Choice":
        """What stands behind a file's `#`: `16`, `5%` or `all`, and if wanted `,absolute` or `,largest`.

        Raises:
            UserError: for anything else.
        """
        match = PART.fullmatch(part)
        if match is None:
            expected = "behind the # a number of heads, a share such as 5%, or all; if wanted with ,absolute or ,largest"
            raise UserError(expected, repr(part[:80]), f"Say {HOW}.")
        size = "all" if match["all"] else int(match["size"]) if match["size"] else None
        budget = None if match["budget"] is None else float(match["budget"]) / 100
        return cls(cast(Any, size), budget, cast(Any, match["rank"]))

    @property
    def said(self) -> bool:
        """Whether anything was said of how many."""
        return self.size is not None or self.budget is not None


ANY = Choice()


@dataclass(frozen=True)
class Direction:
    """One direction that a file holds.

    Attributes:
        site: where it acts, as `resid.12`; "" where the file does not say it for certain.
        vector: [width], float32.
        label: what it is called in the file.
    """

    site: str
    vector: npt.NDArray[np.float32] = field(repr=False)
    label: str = ""


@dataclass(frozen=True)
class Published:
    """What a file says.

    Attributes:
        name: of the file, without its ending.
        importer: what read it; "" for the forms of docs/claims.md.
        scores: by site, as the shape has them.
        magnitudes: by site, where a site has several scores, the one of the largest magnitude; empty where it has one.
        named: sites that the file itself names as its claim; empty where it only has scores.
        ordered: whether `named` is in the order of a ranking, best first.
        directions: what it holds of directions.
        rank: how the shape ranks; None where it does not say.
        origin: of the claim.
        about: for plan and receipt.
        unclear: why the file's own marks name no claim, where that has a reason.
    """

    name: str = ""
    importer: str = ""
    scores: Mapping[str, float] = field(default_factory=dict, repr=False)
    magnitudes: Mapping[str, float] = field(default_factory=dict, repr=False)
    named: tuple[str, ...] = ()
    ordered: bool = False
    directions: tuple[Direction, ...] = ()
    rank: Rank | None = None
    origin: str = "given"
    about: Mapping[str, Any] = field(default_factory=dict)
    unclear: str = ""

    @property
    def kinds(self) -> dict[str, int]:
        """How many sites of each kind it speaks of: head, attn, mlp, resid, direction."""
        sites = dict.fromkeys([*self.scores, *self.named])
        kinds = list(map(_kind, sites))
        counted = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
        return counted | ({along().name: len(self.directions)} if self.directions else {})

    @property
    def claimed(self) -> str:
        """Of what kind its claim is: heads, where there are some; else, in our own form, the one that it names."""
        kinds, usual = list(self.kinds), default().name
        return usual if usual in kinds or self.importer or len(kinds) != 1 else kinds[0]

    def _own(self, site: str) -> bool:
        return _kind(site) == self.claimed

    def ranked(self, rank: Rank | None = None) -> dict[str, float]:
        """Its heads' scores, the highest first.

        Args:
            rank: largest or absolute; as the shape ranks, or else by value, where None.
        """
        by_size = (rank or self.rank) == "absolute"
        scores = {**self.scores, **self.magnitudes} if by_size else self.scores
        order: Callable[[tuple[str, float]], float] = (lambda one: -abs(one[1])) if by_size else (lambda one: -one[1])
        return dict(sorted(((site, score) for site, score in scores.items() if self._own(site)), key=order))

    def claim(self, size: int | Literal["all"] | None = None, *, budget: float | None = None, rank: Rank | None = None) -> Claim:
        """The claim that it makes.

        Args:
            size: so many of the highest scores, or `all`; left out, the heads that the file itself names.
            budget: instead, this share of the heads that have a score.
            rank: by the largest values, or the largest magnitudes; needed only where scores are negative and the shape is silent.

        Raises:
            UserError: if it names no heads, or has only scores and it was not said how many, or equal scores lie at the cut.
        """
        return self.chosen(Choice(size, budget, rank))

    def chosen(self, choice: Choice = ANY) -> Claim:
        """The claim that it makes by a choice.

        Raises:
            UserError: as `claim`.
        """
        if self.directions and not self.scores and not self.named and not choice.said:
            return self.directed()
        self._audited()
        scores = self.ranked(choice.rank)
        about = dict(self.about) | ({"importer": self.importer} if self.importer else {})
        if not choice.said:
            sites, scores = self._named(scores), self.ranked(choice.rank)
        elif scores:
            sites, about["chosen"] = self._highest(scores, choice)
        else:
            sites = self._first(choice)
            about["chosen"] = f"the first {len(sites)} of {len(self.named)}"
        return Claim(self.name, Location.parse(sites), self.origin, scores, about)

    def directed(self, layers: Sequence[int] | None = ()) -> Claim:
        """The claim of its directions.

        Args:
            layers: where its one direction is meant; None for all layers, by default where the file says.

        Raises:
            UserError: if it has none, or does not say where, or says another place.
        """
        places = [named(one.site) if one.site else None for one in self.directions]
        of_stream = [place is None or kind_of(place[0]).point == along().point for place in places]
        entering = [place[1][0][0] if place else None for place in places]
        elsewhere = [one.site for one, fits in zip(self.directions, of_stream, strict=True) if not fits]
        wanted = "a direction of the stream entering a layer"
        if not self.directions or elsewhere:
            received = f"{self.name!r}, of {elsewhere[0]}" if elsewhere else f"{self.name!r}, which holds none"
            raise UserError(wanted, received, "Claim one that is of the stream.")
        vectors = [direction.unit(one.vector, f"{one.label or self.name!r}") for one in self.directions]
        about = dict(self.about) | ({"importer": self.importer} if self.importer else {})
        if layers is None or layers:
            if len(vectors) > 1 or (entering[0] is not None and layers is not None and tuple(layers) != (entering[0],)):
                received = (
                    f"{len(vectors)} directions"
                    if len(vectors) > 1
                    else f"one that its file says is of {self.directions[0].site}"
                )
                raise UserError(f"{wanted}, one for what stands behind the @", received, "Leave the @ out.")
            return direction.claim_of([(one, vectors[0]) for one in layers or (0,)], self.name, about, everywhere=layers is None)
        if None in entering:
            raise UserError(
                f"{wanted}, and which layer", f"{self.name!r}, which does not say it", "Say the layer: @12 behind it."
            )
        return direction.claim_of(
            [(one, vector) for one, vector in zip(entering, vectors, strict=True) if one is not None], self.name, about
        )

    def _audited(self) -> None:
        """Refuse what has no heads, and say what of the rest is left out."""
        kinds, usual = self.kinds, default().name
        if self.claimed != usual and not self.directions:
            return
        if kinds.get(usual):
            if others := [f"{count} of {kind}" for kind, count in kinds.items() if kind != usual]:
                notice(f"{self.name!r}: {', '.join(others)} left out: a claim is of heads", LeftOut)
            return
        held = ", ".join(f"{count} of {kind}" for kind, count in kinds.items()) or "nothing"
        sites = (
            [one.site or f"{one.label}, at a place not said" for one in self.directions] or list(self.named) or list(self.scores)
        )
        remedy = "Name heads, or name sites of one kind, as mlp.12."
        raise UserError("a claim of attention heads", f"{self.name!r} with {held} ({', '.join(sites[:4])[:120]})", remedy)

    def _named(self, scores: Mapping[str, float]) -> list[str]:
        named = [site for site in self.named if self._own(site)]
        if named:
            return named
        reason = f" ({self.unclear})" if self.unclear else ""
        received = f"{self.name!r} with scores of {len(scores)} heads, and no word of how many{reason}"
        raise UserError("how many of the highest scores are claimed", received, f"Say {HOW}.")

    def _first(self, choice: Choice) -> list[str]:
        """So many of a ranking without scores."""
        named = [site for site in self.named if self._own(site)]
        if not self.ordered and choice.size != "all":
            received = f"{self.name!r}, which names {len(named)} heads and has no scores"
            raise UserError("scores to choose by, where a size is said", received, "Leave the size out.")
        return named[: _count(choice, len(named), self.name)]

    def _highest(self, scores: Mapping[str, float], choice: Choice) -> tuple[list[str], str]:
        """The highest scores, and the choice in words."""
        count, sites = _count(choice, len(scores), self.name), list(scores)
        if count == len(sites):
            return sites, f"all {count} heads that have a score"
        rank = choice.rank or self.rank
        if rank is None and min(self.ranked("largest").values()) < 0:
            remedy = "Say which: FILE#16,largest or FILE#16,absolute (--rank; rank= in Python)."
            raise UserError("how negative scores rank", f"{self.name!r} with scores below zero", remedy)
        values = [abs(score) if rank == "absolute" else score for score in scores.values()]
        if values[count - 1] == values[count]:
            fewer, more = values.index(values[count]), len(values) - values[::-1].index(values[count])
            received = f"{self.name!r}, whose scores {fewer + 1} to {more} are all {scores[sites[count]]:.6g}"
            ways = " or ".join(str(size) for size in (fewer, more) if size)
            raise UserError(f"{count} heads that equal scores do not cut through", received, f"Say a size of {ways}.")
        how = "largest magnitudes" if rank == "absolute" else "largest"
        return sites[:count], f"the {count} {how} of {len(scores)} scores"


def _kind(site: str) -> str:
    """The kind of a site by its name."""
    known = named(site)
    return known[0] if known else site.partition(".")[0]


def _count(choice: Choice, there: int, name: str) -> int:
    """How many of so many.

    Raises:
        UserError: if it is none, or more than there are.
    """
    if choice.size == "all":
        return there
    count = math.floor(choice.budget * there + 1e-9) if choice.budget is not None else int(choice.size or 0)
    if not 1 <= count <= there:
        said = f"{choice.size}" if choice.budget is None else f"{choice.budget:.4g} of them, which is less than one"
        raise UserError(f"from 1 to {there} of the heads of {name!r}", said, "Say another size.")
    return count


def of_claim(claim: Claim, order: Sequence[str] = ()) -> Published:
    """What a claim in one of the forms of docs/claims.md says: it names its heads, and may have scores.

    Args:
        claim: as it was read.
        order: its heads in the order of a ranking, where they are in one.
    """
    names = tuple(order) or tuple(claim.location.names)
    return Published(claim.name, "", claim.scores, named=names, ordered=bool(order), origin=claim.origin, about=claim.about)


def renamed(published: Published, name: str, **about: Any) -> Published:
    """The same under a name, unless it has one of its own, with more of what it is about."""
    return replace(published, name=published.name or name, about={**published.about, **about})
