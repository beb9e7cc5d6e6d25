"""The search for an optimal edit: quasi-Newton steps on the whole training loss, until nothing more is promised.

A step is dz = -B g. g is the exact gradient of the mean loss over *all* training pairs, from one forward and backward over the
question trees, which all edits of a bank share: what an epoch of small steps costs. B is the inverse of the curvature that the
base model's linearisation gives at the edit's numbers, plus a ridge (optimum.py), corrected by the last differences of gradients:
L-BFGS, with that inverse in place of a multiple of the identity. A step is no longer than the trust region's radius. One that
does not lower the loss is not taken: the radius becomes the length at which the parabola through what was seen is lowest, and
what the step taught of the curvature is kept. Ridge and radius follow how far steps keep what they promise.

The first step, from the unedited model, needs no gradient of its own: it is the Gauss-Newton step of the shared linearisation.
Every place gets the same procedure and the same stopping rule. A search is *settled* when the last `STRETCH` steps that were
taken brought together less than `SETTLED` of the loss at the start, and the next step promises less than that too; or when it
promises nothing, as where an edit can do nothing. Steps that were refused say nothing of an optimum.

Sources: Nocedal & Wright 2006, algorithms 7.4 and 4.1; Levenberg 1944 and Marquardt 1963 (the ridge as trust region); Wang &
Veitch 2025, eq. 4.2-4.3 (the edit).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from locus.edits.rank1 import Rank1
from locus.engine import cost
from locus.engine.objective import Objective
from locus.engine.optimum import Curvature, FirstOrder
from locus.engine.train import Certificate, Fit, TrainingRecipe, whole_gradients
from locus.engine.training_set import TrainingSet
from locus.records.place import STRETCH

FIRST_RIDGE, NEXT_RIDGE = 0.1, 0.3  # as shares of the largest eigenvalue of the curvature
KEPT, BROKEN = 0.7, 0.3  # what a step brought, as a share of what it promised
SHRINK, GROW = 0.4, 1.5  # of the ridge: after a step that kept its promise, and one that did not
WIDER, NARROWER = 2.5, 0.7  # of the radius, as multiples of that step's length
LEAST, MOST = 0.1, 0.5  # of a step that was not taken, what the next one may be long
PROMISING_RIDGE = 0.1  # a promise is reckoned with a ridge no larger than this
MEMORY = 10  # differences of gradients
SETTLED = 0.01
NOTHING = 1e-4  # of the loss at the start: where no more is promised, float rounding decides whether a step is taken


class Way:
    """One edit's way downhill, a point at a time: `edit` stands where the loss is to be looked at, and `tell` says what was seen.

    Args:
        edit: at the identity, to begin with the shared step; or anywhere, to go on from there.
        objective: what is minimised.
        shared: the base model's linearisation.
        place: of the edit in its bank.
    """

    def __init__(self, edit: Rank1, objective: Objective, shared: FirstOrder, place: int = 0):
        self.edit, self.objective, self.shared, self.place = edit, objective, shared, place
        self.start = float(objective.loss(torch.zeros(shared.count, dtype=torch.float64)))
        self.losses: list[float] = []  # after every round
        self.taken: list[float] = []  # where the search stood, step by step
        self.memory: list[tuple[Tensor, Tensor]] = []
        self.flat, self.ridge, self.radius, self.promised = self._numbers(), NEXT_RIDGE, math.inf, math.nan
        self.loss, self.gradient = math.inf, torch.zeros_like(self.flat)
        self.curvature: Curvature | None = None
        self.first = edit.is_identity
        self.broken = ""
        if self.first:
            self.loss, self.ridge, self.taken = self.start, FIRST_RIDGE, [self.start]
            self.curvature, self.gradient = shared.begin(edit, objective)
            self.flat = self._numbers()
            self._set_out()

    def _numbers(self) -> Tensor:
        return self.edit.flat.data.double().cpu().clone()

    def _put(self, flat: Tensor) -> None:
        self.edit.flat.data = flat.to(self.edit.flat.device, torch.float32)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be looked at."""
        return bool(self.broken) or self.settled

    @property
    def settled(self) -> bool:
        """Whether neither the last steps brought nor the next one promises anything to speak of."""
        return self.losses != [] and (self.promised < NOTHING or (self._brought() < SETTLED and self.promised < SETTLED))

    def _brought(self) -> float:
        """Share of the loss at the start by which the last steps together lowered it; infinite before there were enough."""
        if len(self.taken) <= STRETCH:
            return math.inf
        return (self.taken[-STRETCH - 1] - self.taken[-1]) / self.start if self.start else 0.0

    def tell(self, loss: float, gradient: Tensor) -> None:
        """What the whole loss and its gradient are where the edit stands; it moves on."""
        gradient = gradient.double().cpu()
        sound = math.isfinite(loss) and bool(gradient.isfinite().all())
        if self.curvature is None:  # where a padded edit begins
            if sound:
                self.loss, self.gradient, self.taken = loss, gradient, [loss]
                self.curvature = self.shared.curvature(self.edit, self.objective)
            else:
                self.broken = "the loss or its gradient was not a number where the search began"
        else:
            self._judge(loss, gradient, sound)
        self.losses.append(self.loss)
        if not self.broken:
            self._set_out()

    def _judge(self, loss: float, gradient: Tensor, sound: bool) -> None:
        """Take the step or leave it; learn from it either way."""
        here = self._numbers()
        step, promise = here - self.flat, self.promise
        slope, length = float(self.gradient @ step), float(step.norm())
        if sound:
            self._remember(step, gradient - self.gradient)
        if not sound or loss >= self.loss:
            lowest = -slope / (2 * (loss - self.loss - slope)) if sound and slope < 0 else LEAST
            self.radius = min(MOST, max(LEAST, lowest)) * length
            return
        kept = (self.loss - loss) / promise if promise > 0 else 0.0
        self.flat, self.loss, self.gradient = here, loss, gradient
        self.taken.append(loss)
        if kept > KEPT:
            self.ridge, self.radius = self.ridge * SHRINK, max(self.radius, WIDER * length)
        elif kept < BROKEN:
            self.ridge, self.radius = self.ridge * GROW, NARROWER * length
        if self.first:
            self._balance()
        self.curvature = self.shared.curvature(self.edit, self.objective)

    def _remember(self, step: Tensor, change: Tensor) -> None:
        if float(step @ change) > 1e-8 * float(step @ step):
            self.memory = [*self.memory, (step, change)][-MEMORY:]

    def _balance(self) -> None:
        """After the first step, bring a and b to like norms, so that a step can move both; what was learned is forgotten."""
        scale = self.edit.balance().double().cpu()
        self.flat, self.gradient = self._numbers(), self.gradient / scale
        self.memory, self.ridge, self.radius, self.first = [], NEXT_RIDGE, math.inf, False

    def _set_out(self) -> None:
        """Stand where the next step leads."""
        step = -self._along(self.ridge)
        slope, length = float(self.gradient @ step), float(step.norm())
        share = min(1.0, self.radius / length) if length else 1.0
        self.promise = -(share - 0.5 * share**2) * slope
        cautious = 0.5 * float(self.gradient @ self._along(min(self.ridge, PROMISING_RIDGE)))
        self.promised = cautious / self.start if self.start else 0.0
        self._put(self.flat + share * step)

    def _along(self, ridge: float) -> Tensor:
        """B g under a ridge, by the two loops of L-BFGS."""
        assert self.curvature is not None, "a way that has begun"
        along, parts = self.gradient.clone(), []
        for step, change in reversed(self.memory):
            share = float(step @ along) / float(step @ change)
            along = along - share * change
            parts.append(share)
        along = self.curvature.solve(along, ridge)
        for (step, change), share in zip(self.memory, reversed(parts), strict=True):
            along = along + step * (share - float(change @ along) / float(step @ change))
        return along

    def end(self) -> Certificate:
        """Stand at the lowest point that was seen, and say how near to an optimum it is."""
        self._put(self.flat)
        reason = self.broken or ("" if self.settled else self._why())
        return Certificate(self.start, self.loss, self.promised, len(self.losses), not reason, reason)

    def _why(self) -> str:
        if len(self.taken) <= STRETCH:
            taken = max(0, len(self.taken) - 1)
            return f"only {taken} steps were taken in {len(self.losses)} rounds: too few to tell whether the search settled"
        if self._brought() >= SETTLED:
            return f"the last {STRETCH} steps still brought {100 * self._brought():.1f} % of the loss at the start"
        return f"the next step still promises {100 * self.promised:.1f} % of the loss at the start"


