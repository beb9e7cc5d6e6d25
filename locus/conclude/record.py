"""A run's scores, seen through its plan: which trials make an arm, and which setting of the grid was chosen for it.

Of the trials of one place, the grid's best (tau and learning rate) is chosen on validation questions, by the main metric's
mean over seeds, and reported on test questions, always.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from locus import stats
from locus.metrics.base import metric
from locus.models.layout import Layout
from locus.plan.config import AuditConfig
from locus.plan.population import bounded
from locus.records.judge import ConfusionRecord
from locus.records.labels import LabelsRecord
from locus.records.plan import PlanRecord, asked_of, roles_of
from locus.records.result import TrialResult
from locus.records.store import Store
from locus.sites.site import Location
from locus.sites.space import SiteSpace, space_of

Floats = npt.NDArray[np.float64]
Key = tuple[str, str, str, str]  # role, arm, claim, read


@dataclass(frozen=True)
class Arm:
    """One place with one edit: its trials by setting of the grid and seed, and the setting that was chosen."""

    role: str
    name: str
    claim: str
    read: str
    trials: tuple[TrialResult, ...]
    setting: str

    @cached_property
    def chosen(self) -> list[str]:
        """Ids of the chosen setting's trials, by seed."""
        return [trial.id for trial in self.trials if trial.setting == self.setting]

    @cached_property
    def ends(self) -> list[TrialResult]:
        """The chosen setting's trials, by seed; of searches that were looked at on the way, their ends."""
        chosen = {trial.id: trial for trial in self.trials if trial.setting == self.setting}
        targets = {trial.spec.recipe.tau for trial in chosen.values() if trial.spec.recipe and trial.spec.recipe.rounds}
        searches = [one for one in self.trials if one.spec.recipe and one.spec.recipe.tau in targets]
        most = max((one.spec.recipe.rounds for one in searches if one.spec.recipe), default=0)
        return [one for one in searches if one.spec.recipe and one.spec.recipe.rounds == most] or list(chosen.values())

    @cached_property
    def stopped(self) -> int | None:
        """Rounds after which validation questions say that its search is best, where that is before its end."""
        before_ends = set(self.chosen) - {trial.id for trial in self.ends}
        early = [trial.spec.recipe for trial in self.trials if trial.id in before_ends]
        return early[0].rounds if early and early[0] else None


def _confusion(known: ConfusionRecord) -> stats.Confusion:
    """A judge's errors, as a plan has them."""
    values = known.to_json()
    return stats.Confusion(**{name: values[name] for name in ("sensitivity", "specificity", "positives", "negatives")})


def asked_in(plan: PlanRecord) -> tuple[SiteSpace, AuditConfig]:
    """The places of the claims' kind in a plan's model, and its settings with no more random Locations than there are."""
    places = [Location.parse(claim.location) for claim in plan.claims]
    space = space_of(places, Layout.from_dict(plan.model.anatomy.to_json()))
    return space, bounded(AuditConfig.recorded(plan.config), space, places)


