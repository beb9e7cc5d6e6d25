"""One audit of a planted model of directions: the engine's search along every direction and off it, and a verdict on each claim.

Search, rule and order are the audit's own. All claims of a model are of one layer, so they share its ceiling and its random
directions, which are drawn in the two ways that decide, from the answers to training and validation questions. Edits are scored
by hooks on the model's own forward (`locus.models.planted.direct`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from locus.behaviours.items import Split, split
from locus.behaviours.prompts import prompt_format
from locus.calibrate.draws import by_metric, verdict_on
from locus.calibrate.searched import newton, scores_at
from locus.calibrate.sited import ROUNDS, SHARES
from locus.claims.book import Book
from locus.claims.probe import collect
from locus.conclude import nested
from locus.edits import Edit
from locus.edits.rank1 import Rank1
from locus.edits.stream import Stream
from locus.models.layout import Layout
from locus.models.model import Model
from locus.models.planted.bank import Questions, unedited
from locus.models.planted.build import Planted
from locus.models.planted.certificate import questions_of
from locus.models.planted.direct import Numbers, margins_under
from locus.models.planted.other_sites import build_sited
from locus.plan.config import AuditConfig
from locus.plan.trials import FIRST
from locus.records.calibration import Draw
from locus.sites.site import Location
from locus.sites.space import SiteSpace

Floats = npt.NDArray[np.float64]


def draw_along(kind: str, seed: int, shuffled: bool, config: AuditConfig) -> Draw:
    """Build a planted model of directions and audit every claim about it whose truth is known.

    Args:
        kind: of planted model, direction-SHAPE.
        seed: of the model and of the random directions.
        shuffled: whether labels are shuffled.
        config: alpha, tolerance and number of random Locations of the verdict.
    """
    planted = build_sited(kind, seed, shuffled=shuffled)
    config = config.model_copy(update={"seed": seed, "search": "newton"})
    parts = split(planted.dataset.items, seed, SHARES)
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    book, space = book_of(planted, model, parts, seed), _space(planted, model)
    claims = {name: planted.located(claim.sites) for name, claim in planted.claims.items()}
    ways = [space.draw(claims["planted"], config.random, seed, way) for way in space.matches[:2]]  # the same for all of a layer
    inner, rests = [*claims.values(), *ways[0], *ways[1]], [space.rest(claim) for claim in claims.values()]
    begins = [*range(len(claims)), *(inner.index(one) for way in ways[:1] for one in way[:FIRST])]

    def make(layout: Layout, location: Location) -> Rank1:
        return Stream(layout, location, book)

    def margins(edits: Sequence[Edit], test: Questions) -> Floats:
        return scored(planted, edits, test)

    starts = [begins, *([] for _ in rests)]  # no claim but the left out one is known to be inside what is left
    found = newton(planted, parts, [*inner, space.everywhere, *rests], starts, ROUNDS, margins, make)
    before = unedited(planted.model, questions_of(planted).part(parts.test)).double().numpy()
    first, top = len(claims), len(inner)
    drawn, also = list(range(first, first + len(ways[0]))), list(range(first + len(ways[0]), top))
    groups = [planted.dataset.items[index].group for index in parts.test]
    above = (found.losses[begins] < found.losses[top] - nested.NOISE * found.start).any()
    beaten = {"ceiling": "the optimum was not reached"} if above else {}
    verdicts = []
    for number, name in enumerate(claims):
        rows = {"claim": [number], "ceiling": [top], "complement": [top + 1 + number], "random": drawn}
        for metric, (base, edited) in by_metric(before, found.margins).items():
            scores = scores_at(base, edited, rows, found.near, groups, beaten, also)
            verdicts.append(verdict_on(planted.claims[name], name, "layer", metric, scores, config))
    return Draw(kind=kind, seed=seed, shuffled=shuffled, claims=tuple(verdicts), named={})


def book_of(planted: Planted, model: Model, parts: Split, seed: int) -> Book:
    """What the directions of an audit of a planted model stand for."""
    items = tuple(planted.dataset.items[index] for part in (parts.train, parts.validation) for index in part)
    space = SiteSpace.of(planted.site, model.layout)
    return Book(planted.vectors, collect(model, items, prompt_format(model.tokenizer, "bare"), "answer", seed, space=space), seed)


def _space(planted: Planted, model: Model) -> SiteSpace:
    return replace(SiteSpace.of(planted.site, model.layout), over=(planted.truth[0][0],))


def scored(planted: Planted, edits: Sequence[Edit], test: Questions) -> Floats:
    """[edits, test questions, pairs] in nats, by hooks."""
    config: Any = planted.model.config
    a, b, added = torch.zeros(3, len(edits), config.num_hidden_layers, config.hidden_size)
    mask = torch.zeros_like(a)
    for row, edit in enumerate(edits):
        for layer, terms in edit.layers.items():
            assert terms.read is not None and terms.write is not None and terms.shift is not None, "an edit of the stream"
            a[row, layer], b[row, layer], added[row, layer] = terms.read[0], terms.write[0], terms.shift
            mask[row, layer] = 1.0
    with torch.no_grad():
        margins: Floats = margins_under(planted, Numbers(a, b, mask, added), test).double().numpy()
    return margins