def descend(
    on: TrainingSet,
    edits: Sequence[Rank1],
    recipes: Sequence[TrainingRecipe],
    shared: FirstOrder,
    *,
    starts: Sequence[Sequence[Rank1]] = (),
    stops: Sequence[int] = (),
    further: Sequence[int] = (),
    progress: Callable[[float], None] | None = None,
    tally: cost.Tally | None = None,
) -> list[dict[int, Fit]]:
    """Search for the optimal edits of a bank together, each by its own recipe.

    Args:
        on: the questions, and the model.
        edits: at the identity; they are moved.
        recipes: one for each edit, alike in what a bank shares.
        shared: the base model's linearisation, of the edits' form.
        starts: for each edit others of its kind, from which it is searched for as well; the lowest end is kept.
        stops: rounds after which it is looked where each search stands that began at the identity, besides at the end.
        further: for each edit the most rounds of a second search, from its end; what that comes to is noted, and not used.
        progress: told the fraction done.
        tally: where each edit's forwards and backwards are counted.

    Returns:
        For each edit by rounds where its search stood, at its end under the rounds that its recipe allows.
    """
    assert len({recipe.shared for recipe in recipes}) == 1, "edits of one bank share objective and rounds"
    others = starts or [()] * len(edits)
    ways = [
        Way(edit, objective_of(on, recipes[place]), shared, place)
        for place, edit in enumerate(edits)
        for edit in (edit, *others[place])
    ]
    of_edit = [[way for way in ways if way.place == place] for place in range(len(edits))]
    seen_at: list[dict[int, Fit]] = [{} for _ in edits]
    rounds = recipes[0].rounds
    for number in range(rounds):
        if number in stops:
            for fits, ones, recipe in zip(seen_at, of_edit, recipes, strict=True):
                fits[number] = _standing(ones[0], replace(recipe, rounds=number))
        _advance(on, ways, recipes, tally)
        if progress is not None:
            progress((number + 1) / rounds)
    ends = [min(map(_End, ones), key=lambda end: end.certificate.loss) for ones in of_edit]
    if any(further):
        ends = _second(on, ends, recipes, further, shared, tally)
    return [{**fits, rounds: _fit(end, recipe)} for fits, end, recipe in zip(seen_at, ends, recipes, strict=True)]