class Record:
    """A run's scores, seen through its plan.

    Args:
        plan: the run's plan.
        store: the run's database.
        rounds: looks at every search after so many; by default where validation questions say that it is best.
        asked: the split that stands for the test questions: these, the same put in another prompt format, or those of another
            behaviour.
        labels: what people say of its answers, if any did.
        rank: of the edits that are looked at, among those that are trained.

    Attributes:
        config: the settings, with no more random Locations than there are places.
        space: the places of the claims' kind in the model.
        exhausted: whether all places there are stand for the random ones, of which more were asked for.
        withheld: whether by the plan's rule the answers are withheld.
    """

    def __init__(
        self,
        plan: PlanRecord,
        store: Store,
        rounds: int | None = None,
        asked: str = "test",
        labels: LabelsRecord | None = None,
        rank: int = 1,
    ):
        self.plan, self.store, self.labels = plan, store, labels
        self.space, self.config = asked_in(plan)
        self.exhausted = self.config.random < AuditConfig.recorded(plan.config).random
        self.withheld = "withheld" in plan.rule
        self.rounds, self.asked, self.rank = rounds, asked, rank
        tested = {asked_of(one.name): one.items for one in plan.also}.get(asked, plan.items.test)
        by_part = {**plan.items.by_part, "test": tested}
        self.items = {name: [item.id for item in part] for name, part in by_part.items()}
        self.groups = [item.group for item in tested]
        self.passages = [f"passage-{number:03d}" for number in range(self.config.text_passages)]
        self.done = {trial.id: trial for trial in store.trials(plan.trials)}
        self.planned: dict[Key, int] = {}
        # Settings are chosen by the main metric; by MC2 where that is judged and nothing said to validation questions was.
        judged = metric(self.config.metric).needs_judge and not self.config.judge_validation
        self.selector = "mc2" if judged else self.config.metric
        known = plan.judge.confusion if plan.judge else {}
        self.errors = {target: _confusion(values) for target, values in known.items()}
        self.notions = plan.judge.notions if plan.judge else ()
        self.arms = self._arms()

    @property
    def second(self) -> str:
        """The role of random Locations that a claim must beat besides the others; "" where there is one way to draw them."""
        return roles_of(self.config.nulls)[1] if self.space.kind.nulls else ""

    def _arms(self) -> list[Arm]:
        grouped: dict[Key, list[TrialResult]] = {}
        for planned in self.plan.trials:
            if planned.recipe is not None and planned.rank != self.rank:
                continue
            if self.rounds and planned.recipe is not None and planned.recipe.rounds != self.rounds:
                continue
            key = (planned.role, planned.arm, planned.claim, planned.read)
            self.planned[key] = self.planned.get(key, 0) + 1
            if planned.id in self.done:
                grouped.setdefault(key, []).append(self.done[planned.id])
        return [Arm(*key, tuple(trials), self._choose(trials)) for key, trials in grouped.items()]

    def _choose(self, trials: Sequence[TrialResult]) -> str:
        """The setting with the best validation mean of the selecting metric; the first of equals."""
        by_setting: dict[str, list[int]] = {}
        for number, trial in enumerate(trials):
            by_setting.setdefault(trial.setting, []).append(number)
        if len(by_setting) == 1:
            return trials[0].setting
        table = self._table([trial.id for trial in trials], self.selector, "validation")
        means: list[float] = []
        for seeds in by_setting.values():
            values = table[seeds]
            means.append(float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf)
        return list(by_setting)[int(np.argmax(means))]

    def values(self, trial: str, measure: str, split: str = "test") -> Floats:
        """Per-item values of a trial."""
        own: Floats = self._table([trial], measure, split)[0]
        return own

    def _table(self, trials: Sequence[str], measure: str, split: str) -> Floats:
        items = self.passages if split == "text" else self.items[split]
        return self.store.table(trials, self.asked if split == "test" else split, measure, items)

    def of(self, arm: Arm, measure: str, split: str = "test") -> Floats:
        """[seeds, items] of an arm's chosen setting."""
        return self._table(arm.chosen, measure, split)

    def find(self, role: str, claim: str | None = None, read: str | None = None) -> list[Arm]:
        """Arms by role, claim and read mode."""
        return [
            arm
            for arm in self.arms
            if arm.role == role and (claim is None or arm.claim == claim) and (read is None or arm.read == read)
        ]

    def whole(self, arm: Arm) -> bool:
        """Whether every planned trial of an arm is done."""
        return len(arm.trials) == self.planned[arm.role, arm.name, arm.claim, arm.read]

    def drawn(self, claim: str, read: str, role: str = "random") -> list[Arm]:
        """A claim's random Locations in the order in which they were drawn, up to the first that is not whole.

        Args:
            claim: by its name.
            read: what the edits read.
            role: random, or random-layer: those of the claim's layers, where they stand beside the others.
        """
        whole = {arm.name: arm for arm in self.find(role, claim, read) if self.whole(arm)}
        arms: list[Arm] = []
        for planned, name, of, mode in self.planned:
            if (planned, of, mode) == (role, claim, read):
                if name not in whole:
                    break
                arms.append(whole[name])
        return arms


def every_arm(record: Record) -> list[Arm]:
    """The arms of every rank of edits, those of rank 1 first, and of what is not trained."""
    higher = [Record(record.plan, record.store, rank=rank).arms for rank in record.config.ranks]
    return [*record.arms, *(arm for arms in higher for arm in arms if arm.trials[0].spec.rank > 1)]
