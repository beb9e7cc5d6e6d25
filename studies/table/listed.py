"""Which audits fill the table: models x behaviours, several claims in each, and controls beside them."""

from dataclasses import dataclass, field
from typing import Any

from studies.behaviours.tour import SETTINGS as TOUR
from studies.behaviours.tour import Stop, stops

SHARED: dict[str, Any] = {**TOUR, "common_random": True, "share_level": False}
HEURISTICS, DRAWN = ("probe", "mass-mean", "attribution"), ("random", "random:2", "random:3")
PLANTED_SETTINGS: dict[str, Any] = {
    **SHARED,
    "claim_size": 1,
    "train": 16,
    "validation": 8,
    "test": 24,
}
SMALL: dict[str, Any] = {"train": 4, "validation": 2, "test": 8, "rounds": 3}  # for a look whether an audit runs

# Those whose searches are short: formality, hedging and refusal took three to six times as long in the tour.
ON_SMOLLM2 = (
    *("antonym", "agreement", "language", "shutdown", "sentiment", "sycophancy", "bias"),
    *("blimp-agreement", "fv-english-french", "poem-sentiment", "caa-survival-instinct", "evals-agreeableness"),
)
ON_GEMMA = ("antonym", "agreement", "language", "shutdown", "sentiment", "fv-english-french")
OF_MLPS = ("antonym", "agreement", "language", "shutdown")
OF_DIRECTIONS = ("antonym", "agreement", "language", "shutdown")
MODELS = {"smollm2": "smollm2-135m-instruct", "gemma3": "gemma3-270m"}
SOURCES = {
    "heads": "heads by probe, class means or first-order attribution, as the claim says, or drawn at random",
    "mlps": "an MLP by probe, class means or first-order attribution, as the claim says, or drawn at random",
    "direction": "difference of class means",
}


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
        published: whether its questions lie in the folder of published files.
    """

    name: str
    model: str
    data: str
    claims: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    url: str = ""
    note: str = ""
    published: bool = False

    @property
    def negatives(self) -> int:
        """How many of its claims are drawn at random."""
        return sum(claim.partition(":")[0] == "random" for claim in self.claims)


def listed() -> tuple[Listed, ...]:
    """Every audit of the table, the cheap controls first."""
    known = {stop.name: stop for stop in stops()}
    # On SmolLM2 the tour has audited the probe's heads already; a claim is a row once.
    heads = [_of("smollm2", known[name], "heads", (*HEURISTICS[1:], *DRAWN), claim_size=8) for name in ON_SMOLLM2]
    heads += [_of("gemma3", known[name], "heads", (*HEURISTICS, *DRAWN), claim_size=4) for name in ON_GEMMA]
    mlps = [_of("smollm2", known[name], "mlps", (*HEURISTICS, *DRAWN), site_kind="mlp", claim_size=1) for name in OF_MLPS]
    directions = [_of("smollm2", known[name], "direction", ("means@15",)) for name in OF_DIRECTIONS]
    return (*planted(), *heads, *mlps, *directions)


def planted() -> tuple[Listed, ...]:
    """Controls on planted models: their true head, which should be special, and heads drawn at random, which should not."""
    from locus.models.planted.named import planted_named

    found = []
    for seed in range(6):
        model = f"planted:localized:{seed}"
        found.append(_planted(f"planted-localized-{seed}", model, (str(planted_named(model).where), *DRAWN)))
    shuffled = "planted:localized:6:shuffled"
    found.append(_planted("planted-shuffled-6", shuffled, (str(planted_named(shuffled).where), "random")))
    return tuple(found)


def _planted(name: str, model: str, claims: tuple[str, ...]) -> Listed:
    return Listed(name, model, model, claims, PLANTED_SETTINGS, source="planted by construction, and drawn at random")


def _of(short: str, stop: Stop, what: str, claims: tuple[str, ...], **more: Any) -> Listed:
    name, settings = f"{short}-{stop.name}-{what}", {**SHARED, "form": stop.form, **more}
    return Listed(name, MODELS[short], stop.data, claims, settings, SOURCES[what], published=stop.published_by_others)
