"""From the stored per-item scores to verdict.json; nothing here looks at a model, so a verdict can be re-derived by anyone.

Of the trials of one place, the grid's best (tau and learning rate) is chosen on validation questions, by the main metric's
mean over seeds, and reported on test questions, always.
"""

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locus import __version__, atomic, errors, stats
from locus.conclude import rule as verdict
from locus.conclude.tests import sided
from locus.engine import cost
from locus.judges.base import commonest
from locus.metrics.base import metric, tabled
from locus.plan.config import AuditConfig
from locus.plan.reading import FIRST_PLAN, read_plan
from locus.records.store import Store, reading
from locus.stats import truthful

Floats = npt.NDArray[np.float64]
Key = tuple[str, str, str, str]  # role, arm, claim, read
VERDICT_SCHEMA = "locus-verdict/1"
UNFINISHED = {question: {"standing": "undecided", "sentence": "Not all trials are finished."} for question in verdict.QUESTIONS}
PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class Arm:
    """One place with one edit: its trials by setting of the grid and seed, and the setting that was chosen."""

    role: str
    name: str
    claim: str
    read: str
    trials: tuple[dict[str, Any], ...]
    setting: str

    @property
    def chosen(self) -> list[str]:
        """Ids of the chosen setting's trials, by seed."""
        return [trial["id"] for trial in self.trials if setting(trial) == self.setting]


def setting(trial: dict[str, Any]) -> str:
    """A point of the grid in words: what a trial's hyper-parameters are, the seed aside."""
    spec = trial["spec"]
    if spec["alpha"] is not None:
        return f"alpha={spec['alpha']:g}"
    return f"tau={spec['recipe']['tau']:g},lr={spec['recipe']['lr']:.3g}" if spec["recipe"] else ""


class Record:
    """A run's scores, seen through its plan.

    Args:
        plan: the parsed plan.json.
        store: the run's database.
    """

    def __init__(self, plan: dict[str, Any], store: Store):
        self.plan, self.store = plan, store
        self.config = AuditConfig(**plan["config"])
        self.items = {name: [item["id"] for item in part] for name, part in plan["items"].items()}
        self.groups = [item["group"] for item in plan["items"]["test"]]
        self.passages = [f"passage-{number:03d}" for number in range(self.config.text_passages)]
        self.done = {trial["id"]: trial for trial in store.trials()}
        self.planned: dict[Key, int] = {}
        # Settings are chosen by the main metric; by MC2 where that is judged and nothing said to validation questions was.
        judged = metric(self.config.metric).needs_judge and not self.config.judge_validation
        self.selector = "mc2" if judged else self.config.metric
        self.judge: dict[str, Any] | None = plan.get("judge")
        known = self.judge["confusion"] if self.judge else {}
        self.errors = {target: stats.Confusion(**values) for target, values in known.items()}
        self.arms = self._arms()

    def _arms(self) -> list[Arm]:
        grouped: dict[Key, list[dict[str, Any]]] = {}
        for planned in self.plan["trials"]:
            key = (planned["role"], planned["arm"], planned["claim"], planned["read"])
            self.planned[key] = self.planned.get(key, 0) + 1
            if planned["id"] in self.done:
                grouped.setdefault(key, []).append(self.done[planned["id"]])
        return [Arm(*key, tuple(trials), self._choose(trials)) for key, trials in grouped.items()]

    def _choose(self, trials: Sequence[dict[str, Any]]) -> str:
        """The setting with the best validation mean of the selecting metric; the first of equals."""
        settings = list(dict.fromkeys(setting(trial) for trial in trials))
        if len(settings) == 1:
            return settings[0]
        means: list[float] = []
        for one in settings:
            values = [self.values(trial["id"], self.selector, "validation") for trial in trials if setting(trial) == one]
            means.append(float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf)
        return settings[int(np.argmax(means))]

    def values(self, trial: str, measure: str, split: str = "test") -> Floats:
        """Per-item values of a trial."""
        return self.store.scores(trial, split, measure, self.passages if split == "text" else self.items[split])

    def of(self, arm: Arm, measure: str, split: str = "test") -> Floats:
        """[seeds, items] of an arm's chosen setting."""
        return np.array([self.values(trial, measure, split) for trial in arm.chosen])

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

    def drawn(self, claim: str, read: str) -> list[Arm]:
        """A claim's random Locations in the order in which they were drawn, up to the first that is not whole."""
        found = {arm.name: arm for arm in self.find("random", claim, read) if self.whole(arm)}
        arms: list[Arm] = []
        for role, name, of, mode in self.planned:
            if (role, of, mode) == ("random", claim, read):
                if name not in found:
                    break
                arms.append(found[name])
        return arms


