"""Planted models for other kinds of sites: neurons, whole modules, the stream entering a layer. Which sites, and what is true.

A kind of model is SITE-SHAPE, as in planted:mlp-decoy:3. The shapes are those of heads (`kinds.py`): *localized*, one site
does it; *distributed*, any does; *decoy*, a probe is drawn to another; *redundant*, either of two; *conjunctive*, only both.

**Neurons** are heads of one number. A neuron's column of down_proj is what heads call a lever, so the truth is that of heads:
a planted neuron's value is of one sign, whatever is done elsewhere (`neurons.py`), it pushes the false answer, and no other
column writes the polarity. An ideal edit there reaches the target T on every question. Any other can only change the norm that
the push is divided by: it gains between nothing and |m0|, the margin of the unedited model, which is 5 % of T.

**Modules and the stream** are written freely, b in d_model: any of them can write the answer. What makes a place special is
what can be *read* there. So which answer is wanted is a bit of the question, and the models know it and do not say it: the bit
is in the stream for a while, along a direction that nothing of the model turns into the polarity. An edit that reads it,
writes it. Questions come in pairs of opposite bits that are the same in all else that is read, but for a *twin* coordinate
where the bit is looked up, and the two of a pair stay together where questions are split. By hand, with x the final state, of
norm |x|, and margins of spread * <p, x> / |x| times the bit:

- *At the place*, <a, out> = bit * strength with a along the bit's direction: b along p makes any margin, the same for all
  questions.
- *Where the bit is unknown* (`knowing.py` says why each other place is one of these: it comes before the bit, or says the same
  to all questions, or nothing leads from there to the last token) the coordinate <p, x> of a pair's questions is the same, and
  right for one of them as far as it is wrong for the other: the mean margin is nothing, in training and on new questions
  alike.
- *The twin* is what an edit of the stream may know of a pair before the look-up where it stands at the last token, and edited
  modules too: they read the norm, which tells it where an edit has written along it. The bit is the twin times a sign that was
  drawn by lot for the pair. In training signs can be learned by heart, and what was learned carries over to names nearby, so on
  new pairs an edit gains or loses nats by chance: the expectation over the lots is nothing. With all bits turned the same edit
  loses what it gained (`direct.py`). Late in the stream the twin stands at the first word, and not even that is left.
- *The norm* is the one leak, for |x| holds the bit's own coordinate: an edit that adds d along it makes |x|^2 = R^2 + (s bit +
  d)^2, and the margin bit * A (1 - beta bit) with beta = s d / (R^2 + d^2), at most s / 2R. The best A then gains 5 beta^2 of
  T = 5, and MC2 rises from one half by at most .224 beta. R is at least the norm of the question's *ballast*, which no module
  reads, so that no edit of modules takes it away: s = .3 and R >= 1.5 give beta <= .1, a gain of at most 1 % of T and MC2 of
  at most .522. Who knows the twin and has added c along it makes the bit's coordinate s bit + s c sign, and the norm betrays the
  sign as well, by s c d / (c^2 + d^2) <= s / 2: together at most 2 % of T.
- All of this holds for many places at once (*everywhere but there*) as for one. Where streams are edited together before a
  look-up, R is what they leave of the question.

    shape         claim       works  special  unique  necessary   why
    localized     planted     yes    yes      yes     yes
    distributed   planted     yes    no       no      no          any other site reaches T as well
    decoy         planted     yes    yes      yes     yes
    decoy         decoy       no     no       no      no          it carries what tells answers apart, and not what is wanted
    redundant     planted     yes    open     open    yes         both together; a pair with one of them does as well
    redundant     either      yes    open     open    no          the other is left
    conjunctive   planted     yes    yes      yes     yes         two bits, three answers: T along both polarities
    conjunctive   half        no     open     open    yes         one pair of two: MC2 a half, where all give 1 and none a third
    any           elsewhere   no     no       no      no

*Open*: it hangs on how many of the others are drawn. The stream entering layer l is one site a layer. It holds whatever an
earlier layer's did until that is used up, so its truth is a *span*: the layers whose stream tells the bit, and no others. In
*localized* the span is one layer, in *redundant* two. Directions of the stream have a table of their own (`along.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from locus.errors import UserError
from locus.models.planted.along import plan_along
from locus.models.planted.kinds import (
    COMPACT,
    KnownClaim,
    Place,
    PlantedPlan,
    Role,
    claims_by_name,
    elsewhere_claim,
    plan,
    planted_claim,
    standings,
)

SHAPES = ("localized", "distributed", "decoy", "redundant", "conjunctive")
SITES = ("neuron", "attn", "mlp", "resid", "direction")
SITED = tuple(f"{site}-{shape}" for site in SITES for shape in SHAPES)
# Of each kind of site: 48 neurons, and 21 modules or streams, so that 19 random ones can be drawn beside a claim.
NEURONS = {"width": 24, "layers": 3, "heads": 2, "head_dim": 12, "mlp": 16}
MODULES = {"width": 24, "layers": 21, "heads": 2, "head_dim": 8}
DIRECTIONS = {"width": 32, "layers": 8, "heads": 2, "head_dim": 16, "mlp": 32}  # random directions are as many as one likes
N_QUESTIONS = 120
SPARE = 4  # neurons beside those that look up, where a module is what is edited
PUSH = -0.25  # nats by which planted neurons prefer the false answer


def site_of(kind: str) -> str:
    """The kind of site that a kind of planted model is about."""
    return kind.split("-")[0] if kind in SITED else "head"


def sizes_of(name: str) -> Mapping[str, int | None]:
    """What a model's name says of its sizes: layers, heads and neurons of a layer, in the words of configurations."""
    site = site_of(name.split(":")[1] if ":" in name else name)
    if site == "head":
        return {"layers": COMPACT["layers"], "heads": COMPACT["heads"], "inner width": COMPACT["width"]}
    widths = widths_of(site, N_QUESTIONS)
    return {"layers": widths["layers"], "heads": widths["heads"], "inner width": widths["mlp"]}


