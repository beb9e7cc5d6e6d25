"""The verb of patching: from a task and a model to a map, what it finds, and a claim that an audit can take up."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from locus import __version__
from locus.behaviours.items import content_hash
from locus.models.configured import load_configured
from locus.models.layout import Layout
from locus.models.model import Model
from locus.patching import compare, controls, folder
from locus.patching.attribution import Budget, attribute, choose_patches, judge_screen
from locus.patching.component import HEADED, Component, Patch
from locus.patching.folder import Parts
from locus.patching.material import tried
from locus.patching.metrics import METRICS, Array
from locus.patching.outcome import Outcome, outcome
from locus.patching.pairs import PatchPair
from locus.patching.settings import CorruptionName, PatchConfig
from locus.patching.sweep import Batching, How, Keep, PatchMap, heads, outputs, patch_maps, window
from locus.records.patch import (
    PATCH_SCHEMA,
    ClaimSource,
    Controls,
    MapSetting,
    PairsSummary,
    PatchClaim,
    PatchedLayout,
    PatchedModel,
    PatchRecord,
    Screen,
)
from locus.report.patching import page
from locus.sites.site import Location, Site

Progress = Callable[[str, float], None]
# Indices of top and sample, and by choice of tokens and corruption the estimates, one a metric.
Chosen = tuple[tuple[list[int], list[int]], list[list[Array]]]


@dataclass(frozen=True)
class Family:
    """Patches that are compared with one another: one site, or windows of one width."""

    site: str
    width: int
    patches: list[Patch]


def find(
    config: PatchConfig, out: Path, progress: Progress = lambda label, share: None, opened: Model | None = None
) -> PatchRecord:
    """Patch a task's pairs in every way a configuration names, and write a folder; run again, it goes on where it stopped.

    Args:
        config: what is patched and how.
        out: the folder.
        progress: told what is being done and the share that is done.
        opened: the model, where it is open already.

    Returns:
        The record, as `patch.json` holds it.

    Raises:
        UserError: for everything the user can fix.
    """
    started = time.monotonic()
    finished = folder.begin(config, out)
    if finished is not None:
        return finished
    progress("loading the model", 0.0)
    model = opened or load_configured(config)
    works, right = [], {}
    for tokens in config.tokens or ("",):
        pairs, right[tokens] = tried(config, model, tokens)
        short = short_agrees(model, pairs)
        works += [CorruptionRun(model, config, out, tokens, corruption, pairs, short) for corruption in config.corruptions]
    families, screened = [], {}
    for family in _families(config, model.layout):
        reduced, screen = _screened(works, family, progress)
        families.append(reduced)
        if screen is not None:
            screened[family.site] = screen
    outcomes: list[Outcome] = []
    for number, work in enumerate(works):

        def say(share: float, number: int = number, label: str = f"{work.tokens} {work.corruption}") -> None:
            progress(label.strip(), 0.1 + 0.9 * (number + share) / len(works))

        outcomes += work.outcomes(families, say)
    claim = _claim(config, outcomes[0], model)
    record = PatchRecord(
        schema_=PATCH_SCHEMA,
        config=config.model_dump(mode="json"),
        model=PatchedModel(name=model.name, fingerprint=model.fingerprint, anatomy=PatchedLayout.parse(model.layout.to_dict())),
        version=__version__,
        right=right,
        shortcut=all(work.short for work in works),
        pairs={work.tokens: _pairs_summary(work.pairs) for work in works},
        maps=tuple(one.record for one in outcomes),
        agreement=tuple(agreed := compare.agreement(outcomes)),
        windows=tuple(joint := compare.windows(outcomes, config.seed)),
        sentences=tuple(compare.sentences(outcomes, agreed, joint)),
        claim=claim,
        screens=tuple(_screens(works, outcomes, screened)),
        controls=works[0].controlled(claim, outcomes[0], lambda share: progress("controls", 0.99)),
        seconds=round(time.monotonic() - started, 1),
        effects_sha256=folder.write_effects(out, outcomes),
    )
    page.write(out, record)
    folder.finish(out, record)
    return record


def short_agrees(model: Model, pairs: Sequence[PatchPair]) -> bool:
    """Whether patched runs that start at the first differing token equal whole ones on this very model."""
    patches = [
        (Component("head", layer, 0),) for layer in {model.layout.headed[0], model.layout.headed[len(model.layout.headed) // 2]}
    ]
    values = [
        patch_maps(model, pairs[:4], patches, How(batching=Batching(4, None, 4096, short)))[0].patched for short in (True, False)
    ]
    return bool(np.abs(values[0] - values[1]).max() <= 1e-3 * max(1.0, float(np.abs(values[1]).max())))


def _families(config: PatchConfig, layout: Layout) -> Iterator[Family]:
    positions: Sequence[str | None] = [None if name == "all" else name for name in config.positions] or [None]
    for site in config.sites:
        patches = heads(layout, positions, site) if site in HEADED else outputs(layout, site, positions)
        yield Family(site, 1, patches)
    if config.windows and "mlp" not in config.sites:
        yield Family("mlp", 1, outputs(layout, "mlp", positions))
    for width in config.windows:
        if width > 1:
            centres = [window(layout, "mlp", centre, width, place) for place in positions for centre in range(layout.n_layers)]
            yield Family("mlp", width, list(dict.fromkeys(centres)))


@dataclass(frozen=True)
class CorruptionRun:
    """One choice of tokens and corruption: a model, pairs, and how they are patched."""

    model: Model
    config: PatchConfig
    out: Path
    tokens: str
    corruption: CorruptionName
    pairs: list[PatchPair]
    short: bool = True

    @property
    def how(self) -> How:
        """How its pairs are patched and read."""
        config = self.config
        metrics = tuple(METRICS[name] for name in config.metrics)
        batching = Batching(config.rows, None, config.budget, self.short)
        return How(config.direction, config.corruption(self.corruption), metrics, batching)

    def kept(self, name: str, patches: Sequence[Patch], say: Callable[[float], None]) -> Keep:
        """Where finished batches are left, so that a run that was stopped goes on; those that were made with another number of
        threads, on another device or by other versions have other last digits, and are made again.
        """
        config = self.config
        prompts = [[*pair.clean, *pair.corrupted, *pair.answer, *pair.other] for pair in self.pairs]
        settings = [config.direction, self.corruption, config.nu, config.draws, config.seed, config.steps, list(config.metrics)]
        key = [name, self.model.numerics, *settings, prompts, [str(patch) for patch in patches]]
        return Parts(self.out, key, say).keep(len(self.pairs))

    def guessed(self, family: Family, say: Callable[[float], None]) -> list[Array]:
        """What a screen estimates, a metric: mean effects [patches]."""
        keep = self.kept("screen", family.patches, say)
        maps = attribute(self.model, self.pairs, family.patches, self.how, self.config.steps, keep)
        return [one.effects(self.config.normalise).values.mean(axis=1) for one in maps]

    def outcomes(self, families: Sequence[Family], say: Callable[[float], None]) -> list[Outcome]:
        """The maps of all families and metrics, tested."""
        patches = [patch for family in families for patch in family.patches]
        maps = patch_maps(self.model, self.pairs, patches, self.how, self.kept("exact", patches, say))
        outcomes, start = [], 0
        for family in families:
            patches_of_family = slice(start, start + len(family.patches))
            start = patches_of_family.stop
            for patch_map in maps:
                setting = MapSetting(
                    tokens=self.tokens,
                    site=family.site,
                    width=family.width,
                    corruption=patch_map.corruption,
                    metric=patch_map.metric,
                )
                outcomes.append(outcome(self.config, setting, _slice_of_map(patch_map, patches_of_family)))
        return outcomes

    def controlled(self, claim: PatchClaim | None, first: Outcome, say: Callable[[float], None]) -> Controls | None:
        """The claim's heads together, beside random sets and all others, as the first map reads them; None without a claim."""
        config = self.config
        if claim is None or not config.controls:
            return None
        location = Location.parse(list(claim.heads))
        control_sets = controls.sets(location, self.model.layout, config.controls, config.seed)
        if control_sets is None:
            return Controls(sentence="The claim is all heads: there are no others to set beside them.")
        patches, match = control_sets
        how = replace(self.how, metrics=self.how.metrics[:1])
        (patch_map,) = patch_maps(self.model, self.pairs, patches, how, self.kept("controls", patches, say))
        effects = patch_map.effects(first.effects.normalise).values
        return controls.compared(effects, len(location), match, 1.0 - config.alpha)