def summary(record: Record, arm: Arm) -> dict[str, Any]:
    """Means of every measure with their intervals over test questions (or passages), and how training went."""
    found: dict[str, Any] = {
        "name": arm.name,
        "setting": arm.setting,
        "read": arm.read,
        "location": arm.trials[0]["spec"]["location"],
    }
    for one in record.config.measures:
        measure, split = one.name, one.split
        values = record.of(arm, measure, split)
        if values.size and np.isfinite(values).any():
            mean = stats.bootstrap_mean(values.mean(axis=0), groups=record.groups if split == "test" else None, draws=2000)
            found[measure] = {"mean": _plain(mean.value), "interval": [_plain(mean.low), _plain(mean.high)], "n": mean.n}
    if "truth" in found:
        found["judged"] = truthful.rates(record.of(arm, "truth"), record.of(arm, "info"), record.groups, record.errors)
        said = [text for trial in arm.chosen for text in record.store.texts(trial, "test").values()]
        found["judged"]["silent"] = sum(not text.strip() for text in said)
    chosen = [trial for trial in arm.trials if trial["id"] in arm.chosen]
    found["trials"] = [trial["id"] for trial in chosen]
    found["converged"] = [None if trial["converged"] is None else bool(trial["converged"]) for trial in chosen]
    found["reasons"] = sorted({trial["reason"] for trial in chosen if trial["reason"]})
    if len(found["location"]) > 64:
        found["location"] = f"{len(found['location'])} heads"
    return found


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def scores_of(record: Record, claim: dict[str, Any], read: str, metric: str) -> verdict.Scores | None:
    """A claim's scores in one read mode and metric; None while a trial they need is missing."""
    name = claim["name"]
    mine, rest = record.find("claim", name, read), record.find("complement", name, read)
    ceiling, base = ceiling_of(record), record.find("base")
    randoms = record.drawn(name, read)
    if not (mine and rest and ceiling and base and len(randoms) >= record.config.looks[0]):
        return None
    if not all(map(record.whole, [*mine, *rest, *record.find("ceiling")])):
        return None
    parts = {"claim": mine, "ceiling": [ceiling], "complement": rest, "random": randoms}
    blind = max(one["mc1"] for one in record.plan["dataset"]["blind"]) if metric == "mc1" else None
    return verdict.Scores(
        base=record.of(base[0], metric)[0],
        claim=record.of(mine[0], metric),
        ceiling=record.of(ceiling, metric),
        complement=record.of(rest[0], metric),
        random=np.array([record.of(arm, metric) for arm in randoms]),
        groups=record.groups,
        unsettled={part: _unsettled(arms) for part, arms in parts.items()},
        blind=blind,
    )


def ceiling_of(record: Record) -> Arm | None:
    """The ceiling: of several forms of full alignment the one that does best on validation questions."""
    found = record.find("ceiling")
    return max(found, key=lambda arm: _on_validation(record, arm)) if len(found) > 1 else found[0] if found else None


def _unsettled(arms: Sequence[Arm]) -> float:
    """Share of the chosen trainings that had not settled."""
    trained = [trial["converged"] for arm in arms for trial in arm.trials if trial["id"] in arm.chosen]
    return float(np.mean([one is not None and not one for one in trained])) if trained else 0.0


