"""One audit of a planted model of another kind of site: the engine's search at every place, and the verdict on each claim.

Search, rule and order are the audit's own: the claims and random Locations first, then ceiling and complements, which are also
searched for from the best edit inside them. Edits are scored by hooks on the model's own forward (`locus.models.planted.direct`),
which is a second implementation of what an edit of the kind does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from locus.behaviours.items import split
from locus.calibrate.draws import by_metric, verdict_on
from locus.calibrate.searched import Found, Places, newton, scores_at
from locus.claims import null
from locus.conclude import nested
from locus.edits import Edit
from locus.models.planted.bank import Questions, unedited
from locus.models.planted.build import Planted
from locus.models.planted.certificate import questions_of
from locus.models.planted.direct import Numbers, all_places, margins_under
from locus.models.planted.kinds import KnownClaim, Place
from locus.models.planted.other_sites import build_sited
from locus.plan.config import AuditConfig
from locus.plan.trials import FIRST
from locus.records.calibration import Draw, DrawnClaim
from locus.sites.kind import kind_of
from locus.sites.space import SiteSpace

Floats = npt.NDArray[np.float64]
Roles = dict[str, list[Places]]
SHARES = (0.6, 0.05, 0.35)  # of 120 questions 72 to train on and 42 to test
ROUNDS = 15


def draw_sited(kind: str, seed: int, shuffled: bool, config: AuditConfig) -> Draw:
    """Build a planted model of a kind of site and audit every claim about it whose truth is known.

    Args:
        kind: of planted model, one of `locus.models.planted.sited.SITED`.
        seed: of the model and of the random Locations.
        shuffled: whether labels are shuffled.
        config: alpha, tolerance and number of random Locations of the verdict.
    """
    planted = build_sited(kind, seed, shuffled=shuffled)
    config = config.model_copy(update={"seed": seed, "search": "newton"})
    parts, questions = split(planted.dataset.items, seed, SHARES), questions_of(planted)
    roles = {name: at for name, claim in planted.claims.items() if (at := _roles(claim, planted, config))}
    everywhere = tuple(all_places(planted))
    inner = list(dict.fromkeys(place for at in roles.values() for place in (*at["claim"], *at["random"]) if place != everywhere))
    outer = list(dict.fromkeys([everywhere, *(place for at in roles.values() for place in at["complement"])]))
    number = {place: index for index, place in enumerate([*inner, *outer])}
    first = {number[place] for at in roles.values() for place in (*at["claim"], *at["random"][:FIRST]) if place in inner}
    starts = [[index for index in sorted(first) if set(inner[index]) <= set(place)] for place in outer]

    def margins(edits: Sequence[Edit], test: Questions) -> Floats:
        return _margins(planted, edits, test)

    found = newton(planted, parts, [planted.located(place) for place in (*inner, *outer)], starts, ROUNDS, margins)
    before = unedited(planted.model, questions.part(parts.test)).double().numpy()
    groups = [planted.dataset.items[index].group for index in parts.test]
    drawn: list[DrawnClaim] = []
    for name, at in roles.items():
        rows = {role: [number[place] for place in places] for role, places in at.items()}
        for metric, (base, edited) in by_metric(before, found.margins).items():
            beaten = _beaten(found, rows, {role: [set(place) for place in places] for role, places in at.items()})
            scores = scores_at(base, edited, rows, found.near, groups, beaten)
            drawn.append(verdict_on(planted.claims[name], name, "layer", metric, scores, config))
    return Draw(kind=kind, seed=seed, shuffled=shuffled, claims=tuple(drawn), named={})


def _roles(claim: KnownClaim, planted: Planted, config: AuditConfig) -> Roles:
    """Role -> places; none where there are too few other Locations, or nothing is left but the claim."""
    everywhere, shape = tuple(all_places(planted)), _shape(planted)
    location = planted.located(claim.sites)
    rest = tuple(place for place in everywhere if place not in claim.sites)
    if not rest or shape.capacity(location, config.nulls[0]) < config.random:
        return {}
    drawn = null.draw_locations(location, shape, config.random, config.seed, config.nulls[0])
    return {
        "claim": [tuple(sorted(claim.sites))],
        "random": [tuple((site.layer, site.index) for site in one.location.sites) for one in drawn],
        "complement": [rest],
        "ceiling": [everywhere],
    }


def _shape(planted: Planted) -> SiteSpace:
    config: Any = planted.model.config
    each = len(all_places(planted)) // config.num_hidden_layers
    return SiteSpace(kind_of(planted.site), (each,) * config.num_hidden_layers)


def _margins(planted: Planted, edits: Sequence[Edit], test: Questions) -> Floats:
    """[edits, test questions, pairs] by hooks."""
    config: Any = planted.model.config
    width = edits[0].layout.width(kind_of(planted.site).point, 0)
    a, b = torch.zeros(2, len(edits), config.num_hidden_layers, width)
    for row, edit in enumerate(edits):
        for layer, terms in edit.layers.items():
            assert terms.read is not None and terms.write is not None, "an edit that reads the layer"
            a[row, layer], b[row, layer] = terms.read.detach(), terms.write.detach()
    with torch.no_grad():
        margins: Floats = margins_under(planted, Numbers(a, b, torch.ones_like(b)), test).double().numpy()
    return margins


def _beaten(found: Found, rows: dict[str, list[int]], at: dict[str, list[set[Place]]]) -> dict[str, str]:
    """Roles whose search ended clearly above that of a place inside it."""
    beaten: dict[str, str] = {}
    for role in ("ceiling", "complement"):
        for one in ("claim", "random"):
            inside = [row for row, place in zip(rows[one], at[one], strict=True) if place < at[role][0]]
            if (found.losses[inside] < found.losses[rows[role][0]] - nested.NOISE * found.start).any():
                beaten[role] = "the optimum was not reached"
    return beaten
