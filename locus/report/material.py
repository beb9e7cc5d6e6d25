"""What a report is made of: plan, verdict, and the settings tried, read from a run folder that may still be growing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locus import stats
from locus.boundary import incoming
from locus.conclude import derive as conclude
from locus.conclude.record import Record
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.records.place import PlaceResult
from locus.records.plan import PlanRecord
from locus.records.receipt import Receipt
from locus.records.verdict import KINDS, VERDICT_SCHEMA, Verdict
from locus.report.answers import Answers, side_by_side
from locus.report.places import Advantage, Place
from locus.report.receipt import sealed_in
from locus.shown import visible
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace
from locus.units import amount

MOST_MAPPED = 160  # sites of a layer that a map has a cell for each


@dataclass(frozen=True)
class SettingRow:
    """One strength of ITI, or one point of an edit's grid.

    Attributes:
        role: of its trials.
        name: of the place.
        read: what the edit reads.
        setting: the point of the grid.
        strength: of ITI, in standard deviations.
        chosen: whether it did best on validation questions.
        means: measure -> mean over test questions; None where nothing was scored.
    """

    role: str
    name: str
    read: str
    setting: str
    strength: float | None
    chosen: bool
    means: dict[str, float | None]


@dataclass(frozen=True)
class SiteCell:
    """A site in the map of layers by sites.

    Attributes:
        noun: what it is.
        name: as its kind writes it.
        layer, index: where it is.
        score: probe accuracy, as a fraction.
        shade: 0 to 5, by the score.
        claims: names of the claims that it is in.
        random: names of the random Locations that it is in.
        alone: mean of the main metric with this site edited alone.
        metric: the main one.
    """

    noun: str
    name: str
    layer: int
    index: int
    score: float | None
    shade: int | None
    claims: list[str]
    random: list[str]
    alone: float | None
    metric: str

    @property
    def title(self) -> str:
        """The site in words."""
        parts = [f"{self.noun} {self.name}"]
        if self.score is not None:
            parts.append(f"probe accuracy {amount(self.score, 'mc1')}")
        if self.claims:
            parts.append(f"claimed by {', '.join(visible(name, 24) for name in self.claims)}")
        if self.random:
            parts.append(f"in {len(self.random)} random Locations")
        if self.alone is not None:
            parts.append(f"edited alone: {self.metric} {amount(self.alone, self.metric)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Material:
    """One run as a report sees it.

    Attributes:
        folder: the run folder.
        plan: its plan.
        verdict: as in verdict.json.
        places: by kind (and `base`), the verdict's places, each with its claim and its gain over no edit.
        settings: every strength of ITI and every point of an edit's grid.
        answers: what was said to each question under several edits, most instructive first.
        receipt: the run's receipt as it is, unverified; None where there is none.
        space: the places of the claims' kind in the model.
    """

    folder: Path
    plan: PlanRecord
    verdict: Verdict
    places: dict[str, list[Place]]
    settings: list[SettingRow]
    answers: list[Answers]
    receipt: Receipt | None
    space: SiteSpace


def read(folder: Path) -> Material:
    """Read a run folder; without a verdict, one is derived from the trials there are.

    Raises:
        UserError: if it is no run folder, or its files are not whole.
    """
    with conclude.recorded(folder) as record:
        verdict = verdict_in(folder, record)
        _ = {one.name: one for one in record.config.measures if one.decides}[verdict.metric]  # nothing else could have decided
        claims = {trial.id: trial.claim for trial in record.plan.trials}
        places = {
            kind: [
                Place(place, next((claims[trial] for trial in place.trials), ""), _advantage(place, kind, verdict, record))
                for place in verdict.places(kind)
            ]
            for kind in ("base", *KINDS)
        }
        answers = side_by_side(record, verdict, places)
        return Material(folder, record.plan, verdict, places, settings(record), answers, sealed_in(folder), record.space)


def verdict_in(folder: Path, record: Record) -> Verdict:
    """The verdict in a run folder; derived where there is none, or one of another plan.

    Args:
        folder: of the run.
        record: of its scores.

    Raises:
        UserError: if it is of another schema.
        ValueError: if it is not whole.
    """
    path = folder / "verdict.json"
    if path.is_file():
        content: JsonObject = incoming.read_json(path, "a run folder whose verdict.json is whole", inside=folder)
        if (schema := content["schema"]) != VERDICT_SCHEMA:
            raise UserError(
                f"a verdict of schema {VERDICT_SCHEMA}", f"{str(schema)[:80]!r} in {str(path)!r}", "Use a newer locus."
            )
        verdict = Verdict.parse(content)
        if verdict.seconds is None or not verdict.versions:
            raise ValueError("a verdict without versions or times")
        if verdict.plan_sha256 == record.plan.sha256:
            return verdict
    return conclude.complete(record)


def _advantage(place: PlaceResult, kind: str, verdict: Verdict, record: Record) -> Advantage | None:
    """A place's mean difference from no edit in the main metric, paired by question, with a 95 % interval."""
    bases = [trial for base in verdict.baseline.base for trial in base.trials]
    if not bases or kind in ("base", "shift_random"):
        return None
    values = np.array([record.values(trial, verdict.metric) for trial in place.trials])
    if not np.isfinite(values).any():
        return None
    base = record.values(bases[0], verdict.metric)
    gain = stats.bootstrap_mean(values.mean(axis=0) - base, groups=record.groups, draws=2000)
    return Advantage(verdict.metric, gain.value, (gain.low, gain.high), gain.n)