def findings(record: Record, read: str, metric: str, look: int | None = None) -> verdict.Verdicts | None:
    """The findings of all claims in one read mode and metric; None while not all trials they need are finished."""
    found = [scores_of(record, claim, read, metric) for claim in record.plan["claims"]]
    scores = [one for one in found if one is not None]
    if len(scores) < len(found):
        return None
    return verdict.conclude(scores, record.config.model_copy(update={"metric": metric}), look)


def settled(record: Record) -> bool:
    """Whether more random Locations could change nothing of the main metric's verdict, in any read mode."""
    return _all_settled(record, [findings(record, read, record.config.metric) for read in record.config.reads])


def _all_settled(record: Record, found: Sequence[verdict.Verdicts | None]) -> bool:
    return record.config.sequential and all(one is not None and one.settled for one in found)


def enough(out: Path, store: Store) -> bool:
    """Whether a running audit's verdict is settled; asked before more random Locations are drawn."""
    return settled(Record(read_plan(out), store))


def _on_validation(record: Record, arm: Arm) -> float:
    """Mean of the selecting metric on validation questions; -inf where nothing was scored."""
    values = record.of(arm, record.selector, "validation")
    return float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf


def singles(record: Record) -> list[dict[str, Any]]:
    """Single heads, each with the p that its edit is not inferior to the ceiling's, as it is and for all of them (BH)."""
    arms, metric = record.find("single"), record.config.metric
    best, base = ceiling_of(record), record.find("base")
    found = [summary(record, arm) for arm in arms]
    if not (arms and best and base):
        return found
    ceiling, plain = record.of(best, metric).mean(axis=0), record.of(base[0], metric)[0]
    ps = []
    for arm in arms:
        contrast = record.of(arm, metric).mean(axis=0) - ceiling + record.config.tolerance * (ceiling - plain)
        ps.append(sided(contrast, record.config, record.groups)[0])
    for entry, p, adjusted in zip(found, ps, stats.benjamini_hochberg(ps), strict=True):
        entry |= {"p_works": _plain(p), "p_works_bh": _plain(float(adjusted))}
    return found


def gain(record: Record) -> dict[str, Any] | None:
    """What the ceiling gains in the main metric, of which every margin is a share; None before it and the base model are done."""
    best, base = ceiling_of(record), record.find("base")
    if best is None or not base or not record.whole(best):
        return None
    metric, config = record.config.metric, record.config
    edited, plain = record.of(best, metric).mean(axis=0), record.of(base[0], metric)[0]
    level = 1 - 2 * config.alpha
    one = stats.paired_bootstrap(edited, plain, level=level, groups=record.groups, seed=config.seed, draws=2000)
    ends = {"estimate": _plain(one.value), "interval": [_plain(one.low), _plain(one.high)]}
    return {**ends, "level": level, "n": one.n, "margin_share": config.tolerance}


def variance(record: Record, claim: str, read: str) -> dict[str, Any] | None:
    """Where the variance of the main metric at a claim's random Locations comes from; None with fewer than two."""
    whole = record.drawn(claim, read)
    if len(whole) < 2:
        return None
    return stats.variance_components(np.array([record.of(arm, record.config.metric) for arm in whole]), record.groups).to_dict()


