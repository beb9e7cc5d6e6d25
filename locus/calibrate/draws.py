"""One draw of a calibration: a planted model, the optimal edit at every place its claims need, and the verdict on each claim.

The verdict is the audit's own (`locus.conclude.rule`), from the same scores by the same rule; only the training is the bank's
(`bank.py`), which a test holds against the audit's ordinary one. Everything is drawn from the kind and the seed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from locus.behaviours.items import split
from locus.calibrate.heuristics import heuristics_right
from locus.claims import null
from locus.conclude import rule as verdict
from locus.engine.train import unsettled
from locus.models.planted.bank import Training, masks, trained, unedited
from locus.models.planted.build import Planted, build
from locus.models.planted.certificate import questions_of
from locus.models.planted.kinds import COMPACT, KnownClaim, Place
from locus.plan.config import AuditConfig
from locus.records.calibration import Draw, DrawnClaim
from locus.sites.kind import kind_of
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

Floats = npt.NDArray[np.float64]
METRICS = ("mc2", "margin")


def draw_audits(kind: str, seed: int, shuffled: bool, config: AuditConfig) -> Draw:
    """Build a planted model and audit every claim about it whose truth is known.

    Args:
        kind: of planted model.
        seed: of the model and of the random Locations.
        shuffled: whether labels are shuffled.
        config: alpha, margin and number of random Locations of the verdict.

    Returns:
        The verdicts, with all random Locations and with sequential stopping, and which heuristics name a planted head first.
    """
    planted = build(kind, seed, shuffled=shuffled, **COMPACT)
    config = config.model_copy(update={"seed": seed})
    claims = {name: claim for name, claim in planted.claims.items() if _possible(claim, planted, config)}
    rows: list[DrawnClaim] = []
    for read in ("layer", "heads"):
        claims_of_mode = {
            name: claim for name, claim in claims.items() if read in claim.reads and (read == "layer" or len(claim.reads) < 3)
        }
        if claims_of_mode:
            rows += _audit(planted, claims_of_mode, read, config)
    named = {} if shuffled else heuristics_right(planted)
    return Draw(kind=kind, seed=seed, shuffled=shuffled, claims=tuple(rows), named=named)


def _possible(claim: KnownClaim, planted: Planted, config: AuditConfig) -> bool:
    """Whether enough other Locations of the claim's size exist."""
    shape: Any = planted.model.config
    sites = Location.of(Site("head", *place) for place in claim.sites)
    space = SiteSpace(kind_of("head"), (shape.num_attention_heads,) * shape.num_hidden_layers)
    return space.capacity(sites, config.nulls[0]) >= config.random


def _audit(planted: Planted, claims: dict[str, KnownClaim], read: str, config: AuditConfig) -> list[DrawnClaim]:
    """All claims of a model in one read mode: places, edits, scores, verdicts."""
    shape: Any = planted.model.config
    layers, heads = shape.num_hidden_layers, shape.num_attention_heads
    everywhere = tuple((layer, head) for layer in range(layers) for head in range(heads))
    places: dict[tuple[Place, ...], int] = {everywhere: 0}
    places_of_claim: dict[str, dict[str, list[int]]] = {}
    for name, claim in claims.items():
        location = Location.of(Site("head", *place) for place in claim.sites)
        random_claims = null.draw_locations(
            location, SiteSpace(kind_of("head"), (heads,) * layers), config.random, config.seed, config.nulls[0]
        )
        others = tuple(place for place in everywhere if place not in claim.sites)
        roles = {
            "claim": [claim.sites],
            "complement": [others],
            "random": [tuple((site.layer, site.index) for site in one.location.sites) for one in random_claims],
        }
        places_of_claim[name] = {role: [places.setdefault(one, len(places)) for one in group] for role, group in roles.items()}
    scores, settled = _edit(planted, list(places), read)
    verdicts = []
    for name, roles_ in places_of_claim.items():
        for metric, (base, edited) in scores.items():
            roles_ = {**roles_, "ceiling": [0]}
            scores_of_claim = verdict.Scores(
                base=base,
                claim=edited[roles_["claim"]],
                ceiling=edited[[0]],
                complement=edited[roles_["complement"]],
                random=edited[roles_["random"]][:, None],
                groups=[str(index) for index in range(len(base))],
                unsettled={role: float(np.mean(~settled[rows])) for role, rows in roles_.items()},
            )
            verdicts.append(verdict_on(claims[name], name, read, metric, scores_of_claim, config))
    return verdicts


def verdict_on(claim: KnownClaim, name: str, read: str, metric: str, scores: verdict.Scores, config: AuditConfig) -> DrawnClaim:
    """Standings with all random Locations and with sequential stopping, and after how many that stopped."""
    own = {"metric": metric}  # in whose units the least gain is
    full = verdict.conclude([scores], config.model_copy(update={**own, "sequential": False}))
    early = verdict.conclude([scores], config.model_copy(update={**own, "sequential": True}))
    return DrawnClaim(
        name=name,
        read=read,
        metric=metric,
        expected=claim.expected,
        standings={question: one.standing for question, one in full.findings[0].by_question.items()},
        sequential={question: one.standing for question, one in early.findings[0].by_question.items()},
        rank_p=full.findings[0].special.rank_p,
        drawn=early.look,
        planned=config.random,
    )


def _edit(
    planted: Planted, places: list[tuple[Place, ...]], read: str
) -> tuple[dict[str, tuple[Floats, Floats]], npt.NDArray[np.bool_]]:
    """Train the optimal edit at every place.

    Returns:
        metric -> ([questions] of the base model, [places, questions] edited); and [places], whether training settled.
    """
    shape: Any = planted.model.config
    questions, split_ = questions_of(planted), split(planted.dataset.items, planted.seed)
    train, test = questions.part(split_.train), questions.part(split_.test)
    training = Training(read=read)
    grid = masks(places, shape.num_hidden_layers, shape.num_attention_heads, shape.head_dim)
    margins, losses = trained(planted.model, grid, train, test, training)
    after = margins.double().numpy()
    before = unedited(planted.model, test).double().numpy()
    settled = np.array([not unsettled(losses[:, place]) for place in range(len(places))])
    return by_metric(before, after), settled


def by_metric(before: Floats, after: Floats) -> dict[str, tuple[Floats, Floats]]:
    """What two metrics say of margins: by metric, [questions] of the base model and [places, questions] edited.

    Args:
        before: margins of the base model, [questions, pairs], in nats.
        after: margins edited, [places, questions, pairs].
    """
    return {
        "mc2": (truth_share(before[None])[0], truth_share(after)),
        "margin": (np.zeros(len(before)), (after - before).mean(axis=2)),
    }


def truth_share(margins: Floats) -> Floats:
    """MC2 of one true answer: its probability among the answers, from its margins over each false one, [..., pairs]."""
    share: Floats = 1 / (1 + np.exp(-margins).sum(axis=-1))
    return share