def settings(record: Record) -> list[SettingRow]:
    """Means over test questions of every setting of ITI and of the optimal edits at claims and ceiling, chosen or not."""
    rows = []
    for role in ("shift", "shift-random", "shift-everywhere", "claim", "ceiling"):
        for arm in record.find(role):
            for setting in dict.fromkeys(trial.setting for trial in arm.trials):
                trials = [trial for trial in arm.trials if trial.setting == setting]
                means: dict[str, float | None] = {}
                for one in record.config.measures:
                    values = np.array([record.values(trial.id, one.name, one.split) for trial in trials])
                    means[one.name] = float(np.nanmean(values)) if np.isfinite(values).any() else None
                rows.append(SettingRow(role, arm.name, arm.read, setting, trials[0].spec.alpha, setting == arm.setting, means))
    return rows


def mapped(space: SiteSpace) -> bool:
    """Whether layers have so few sites that a map shows each of them."""
    return max(space.counts) <= MOST_MAPPED


def sites(material: Material) -> list[list[SiteCell]]:
    """The map of layers by sites; a layer without sites has an empty row, and of very many only what is named is in it."""
    plan, metric, space = material.plan, material.verdict.metric, material.space
    scores: dict[str, float] = {}
    for claim in plan.claims:
        scores |= claim.scores if claim.origin == "probe" else {}
    low, high = (min(scores.values()), max(scores.values())) if scores else (0.0, 1.0)
    claims: dict[Site, list[str]] = {}
    for claim in plan.claims:
        for site in Location.parse(claim.location).sites:
            claims.setdefault(site, []).append(claim.name)
    random: dict[Site, list[str]] = {}
    for place in material.verdict.random:
        for site in _sites_of(place):
            random.setdefault(site, []).append(place.name.removeprefix("random-"))
    single = [place for place in material.verdict.single if metric in place.measures and _sites_of(place)]
    alone = {_sites_of(place)[0]: place.mean(metric) for place in single}

    def cell(site: Site) -> SiteCell:
        name, own = str(site), list(dict.fromkeys(random.get(site, [])))
        score = scores.get(name)
        shade = None if score is None else int(5 * (score - low) / ((high - low) or 1.0) + 0.5)
        of = (space.kind.noun, name, site.layer, site.index)
        return SiteCell(*of, score, shade, claims.get(site, []), own, alone.get(site), metric)

    named = claims.keys() | random.keys() | alone.keys()
    shown = [[Site(space.kind.name, layer, index) for index in range(count)] for layer, count in enumerate(space.counts)]
    return [[cell(site) for site in row if mapped(space) or site in named] for row in shown]


def _sites_of(place: PlaceResult) -> tuple[Site, ...]:
    """The sites of a place that are listed; none where a verdict lists what are no names of sites."""
    try:
        return () if isinstance(place.location, str) else Location.parse(place.location).sites
    except UserError:
        return ()