def _advance(on: TrainingSet, ways: Sequence[Way], recipes: Sequence[TrainingRecipe], tally: cost.Tally | None) -> None:
    """Take all ways that are not over a point further, in one forward and backward."""
    going = [way for way in ways if not way.over]
    if not going:
        return
    counted = cost.Tally(len(going))
    seen = whole_gradients(on, [way.edit for way in going], [recipes[way.place] for way in going], counted)
    for way, (loss, gradient), works in zip(going, seen, counted.by_edit, strict=True):
        way.tell(loss, gradient)
        if tally is not None:
            for kind, work in works.items():
                tally.add(kind, [way.place], work)


def _second(
    on: TrainingSet,
    ends: Sequence["_End"],
    recipes: Sequence[TrainingRecipe],
    further: Sequence[int],
    shared: FirstOrder,
    tally: cost.Tally | None,
) -> list["_End"]:
    """The same ends, of which some know what a second search from there has come to; it begins with nothing learned."""
    ways = [
        Way(copy.deepcopy(end.way.edit), end.way.objective, shared, place) for place, end in enumerate(ends) if further[place]
    ]
    for number in range(max(further)):
        _advance(on, [way for way in ways if number < further[way.place]], recipes, tally)
    lowest = {way.place: min(way.loss, ends[way.place].certificate.loss) for way in ways}
    for place, loss in lowest.items():
        ends[place].certificate = replace(ends[place].certificate, second=loss)
    return list(ends)


class _End:
    """The lowest point of a way that was seen so far."""

    def __init__(self, way: Way):
        self.way, self.certificate = way, way.end()


def _standing(way: Way, recipe: TrainingRecipe) -> Fit:
    """The best point that a way has seen so far; it goes on from where it is."""
    looked_at = way.edit.flat.data.clone()
    fit = _fit(_End(way), recipe)
    way.edit.flat.data = looked_at
    return fit


def objective_of(on: TrainingSet, recipe: TrainingRecipe) -> Objective:
    """The mean loss of all training pairs, as a recipe has it."""
    lengths = torch.tensor([len(sequence.ids) - sequence.start for sequence in on.trie.sequences], dtype=torch.float64)
    return Objective(on.pairs, lengths if recipe.reduce == "mean" else torch.ones_like(lengths), recipe.tau, recipe.objective)


def _fit(end: _End, recipe: TrainingRecipe) -> Fit:
    """The edit at an end."""
    way, known = end.way, end.certificate
    diverged = not math.isfinite(known.loss)
    about: dict[str, object] = {"recipe": recipe.to_json(), "converged": known.settled, "diverged": diverged}
    about |= {"certificate": asdict(known)}
    return Fit(way.edit.frozen(about), np.array([way.start, *way.losses]), known.settled, diverged, known.reason, known)