def _slice_of_map(whole_map: PatchMap, indices: slice) -> PatchMap:
    """Some patches of a map."""
    fields = {**vars(whole_map), "patches": whole_map.patches[indices], "patched": whole_map.patched[indices]}
    return PatchMap(**fields)


def _screened(works: Sequence[CorruptionRun], family: Family, progress: Progress) -> tuple[Family, Chosen | None]:
    """The patches that a screen of every map lets through, the same for all; everything where nothing is gained."""
    config = works[0].config
    if config.windows and family.site == "mlp":
        return family, None  # windows are read against all of their single layers
    if not config.screen or family.width > 1 or len(family.patches) <= config.screen + config.sample:
        return family, None
    guessed = []
    for number, work in enumerate(works):

        def say(share: float, number: int = number) -> None:
            progress(f"screening {family.site}", 0.1 * (number + share) / len(works))

        guessed.append(work.guessed(family, say))
    budget = Budget(config.screen, config.sample, config.steps, config.least, config.seed)
    top, sample = choose_patches([means for one in guessed for means in one], budget)
    reduced = Family(family.site, 1, [family.patches[index] for index in (*top, *sample)])
    return reduced, ((top, sample), guessed)


def _screens(works: Sequence[CorruptionRun], outcomes: Sequence[Outcome], screened: dict[str, Chosen]) -> list[Screen]:
    """How far the screen of every map can be trusted."""
    rows = []
    for site, (picked, guessed) in screened.items():
        for (job, means), mapped in itertools.product(zip(works, guessed, strict=True), outcomes):
            setting = mapped.setting
            if (setting.site, setting.tokens, setting.corruption) != (site, job.tokens, job.how.corruption.name):
                continue
            at = [metric.name for metric in job.how.metrics].index(setting.metric)
            screen = judge_screen(picked, mapped.detection.mean, means[at], job.config.least)
            correlation = None if np.isnan(screen.correlation) else screen.correlation
            rows.append(Screen(**dict(setting), sentence=screen.sentence, bound=screen.bound, correlation=correlation))
    return rows