def derive(record: Record) -> dict[str, Any]:
    """The whole verdict but for timing and versions: a function of plan and scores alone."""
    claims: list[dict[str, Any]] = []
    mains = []
    for read in record.config.reads:
        main = findings(record, read, record.config.metric)
        look = main.look if main is not None else None
        mains.append(main)
        others = {name: findings(record, read, name, look) for name in beside(record) if look is not None}
        for index, claim in enumerate(record.plan["claims"]):
            entry = {"name": claim["name"], "origin": claim["origin"], "location": claim["heads"], "n_sites": len(claim["heads"])}
            mine = main.findings[index] if main is not None else UNFINISHED
            entry["variance"] = variance(record, claim["name"], read)
            by_metric = {name: one.findings[index] for name, one in others.items() if one is not None}
            claims.append({**entry, "read": read, **mine, "sentence": verdict.overall(mine), "by_metric": by_metric})
    seen = [one.look for one in mains if one is not None]
    everywhere = record.find("shift-everywhere")
    early = _all_settled(record, mains) and max(seen) < record.config.random
    return {
        "schema": VERDICT_SCHEMA,
        "model": record.plan["model"],
        "dataset": record.plan["dataset"],
        "prompt": record.plan["prompt"]["name"],
        "metric": record.config.metric,
        "selected_by": record.selector,
        "judge": record.judge,
        "rule_sha256": record.plan["rule_sha256"],
        "plan_sha256": record.plan["sha256"],
        "claims": claims,
        "baseline": {"base": [summary(record, arm) for arm in record.find("base")], "blind": record.plan["dataset"]["blind"]},
        "ceiling": [summary(record, arm) for arm in record.find("ceiling")],
        "complement": [summary(record, arm) for arm in record.find("complement")],
        "claimed": [summary(record, arm) for arm in record.find("claim")],
        "random": [summary(record, arm) for arm in record.find("random")],
        "single": singles(record),
        "gain": gain(record),
        **({"unscored": missing} if (missing := unscored(record)) else {}),
        "shift": [summary(record, arm) for arm in record.find("shift")],
        "shift_random": [summary(record, arm) for arm in record.find("shift-random")],
        **({"shift_everywhere": [summary(record, arm) for arm in everywhere]} if everywhere else {}),
        "n": {name: len(part) for name, part in record.items.items()},
        "asked": {name: getattr(record.config, name) for name in record.items},
        "seeds": {"seed": record.config.seed, "per_location": record.config.seeds},
        **({"arithmetic": record.plan["arithmetic"]} if "arithmetic" in record.plan else {}),
        "drawn": {"random": max(seen, default=None), "planned": record.config.random, "stopped_early": early},
        "unfinished": 0 if early else len(record.plan["trials"]) - len(record.done),
    }


def beside(record: Record) -> list[str]:
    """The main metric, and those whose findings stand beside it."""
    known = [
        one for one in tabled(record.config.measures) if one.beside and one.decides and (record.judge or not one.needs_judge)
    ]
    return list(dict.fromkeys([record.config.metric, *(one.name for one in known)]))


def unscored(record: Record) -> dict[str, Any] | None:
    """How many answers the judge did not score, of how many, in the worst part of the run, and why; None where it scored all.

    Answers of a training that diverged are no fault of the judge's. Verdicts on plans of the first edition do not say it.
    """
    if record.judge is None or record.plan["schema"] == FIRST_PLAN:
        return None
    given: dict[str, int] = {}
    reasons: dict[str, list[str]] = {}
    for arm in record.arms:
        for trial in arm.chosen:
            given[arm.role] = given.get(arm.role, 0) + len(record.items["test"])
            missing = record.store.unscored(trial, "test", "true_info").values()
            reasons.setdefault(arm.role, []).extend(why for why in missing if why != record.done[trial]["reason"])
    every = list(chain.from_iterable(reasons.values()))
    if not every:
        return None
    worst = max(len(reasons[role]) / given[role] for role in given)
    return {"answers": sum(given.values()), "unscored": len(every), "worst": worst, "commonest": commonest(every)}


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    found = {"locus": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@contextmanager
def recorded(out: Path) -> Iterator[Record]:
    """The record of a run folder, finished or not, which a stranger may have written; to read from.

    Raises:
        UserError: if it is no run folder, or its files are not whole.
    """
    with reading(out / "trials.sqlite") as store, errors.whole("a run folder whose files are whole", out):
        yield Record(read_plan(out), store)


def write(out: Path, store: Store, seconds: float) -> dict[str, Any]:
    """Derive the verdict of a run folder and write it whole."""
    record = Record(read_plan(out), store)
    found = derive(record)
    took = cost.summary(record.done, store.costs())
    found |= {"versions": versions(), "seconds": {"trials": took["total"]["seconds"], "this_call": seconds}, "cost": took}
    atomic.replace(out / "verdict.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found
