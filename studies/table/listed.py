"""Which audits fill the table: models x behaviours, several claims in each, and controls beside them."""

from dataclasses import dataclass, field
from functools import cache
from math import nan
from typing import Any

from locus.boundary import incoming
from locus.models.planted.named import planted_named
from locus.records.verdict import Verdict
from studies.behaviours.tour import KEPT, Stop, settings_of, stops
from studies.behaviours.tour import SETTINGS as TOUR

SHARED: dict[str, Any] = {**TOUR, "common_random": True, "share_level": False}
HEURISTICS, DRAWN = ("probe", "mass-mean", "attribution"), ("random", "random:2", "random:3")
PLANTED_SETTINGS: dict[str, Any] = {**SHARED, "claim_size": 1, "train": 16, "validation": 8, "test": 24}
SMALL: dict[str, Any] = {"train": 4, "validation": 2, "test": 8, "rounds": 3}  # for a look whether an audit runs

# Behaviours whose searches were the shortest in the tour, where the optimal edit gains something.
BEHAVIOURS = (
    *("shutdown", "fv-english-french", "sycophancy", "blimp-agreement", "antonym", "evals-agreeableness"),
    *("agreement", "poem-sentiment", "sentiment", "paradetox", "bias", "caa-survival-instinct"),
)
ON_GEMMA, OF_MLPS, OF_DIRECTIONS = BEHAVIOURS[:6], BEHAVIOURS[:4], BEHAVIOURS[:4]
MODELS = {"smollm2": "smollm2-135m-instruct", "gemma3": "gemma3-270m"}
SOURCES = {
    "heads": "heads by probe, class means or first-order attribution, as the claim says, or drawn at random",
    "mlps": "an MLP by probe, class means or first-order attribution, as the claim says, or drawn at random",
    "direction": "difference of class means",
}
DIRECTION = ("means@15",)  # the middle of thirty layers
SLOWER = {"gemma3-270m": 1.0}
ONCE, EACH = ("base", "ceiling", "random", "shift-random"), ("claim", "complement", "shift")  # roles of an audit's trials


@dataclass(frozen=True)
class Listed:
    """One audit of the table.

    Attributes:
        name: of its row and run folder.
        model: as `--model`.
        data: as `--data`.
        claims: as `--claim`, several.
        settings: of the audit.
        source, url, note: what is said of the row.
        stop: its behaviour in the tour; None where it is planted.
    """

    name: str
    model: str
    data: str
    claims: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    url: str = ""
    note: str = ""
    stop: Stop | None = None

    @property
    def negatives(self) -> int:
        """How many of its claims are drawn at random."""
        return sum(claim.partition(":")[0] == "random" for claim in self.claims)


def listed() -> tuple[Listed, ...]:
    """Every audit of the table: controls on planted models, heads, then what has no measured error rates; the cheapest first."""
    known = {stop.name: stop for stop in stops()}
    # On SmolLM2 the tour has audited the probe's heads already; a claim is a row once.
    heads = [_of("smollm2", known[name], "heads", (*HEURISTICS[1:], *DRAWN), claim_size=8) for name in BEHAVIOURS]
    heads += [_of("gemma3", known[name], "heads", (*HEURISTICS, *DRAWN), claim_size=4) for name in ON_GEMMA]
    mlps = [_of("smollm2", known[name], "mlps", (*HEURISTICS, *DRAWN), site_kind="mlp", claim_size=1) for name in OF_MLPS]
    directions = [_of("smollm2", known[name], "direction", DIRECTION) for name in OF_DIRECTIONS]
    return (*planted(), *sorted(heads, key=core_minutes), *sorted([*mlps, *directions], key=core_minutes))


def planted() -> tuple[Listed, ...]:
    """Controls on planted models: their true head, which should be special, and heads drawn at random, which should not."""
    models = [f"planted:localized:{seed}" for seed in range(6)]
    found = [_planted(model, (str(planted_named(model).where), *DRAWN)) for model in models]
    shuffled = "planted:localized:6:shuffled"  # what is wanted is as often wrong: no head is the true one
    return (*found, _planted(shuffled, (str(planted_named(shuffled).where), DRAWN[0])))


def _planted(model: str, claims: tuple[str, ...]) -> Listed:
    name = "planted-shuffled-6" if model.endswith(":shuffled") else model.replace(":", "-")
    return Listed(name, model, model, claims, PLANTED_SETTINGS, source="planted by construction, and drawn at random")


def _of(short: str, stop: Stop, what: str, claims: tuple[str, ...], **more: Any) -> Listed:
    """An audit with as many rounds as the tour's of that behaviour."""
    settings = {**SHARED, "rounds": settings_of(stop.name)["rounds"], "form": stop.form, **more}
    return Listed(f"{short}-{stop.name}-{what}", MODELS[short], stop.data, claims, settings, SOURCES[what], stop=stop)


def core_minutes(one: Listed) -> float:
    """What an audit's trials would take of one core, by what the tour's audit of that behaviour took; NaN where there is none.

    Ceiling and random places count once, what a claim needs for each claim. A direction has as many random places again.
    """
    cost = None if one.stop is None else kept(one.stop.name).cost
    if cost is None:
        return nan
    once, each = (sum(cost.by_role[role].seconds for role in roles) for roles in (ONCE, EACH))
    return (once * (2 if one.claims == DIRECTION else 1) + len(one.claims) * each) / 60 * SLOWER.get(one.model, 1.0)


@cache
def kept(name: str) -> Verdict:
    """The tour's verdict on a behaviour."""
    return Verdict.parse(incoming.read_json(KEPT / name / "verdict.json", "a verdict"))