def widths_of(site: str, n_questions: int) -> dict[str, int]:
    """Widths and counts of a model for a kind of site; a neuron for every pair of questions where one looks bits up."""
    looking_up = {**MODULES, "mlp": n_questions // 2 + SPARE}
    return dict({"neuron": NEURONS, "direction": DIRECTIONS}.get(site, looking_up))


def sited_plan(kind: str, layers: int, neurons: int, rng: np.random.Generator) -> PlantedPlan:
    """Draw the places of a kind's roles.

    Args:
        kind: one of SITED.
        layers: of the model.
        neurons: of a layer.
        rng: where the places come from.

    Raises:
        UserError: if the kind is unknown or there are too few layers.
    """
    if kind not in SITED:
        raise UserError(f"one of {', '.join(SITED)}", repr(kind), "Choose a kind of planted model.")
    site, shape = kind.split("-")
    if site == "neuron":
        return replace(plan(shape, layers, neurons, rng), margin=PUSH)
    if layers < 6:
        raise UserError("at least 6 layers", str(layers), "Ask for a larger planted model.")
    if site == "direction":
        return plan_along(shape, layers, rng)
    return _stream(shape, layers, rng) if site == "resid" else _modules(shape, layers, 1 if site == "attn" else 0, rng)


def _modules(shape: str, layers: int, first: int, rng: np.random.Generator) -> PlantedPlan:
    """Modules that carry a bit: none before `first`, for what attention reads must have been written before it.

    The working modules are the last ones of those that play a part, and of two the half is the later one: what came before it
    knew nothing of its bit.
    """
    if shape == "distributed":
        return _everywhere(layers, rng)
    one, two = sorted(int(layer) for layer in first + rng.choice(layers - first, size=2, replace=False))
    if shape == "localized":
        truth = [one]
    else:
        truth = [two] if shape == "decoy" else [one, two]
    return _told(shape, truth, [one] if shape == "decoy" else [], layers, rng)


def _stream(shape: str, layers: int, rng: np.random.Generator) -> PlantedPlan:
    """Spans at one end of the model, where the first layers hold the bit until it is used up, or where it is found late.

    Of an inner span *necessary* would be no fact of construction: together the streams before it, which can write what the bit's
    norm then bends, and those after it, which can read how it was bent, could tell.
    """
    last = layers - 1
    if shape == "distributed":
        return _everywhere(layers, rng)
    if shape == "conjunctive":
        return _told(shape, [0, last], [], layers, rng)
    if shape == "decoy":
        return _told(shape, [0], [int(rng.integers(2, layers - 2))], layers, rng)
    length = 1 if shape == "localized" else 2
    return _told(shape, list(range(length)) if rng.integers(2) else list(range(layers - length, layers)), [], layers, rng)


def _everywhere(layers: int, rng: np.random.Generator) -> PlantedPlan:
    places = [(layer, 0) for layer in range(layers)]
    site = places[int(rng.integers(layers))]
    everything = KnownClaim("all", tuple(places), standings(True, necessary=None, only=None))
    roles = tuple(Role(place, "bit0", (), 0.0) for place in places)
    return _known(PlantedPlan(roles, tuple(places), claims_by_name(planted_claim(site, necessary=False, only=False), everything)))


def _told(shape: str, truth: Sequence[int], decoys: Sequence[int], layers: int, rng: np.random.Generator) -> PlantedPlan:
    """A plan whose layers of `truth` carry a bit each, one for both where they are redundant, whose decoys carry the truth."""
    sites: list[Place] = [(layer, 0) for layer in truth]
    idle = [layer for layer in range(layers) if layer not in (*truth, *decoys)]
    elsewhere = elsewhere_claim((idle[int(rng.integers(len(idle)))], 0))
    two = shape == "conjunctive"
    roles = [Role(site, f"bit{number if two else 0}", (), 0.0) for number, site in enumerate(sites)]
    roles += [Role((layer, 0), "truth", (), 0.0) for layer in decoys]
    known = [planted_claim(*sites, only=None if shape == "redundant" else True), elsewhere]
    if decoys:
        fails = standings(works=False, necessary=False, only=False)
        known.append(KnownClaim("decoy", tuple((layer, 0) for layer in decoys), fails))
    if shape == "redundant":
        known.append(KnownClaim("either", (sites[0],), standings(True, necessary=False, only=None)))
    if two:
        known.append(KnownClaim("half", (sites[-1],), standings(works=False, necessary=True, only=None)))
    named = tuple((layer, 0) for layer in decoys)
    return _known(PlantedPlan(tuple(roles), tuple(sites), claims_by_name(*known), n_polarities=1 + two, decoys=named))


def _known(made: PlantedPlan) -> PlantedPlan:
    return replace(made, varying=True, margin=0.0)
