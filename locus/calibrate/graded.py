"""One audit of a graded planted model: the search for the optimal edit at every place, and the verdict on each claim.

Search, rule and order are the audit's own: the claims and random Locations first, then ceiling and complements, which are also
searched for from the best edit inside them. With `newton` the search is the engine's on the model itself. With `adamw` it is the
planted models' bank (`locus.models.planted.bank`). Two things are cheaper than in an audit and change no number: edits are
scored by the bank's forward, and one audit gives the verdict from fewer random Locations too, which are the first of them.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from locus.behaviours.items import Split, split
from locus.calibrate.draws import by_metric
from locus.calibrate.searched import Found, Places, newton, scores_at
from locus.claims import null
from locus.conclude import nested, rule
from locus.edits import Edit
from locus.engine.train import unsettled
from locus.models.planted.bank import Edits, Questions, Runner, Training, margins_after, masks, trained, unedited
from locus.models.planted.build import Planted, build
from locus.models.planted.certificate import questions_of
from locus.models.planted.graded import GRADED, answers
from locus.plan.config import AuditConfig
from locus.plan.trials import FIRST
from locus.records.calibration import GradedClaim, GradedDraw
from locus.sites.kind import kind_of
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

Floats = npt.NDArray[np.float64]
Roles = dict[str, dict[str, list[Places]]]  # claim -> role -> places
SHARES = (0.25, 0.4375, 0.3125)  # of 160 questions 40 to train on and 50 to test, as in the preset quick
FEW, FEW_LAYERS = 39, 2  # random Locations for which half of the layers hold heads enough
FEWER = 19  # random Locations from which a verdict is drawn besides
TARGET = Training().target


def draw_graded(percent: int, seed: int, config: AuditConfig, steps: int) -> GradedDraw:
    """Build a graded planted model and audit the claims about it.

    Args:
        percent: the share that the claimed head carries.
        seed: of the model and of the random Locations.
        config: alpha, tolerance, search and number of random Locations.
        steps: the most gradients of the whole loss that a search takes.
    """
    began = time.perf_counter()
    planted = build(
        f"graded-{percent:02d}", seed, **{**GRADED, "layers": FEW_LAYERS if config.random <= FEW else GRADED["layers"]}
    )
    config = config.model_copy(update={"seed": seed, "sequential": False})
    parts, questions = split(planted.dataset.items, seed, SHARES), questions_of(planted)
    roles, first, inner, outer = _places(planted, config)
    number = {place: index for index, place in enumerate([*inner, *outer])}
    starts = [[number[one] for one in first if set(one) <= set(place)] for place in outer]
    found = (_newton if config.search == "newton" else _adamw)(planted, parts, [*inner, *outer], starts, steps)
    before = unedited(planted.model, questions.part(parts.test)).double().numpy()
    at = {name: {role: [number[one] for one in group] for role, group in mine.items()} for name, mine in roles.items()}
    known = _Verdicts(planted, config, found, before)
    held = [(whole, part) for whole in outer for part in inner if set(part) < set(whole)]
    beaten = sum(found.losses[number[whole]] > found.losses[number[part]] + nested.NOISE * found.start for whole, part in held)
    return GradedDraw(
        percent=percent,
        seed=seed,
        claims=tuple(claim for name, places in at.items() for claim in known.of(name, places)),
        ceiling=known.share(number[outer[0]]),
        unsettled=known.unsettled(at["planted"]),
        compared=len(held),
        beaten=int(beaten),
        seconds=round(time.perf_counter() - began, 3),
    )


def _places(planted: Planted, config: AuditConfig) -> tuple[Roles, list[Places], list[Places], list[Places]]:
    """Claim -> role -> places.

    Returns:
        Those; the places from which others that contain them are searched for as well; all places of one head; and the others,
        the ceiling before the rest.
    """
    shape: Any = planted.model.config
    layers, heads = shape.num_hidden_layers, shape.num_attention_heads
    everywhere = tuple((layer, head) for layer in range(layers) for head in range(heads))
    roles: Roles = {}
    for name, claim in planted.claims.items():
        location = Location.of(Site("head", *place) for place in claim.sites)
        drawn = null.draw_locations(
            location, SiteSpace(kind_of("head"), (heads,) * layers), config.random, config.seed, config.nulls[0]
        )
        roles[name] = {
            "claim": [claim.sites],
            "random": [tuple((site.layer, site.index) for site in one.location.sites) for one in drawn],
            "complement": [tuple(place for place in everywhere if place not in claim.sites)],
            "ceiling": [everywhere],
        }
    first = [place for mine in roles.values() for place in (*mine["claim"], *mine["random"][:FIRST])]
    inner = dict.fromkeys(place for mine in roles.values() for place in (*mine["claim"], *mine["random"]))
    outer = dict.fromkeys([everywhere, *(place for mine in roles.values() for place in mine["complement"])])
    return roles, first, list(inner), list(outer)


def _newton(planted: Planted, parts: Split, places: Sequence[Places], starts: Sequence[Sequence[int]], steps: int) -> Found:
    """The engine's search at every place; the last ones are searched for from the best of `starts` as well."""
    at = [planted.located(place) for place in places]
    return newton(planted, parts, at, starts, steps, lambda edits, test: _margins(planted, edits, test))


