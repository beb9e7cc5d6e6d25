"""The kinds of planted model: which heads play which part, and what is therefore true of which claims.

Every kind shares one residual stream with protected directions (`directions.py`): answers differ along a *polarity*
alone, questions and answers carry a *truth* coordinate, and *belief* is the same wherever there is text. A head with
a Role reads one of these and may write a polarity; no other head, and no MLP, can write any protected direction.

- localized: one head reads truth and pushes the false answer; editing it, and it alone, can turn the behaviour.
- distributed: every head does a share of that, so every place is as good as any other.
- decoy: two heads carry the truth bit for a probe to find and write it nowhere; the working head carries none.
- redundant: two heads push, and an edit at either is enough.
- conjunctive: a question has two false answers, which differ from the true one along one polarity each, and each
  of two heads writes one of the two. *Both needed* means: the true answer beats both false ones only if both heads
  are edited; one head alone moves half of the pairs, all the way, and wins no question.
- negative: the residual path speaks the truth and one head of the first layer overrides it; ablating it is enough.
- dormant: a head that carries the truth bit writes none of it, but an edit there can write the polarity through an
  output direction that the model itself never uses (Makelov et al. 2023); the head that does the work is another.
- borrowed: which polarity is true varies by question; the head that can write polarity does not carry that bit but
  a neighbour in its layer does, so an edit there works if it reads the layer and fails if it reads its own head.

Beside these clear cases stand the graded ones (`graded.py`), in which the claimed head carries a share of the behaviour.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from locus.errors import UserError

KINDS = ("localized", "distributed", "decoy", "redundant", "conjunctive", "negative", "dormant", "borrowed")
READS = ("layer", "heads", "constant")
# 24 heads, so that 19 random single heads can be drawn beside a claim; wide enough for every law to hold exactly.
COMPACT = {"width": 24, "layers": 3, "heads": 8, "n_questions": 120}

MARGIN = -0.5  # nats by which the unedited model prefers the false answer; small, because an edit anywhere can undo it
SPREAD = 16.0  # logit difference of a final state that lies wholly along the polarity, whatever the width

Place = tuple[int, int]


@dataclass(frozen=True)
class Role:
    """The part a head plays.

    Attributes:
        place: (layer, head), zero-based.
        reads: the protected direction its value carries ("truth" or "belief"), or None.
        writes: the polarities its output matrix can write, all of them together.
        share: its share of the push towards the false answer in the unedited model; 0 is an unused path.
    """

    place: Place
    reads: str | None
    writes: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class KnownClaim:
    """A claim about a planted model together with what is true of it.

    Attributes:
        name: "planted", or what else is being claimed ("decoy", "either", "half", "elsewhere", "dormant", "all").
        sites: the (layer, head) pairs claimed.
        expected: question (works, special, unique, necessary) -> standing, only where construction settles it.
            "supported" says the sentence is true and "refuted" that it is false; a verdict of "undecided" is
            never wrong, only weak.
        reads: the read modes for which this holds.
    """

    name: str
    sites: tuple[Place, ...]
    expected: dict[str, str]
    reads: tuple[str, ...] = READS


@dataclass(frozen=True)
class PlantedPlan:
    """Everything a kind decides before any weight is drawn.

    Attributes:
        roles: the heads that play a part.
        truth: the places that do the work.
        n_polarities: 2 where a question has two false answers, as many as there are parts where it has parts, else 1.
        varying: whether the polarity of the true answer varies by question.
        direct: margin in nats that the residual path gives with every push removed (towards the true answer).
        claims: what is known, by name; "planted" always exists.
        decoys: heads that look like the working ones.
        parts: by polarity, the share of the questions whose answers differ along it; empty where all questions' do.
        margin: mean margin of the unedited model along every polarity, in nats.
        spread: logit difference of a final state that lies wholly along a polarity.
    """

    roles: tuple[Role, ...]
    truth: tuple[Place, ...]
    claims: dict[str, KnownClaim]
    n_polarities: int = 1
    varying: bool = False
    direct: float = 0.0
    decoys: tuple[Place, ...] = field(default=())
    parts: tuple[float, ...] = ()
    margin: float = MARGIN
    spread: float = SPREAD

    def reach(self, places: Iterable[Place]) -> float:
        """The share of the questions that an edit of some places can move: those along a polarity that one of them writes."""
        inside = set(places)
        written = {polarity for role in self.roles if role.place in inside for polarity in role.writes}
        return math.fsum(self.parts[polarity] for polarity in written)


def standings(works: bool, necessary: bool | None, only: bool | None) -> dict[str, str]:
    """Standings by question; None leaves a question open. `only`: both special and unique."""
    facts = {"works": works, "special": only, "unique": only, "necessary": necessary}
    return {name: "supported" if fact else "refuted" for name, fact in facts.items() if fact is not None}


def claims_by_name(*claims: KnownClaim) -> dict[str, KnownClaim]:
    return {claim.name: claim for claim in claims}


def plan(kind: str, layers: int, heads: int, rng: np.random.Generator) -> PlantedPlan:
    """Draw the places of a kind's roles.

    Args:
        kind: one of KINDS.
        layers: number of layers, at least 2.
        heads: query heads a layer, at least 2.
        rng: where the places come from.

    Raises:
        UserError: if the kind is unknown or the model has too few layers or heads.
    """
    if kind not in KINDS:
        raise UserError(f"one of {', '.join(KINDS)}", repr(kind), "Choose a kind of planted model.")
    if layers < 2 or heads < 2:
        raise UserError("at least 2 layers of 2 heads", f"{layers} of {heads}", "Ask for a larger planted model.")
    everywhere = [(layer, head) for layer in range(layers) for head in range(heads)]
    places = [everywhere[index] for index in rng.permutation(len(everywhere))]
    maker: Any = {
        "localized": _localized,
        "distributed": _distributed,
        "decoy": _decoy,
        "redundant": _redundant,
        "conjunctive": _conjunctive,
        "negative": _negative,
        "dormant": _dormant,
        "borrowed": _borrowed,
    }[kind]
    planted: PlantedPlan = maker(places)
    return planted


def elsewhere_claim(place: Place) -> KnownClaim:
    return KnownClaim("elsewhere", (place,), standings(works=False, necessary=False, only=False))


def planted_claim(*places: Place, necessary: bool = True, only: bool | None = True) -> KnownClaim:
    return KnownClaim("planted", tuple(sorted(places)), standings(True, necessary, only))


def _localized(places: list[Place]) -> PlantedPlan:
    site, elsewhere = places[:2]
    return PlantedPlan(
        (Role(site, "truth", (0,), 1.0),), (site,), claims_by_name(planted_claim(site), elsewhere_claim(elsewhere))
    )


def _distributed(places: list[Place]) -> PlantedPlan:
    roles = tuple(Role(place, "truth", (0,), 1.0 / len(places)) for place in sorted(places))
    claim = planted_claim(places[0], necessary=False, only=False)
    everything = KnownClaim("all", tuple(sorted(places)), standings(True, necessary=None, only=None))
    return PlantedPlan(roles, tuple(sorted(places)), claims_by_name(claim, everything))


def _decoy(places: list[Place]) -> PlantedPlan:
    site = places[0]
    near = next(place for place in places[1:] if place[0] == site[0])
    far = next(place for place in places[1:] if place[0] != site[0])
    elsewhere = next(place for place in places[1:] if place not in (near, far))
    roles = (Role(site, "belief", (0,), 1.0), Role(near, "truth", (), 0.0), Role(far, "truth", (), 0.0))
    fails = standings(works=False, necessary=False, only=False)
    decoys = tuple(sorted((near, far)))
    claims = claims_by_name(planted_claim(site), KnownClaim("decoy", decoys, fails), elsewhere_claim(elsewhere))
    return PlantedPlan(roles, (site,), claims, decoys=decoys)


def _redundant(places: list[Place]) -> PlantedPlan:
    first, second, elsewhere = places[:3]
    # Whether either head alone is special or unique depends on how many random Locations are drawn: left open.
    either = KnownClaim("either", (first,), standings(True, necessary=False, only=None))
    claims = claims_by_name(planted_claim(first, second, only=None), either, elsewhere_claim(elsewhere))
    roles = (Role(first, "truth", (0,), 0.5), Role(second, "truth", (0,), 0.5))
    return PlantedPlan(roles, tuple(sorted((first, second))), claims)


def _conjunctive(places: list[Place]) -> PlantedPlan:
    first, second, elsewhere = places[:3]
    half = KnownClaim("half", (first,), standings(works=False, necessary=True, only=None))
    claims = claims_by_name(planted_claim(first, second), half, elsewhere_claim(elsewhere))
    roles = (Role(first, "truth", (0,), 1.0), Role(second, "truth", (1,), 1.0))
    return PlantedPlan(roles, tuple(sorted((first, second))), claims, n_polarities=2)


def _negative(places: list[Place]) -> PlantedPlan:
    # In the first layer the size of what the head reads is out of every edit's reach. Later, an edit that inflates
    # the residual stream would weaken the head's push against the residual path and turn the sign of the margin.
    site = next(place for place in places if place[0] == 0)
    elsewhere = next(place for place in places if place != site)
    claims = claims_by_name(planted_claim(site), elsewhere_claim(elsewhere))
    return PlantedPlan((Role(site, "truth", (0,), 1.0),), (site,), claims, direct=2.0)


def _dormant(places: list[Place]) -> PlantedPlan:
    site, sleeper, elsewhere = places[:3]
    roles = (Role(site, "belief", (0,), 1.0), Role(sleeper, "truth", (0,), 0.0))
    sleeping = KnownClaim("dormant", (sleeper,), standings(True, necessary=False, only=None))
    claims = claims_by_name(planted_claim(site, necessary=False, only=None), sleeping, elsewhere_claim(elsewhere))
    return PlantedPlan(roles, (site,), claims, decoys=(sleeper,))


def _borrowed(places: list[Place]) -> PlantedPlan:
    site = places[0]
    lender = next(place for place in places[1:] if place[0] == site[0])
    elsewhere = next(place for place in places[1:] if place != lender)
    roles = (Role(site, "belief", (0,), 0.0), Role(lender, "truth", (), 0.0))
    planted = KnownClaim("planted", (site,), planted_claim(site).expected, ("layer",))
    alone = KnownClaim("alone", (site,), {"works": "refuted"}, ("heads", "constant"))
    claims = claims_by_name(
        planted, alone, KnownClaim("decoy", (lender,), elsewhere_claim(lender).expected), elsewhere_claim(elsewhere)
    )
    return PlantedPlan(roles, (site,), claims, varying=True, direct=-0.5, decoys=(lender,))
