"""Graded planted models: the claimed head carries a share s of the behaviour, and other heads carry all of it that is left.

The questions have parts. The answers to a question of part j differ along polarity j and along nothing else, and only heads whose
output matrix can write polarity j can move them. Part 0 holds a share s of the questions, and the claimed head alone writes
polarity 0. The rest is dealt evenly to `PARTS` = 8 further parts. Every other head writes a set of m of their polarities, all by
one lever, with m = 0, 1, 2, 3, 4 for as many heads each, and m = 2 where the heads cannot be dealt so.

What an ideal edit can reach, by hand. Along a polarity that its place can write, an edit reaches any margin: it reads something
that is the same for all questions, and writes the lever. Along every other polarity the final state keeps its push, since nothing
that an edit can change is written there: such a margin only shrinks or grows with the norm, and keeps its sign. So with m0 the
margin of the unedited model and T the target in nats, the ideal edit gains T on the questions of its place's parts and between
nothing and |m0| on the others. As a share of T, up to |m0| / T = .05 / 5 = 1 %:

    place                           reaches
    everywhere                      1
    the claimed head                s
    another head                    m (1 - s) / 8: from nothing to (1 - s) / 2, on average (1 - s) / 4
    everywhere but the claim        1 - s

With the tolerance t, a share of the ceiling's gain, it follows what the four questions should be answered:

    works       1 - s < t           from s = .75 on where t = .25
    special     the lead over the mean of other heads, s - (1 - s) / 4, is above t: from s = .4 on. At s = .2 the lead is
                nothing, and the claim an average place; from s = 1/3 on it is the best place there is, by less than t
    unique      the share of other heads that reach s - t: 60 % at s = .4, 20 % at s = .5, none from s = .56 on
    necessary   s > t

At the bound itself a question is not to be answered yes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from locus.errors import UserError
from locus.models.planted.kinds import KnownClaim, Place, PlantedPlan, Role

PARTS, MOST = 8, 4  # parts of the rest, and the most of them that one head serves
# Heads enough that 99 random ones differ; as few layers and features as that allows; parts of whole questions for tenths of s.
GRADED: Mapping[str, Any] = {"width": 32, "layers": 4, "heads": 32, "n_questions": 160}
LEAK = -0.05  # mean margin of the unedited model: what an edit anywhere can undo, 1 % of the target
WIDE = 48.0  # spread: nine polarities share the final state's norm
TOLERANCE = 0.25  # of the claims' known answers, as audits have it by default


def percent_of(kind: str) -> int | None:
    """The share of a graded kind in percent; None of any other kind."""
    found = re.fullmatch(r"graded-(\d\d|100)", kind, re.ASCII)
    return int(found[1]) if found else None


def graded_plan(percent: int, layers: int, heads: int, rng: np.random.Generator) -> PlantedPlan:
    """Draw the places of a graded model.

    Args:
        percent: the share that the claimed head carries.
        layers: number of layers, at least 2.
        heads: query heads a layer.
        rng: where places and sets come from.

    Raises:
        UserError: if there are too few heads for 19 random ones beside the claim.
    """
    if layers < 2 or layers * heads < 24:
        raise UserError("at least 24 heads in at least 2 layers", f"{layers} of {heads}", "Ask for a larger planted model.")
    everywhere = [(layer, head) for layer in range(layers) for head in range(heads)]
    site, *others = (everywhere[index] for index in rng.permutation(len(everywhere)))
    roles = [Role(site, "truth", (0,), 1.0)]
    for number, place in enumerate(others):
        even = number < len(others) // (MOST + 1) * (MOST + 1)
        if count := number % (MOST + 1) if even else MOST // 2:
            roles.append(Role(place, "truth", _served(count, len(roles) % PARTS, rng), 1.0))
    share = percent / 100
    parts = (share, *[(1 - share) / PARTS] * PARTS)
    plan = PlantedPlan(tuple(roles), (site,), {}, n_polarities=1 + PARTS, parts=parts, margin=LEAK, spread=WIDE)
    other = others[int(rng.integers(len(others)))]
    claims = {
        name: KnownClaim(name, (place,), answers(plan, everywhere, place))
        for name, place in (("planted", site), ("other", other))
    }
    return replace(plan, claims=claims)


def _served(count: int, first: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Some polarities of the rest: one that is given, so that none is left out, and the others drawn."""
    more = rng.permutation([part for part in range(PARTS) if part != first])[: count - 1]
    return tuple(sorted(1 + int(part) for part in (first, *more)))


def answers(plan: PlantedPlan, everywhere: Sequence[Place], site: Place, tolerance: float = TOLERANCE) -> dict[str, str]:
    """The answers that the ideal edits give to the four questions about a single head.

    Args:
        plan: of a graded model.
        everywhere: all its places.
        site: the claimed one.
        tolerance: share of the ceiling's gain by which a place may fall short.
    """
    others = [place for place in everywhere if place != site]
    mine, theirs, rest = plan.reach([site]), np.array([plan.reach([place]) for place in others]), plan.reach(others)
    true = {
        "works": 1 - mine < tolerance - ROUND,
        "special": mine - theirs.mean() > tolerance + ROUND,
        "unique": (theirs >= mine - tolerance - ROUND).mean() < UNIQUE,
        "necessary": 1 - rest > tolerance + ROUND,
    }
    return {question: "supported" if yes else "refuted" for question, yes in true.items()}


UNIQUE = 0.05  # share of places that do as well, from which on "hardly any" is untrue
ROUND = 1e-9  # sums of shares that are equal but for rounding are equal