def _margins(planted: Planted, edits: Sequence[Edit], test: Questions) -> Floats:
    """[edits, test questions, pairs] by the bank's forward."""
    layout, runner = edits[0].layout, Runner(planted.model)
    numbers = torch.zeros(2, len(edits), layout.n_layers, layout.d_in(0))
    for row, edit in enumerate(edits):
        for layer, terms in edit.layers.items():
            assert terms.read is not None and terms.write is not None, "an edit that reads the layer"
            numbers[0, row, layer], numbers[1, row, layer] = terms.read, terms.write
    bank = Edits(0, torch.ones_like(numbers[0]), numbers[0], numbers[1], "layer")
    margins: Floats = margins_after(runner, bank, test).double().numpy()
    return margins


def _adamw(planted: Planted, parts: Split, places: Sequence[Places], starts: Sequence[Sequence[int]], steps: int) -> Found:
    """The bank's training at every place; by epochs, nothing is searched for from elsewhere."""
    shape: Any = planted.model.config
    questions, grid = questions_of(planted), masks(places, shape.num_hidden_layers, shape.num_attention_heads, shape.head_dim)
    margins, losses = trained(planted.model, grid, questions.part(parts.train), questions.part(parts.test), Training(steps=steps))
    settled = np.array([not unsettled(curve) for curve in losses.T])
    return Found(float(losses[0, 0]), losses[-1], settled, margins.double().numpy())


class _Verdicts:
    """The verdicts on the claims about one model.

    Args:
        planted: the model.
        config: of the rule.
        found: the ends of the searches.
        before: [test questions, pairs], margins of the unedited model.
    """

    def __init__(self, planted: Planted, config: AuditConfig, found: Found, before: Floats):
        self.planted, self.config, self.found = planted, config, found
        self.scores = by_metric(before, found.margins)["mc2" if config.metric == "mc2" else "margin"]
        # Only a search by the whole loss knows how much there is to gain.
        self.settled = found.near if config.search == "newton" else found.settled

    def share(self, place: int) -> float:
        """What a search gained of all that could be gained in training loss, to four places."""
        return round(float(1 - self.found.losses[place] / self.found.start), 4)

    def unsettled(self, at: dict[str, list[int]]) -> dict[str, float | int]:
        """Part -> share of searches that had not settled."""
        return {role: round(float(np.mean(~self.settled[rows])), 4) for role, rows in at.items()}

    def of(self, name: str, at: dict[str, list[int]]) -> Iterable[GradedClaim]:
        """The verdicts on a claim, from all random Locations and from the first few."""
        (site,) = self.planted.claims[name].sites
        shape: Any = self.planted.model.config
        everywhere = [(layer, head) for layer in range(shape.num_hidden_layers) for head in range(shape.num_attention_heads)]
        others = [self.planted.plan.reach([place]) for place in everywhere if place != site]
        reach = self.planted.plan.reach([site])
        for count in sorted({min(FEWER, self.config.random), self.config.random}):
            config = self.config.model_copy(update={"random": count})
            scores = self._scores(at, count)
            full = rule.conclude([scores], config)
            early = rule.conclude([scores], config.model_copy(update={"sequential": True}))
            yield GradedClaim(
                name=name,
                random=count,
                reach=round(reach, 6),
                lead=round(reach - sum(others) / len(others), 6),
                expected=answers(self.planted.plan, everywhere, site, config.tolerance),
                standings={question: one.standing for question, one in full.findings[0].by_question.items()},
                sequential={question: one.standing for question, one in early.findings[0].by_question.items()},
                rank_p=full.findings[0].special.rank_p,
            )

    def _scores(self, at: dict[str, list[int]], count: int) -> rule.Scores:
        base, edited = self.scores
        at = {**at, "random": at["random"][:count]}
        inside = {"ceiling": [*at["claim"], *at["random"]], "complement": at["random"]}
        beaten = {role: self._beaten(at[role][0], inner) for role, inner in inside.items()}
        groups = [str(index) for index in range(len(base))]
        said = {role: "the optimum was not reached" for role, lower in beaten.items() if lower}
        return scores_at(base, edited, at, self.settled, groups, said)

    def _beaten(self, outer: int, inner: list[int]) -> bool:
        """Whether one of some places ends clearly below another in training loss."""
        return bool((self.found.losses[inner] < self.found.losses[outer] - nested.NOISE * self.found.start).any())
