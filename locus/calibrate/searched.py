"""The engine's own search for the optimal edits at many places of a planted model, as an audit makes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from locus.behaviours.items import Item, Split
from locus.behaviours.prompts import prompt_format
from locus.conclude import rule
from locus.edits import Edit
from locus.edits.rank1 import Rank1
from locus.engine.activations import base_pass
from locus.engine.descent import descend
from locus.engine.optimum import FirstOrder
from locus.engine.train import Fit, TrainingRecipe
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.models.layout import Layout
from locus.models.model import Model
from locus.models.planted.bank import Questions, Training
from locus.models.planted.build import Planted
from locus.models.planted.certificate import questions_of
from locus.models.planted.kinds import Place
from locus.records.place import NEAR
from locus.sites.kind import kind_of
from locus.sites.site import Location

Floats = npt.NDArray[np.float64]
Places = tuple[Place, ...]
TARGET = Training().target


@dataclass(frozen=True)
class Found:
    """What the searches for the optimal edits at some places ended with.

    Attributes:
        start: mean training loss of the unedited model.
        losses: [places], at the end.
        settled: [places].
        margins: [places, test questions, pairs], in nats.
    """

    start: float
    losses: Floats
    settled: npt.NDArray[np.bool_]
    margins: Floats

    @property
    def near(self) -> npt.NDArray[np.bool_]:
        """[places], whether it settled, or is near the optimum by the share of all that could be gained."""
        return self.settled | (1 - self.losses / self.start >= NEAR)


def scores_at(
    base: Floats,
    edited: Floats,
    rows: Mapping[str, Sequence[int]],
    settled: npt.NDArray[np.bool_],
    groups: Sequence[str],
    beaten: Mapping[str, str],
    also: Sequence[int] = (),
) -> rule.Scores:
    """A claim's scores, from those of many places.

    Args:
        base: [questions], of the unedited model.
        edited: [places, questions].
        rows: the places of the claim, the ceiling, the complement and the random Locations.
        settled: [places], whether the search there went far enough.
        groups: of the questions.
        beaten: by role, why its optimum was not reached.
        also: places of the random Locations that are drawn in another way, and decide as well.
    """
    every = {**rows, "random": [*rows["random"], *also]}
    return rule.Scores(
        base=base,
        claim=edited[rows["claim"]],
        ceiling=edited[rows["ceiling"]],
        complement=edited[rows["complement"]],
        random=edited[rows["random"]][:, None],
        also=edited[also][:, None] if also else None,
        groups=list(groups),
        unsettled={role: float(np.mean(~settled[places])) for role, places in every.items()},
        beaten=dict(beaten),
    )


def newton(
    planted: Planted,
    parts: Split,
    places: Sequence[Location],
    starts: Sequence[Sequence[int]],
    rounds: int,
    margins: Callable[[Sequence[Edit], Questions], Floats],
    make: Callable[[Layout, Location], Rank1] = Rank1,
) -> Found:
    """Search at every place; the last ones are searched for from the best of `starts` as well.

    Args:
        planted: the model.
        parts: of its questions.
        places: of its kind of site.
        starts: for each of the last places others inside it, by number.
        rounds: that a search may take.
        margins: of edits on the test questions, [edits, test questions, pairs] in nats.
        make: the edit of a place, at the identity.
    """
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    on = _training_set(model, [planted.dataset.items[index] for index in parts.train])
    shared = FirstOrder(model, on.trie, point=kind_of(planted.site).point)
    recipe = TrainingRecipe(tau=1 / (2 * TARGET), search="newton", rounds=rounds)

    def found(places: Sequence[Location], starts: Sequence[Sequence[Rank1]] = ()) -> list[Fit]:
        ends = descend(on, [make(model.layout, place) for place in places], [recipe] * len(places), shared, starts=starts)
        return [fits[rounds] for fits in ends]

    fits, padded = found(places[: -len(starts)]), []
    for place, inside in zip(places[-len(starts) :], starts, strict=True):
        outer = make(model.layout, place)
        if inside:
            outer.pad(min((fits[index] for index in inside), key=_loss).edit, model.weight)
        padded.append([outer] if inside else [])
    fits += found(places[-len(starts) :], padded)
    start = fits[0].certificate
    assert start is not None, "a search by the whole loss states it"
    return Found(
        start.start,
        np.array([_loss(fit) for fit in fits]),
        np.array([fit.converged for fit in fits]),
        margins([fit.edit for fit in fits], questions_of(planted).part(parts.test)),
    )


def _training_set(model: Model, items: list[Item]) -> TrainingSet:
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "bare"), items)
    base = base_pass(model, trie, layers=range(model.layout.n_layers), features=None)
    return TrainingSet(model, trie, items, base.logprobs, base.residuals)


def _loss(fit: Fit) -> float:
    assert fit.certificate is not None, "a search by the whole loss states it"
    return fit.certificate.loss