def _pairs_summary(pairs: Sequence[PatchPair], most: int = 3) -> PairsSummary:
    prompts = [[list(pair.clean), list(pair.corrupted)] for pair in pairs]
    return PairsSummary(n=len(pairs), sha256=content_hash(prompts), first=tuple(tuple(pair.text) for pair in pairs[:most]))


def _claim(config: PatchConfig, first: Outcome, model: Model) -> PatchClaim | None:
    """The heads that the first map finds, the strongest first; None where it is not of heads, or nothing is found."""
    if first.setting.site != "head" or not first.record.strongest:
        return None
    scores: dict[Site, float] = {}
    for component in first.record.strongest:  # a head found at several positions is one head
        scores.setdefault(Site("head", component.layer, component.head or 0), component.mean or 0.0)
    heads = list(scores)[: config.claim_size]
    return PatchClaim(
        name=f"patch:{config.task.rsplit('/', 1)[-1]}",
        origin="patch",
        heads=tuple(Location.of(heads).names),
        scores={str(site): mean for site, mean in scores.items()},
        about=ClaimSource(
            setting=first.setting,
            n=first.record.n,
            normalise=first.record.normalise,
            found=len(scores),
            kept=len(heads),
            alpha=config.alpha,
            control=config.control,
            least=config.least,
            model_fingerprint=model.fingerprint,
        ),
    )
