"""What a report is made of: plan, verdict, and the settings tried, read from a run folder that may still be growing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locus import stats
from locus.boundary import incoming
from locus.conclude import derive as conclude
from locus.conclude import rule as verdict
from locus.engine import cost
from locus.errors import UserError
from locus.metrics.base import metric
from locus.report.answers import side_by_side
from locus.report.receipt import sealed_in
from locus.shown import visible
from locus.units import amount

# Kinds of places in a verdict.
KINDS = ("claimed", "random", "complement", "ceiling", "single", "shift", "shift_random", "shift_everywhere")


@dataclass(frozen=True)
class Material:
    """One run as a report sees it.

    Attributes:
        folder: the run folder.
        plan: the parsed plan.json.
        found: the verdict, as in verdict.json; each place also names its claim and its gain over no edit.
        settings: every strength of ITI and every point of an edit's grid: arm, setting, and means by measure.
        answers: what was said to each question under several edits, most instructive first.
        receipt: the run's receipt as it is, or an empty one.
    """

    folder: Path
    plan: dict[str, Any]
    found: dict[str, Any]
    settings: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    receipt: dict[str, Any]


def read(folder: Path) -> Material:
    """Read a run folder; without a verdict, one is derived from the trials there are.

    Raises:
        UserError: if it is no run folder, or its files are not whole.
    """
    with conclude.recorded(folder) as record:
        plan = record.plan
        found = _verdict(folder, record)
        found.setdefault("shift_everywhere", [])  # only where it was asked for
        _check(found)
        add_gains(found, record)
        claims = {trial["id"]: trial["claim"] for trial in plan["trials"]}
        for kind in KINDS:
            for entry in found[kind]:
                entry["claim"] = next((claims[trial] for trial in entry["trials"]), "")
        said = side_by_side(record, found)
        return Material(folder, plan, found, settings(record), said, sealed_in(folder) or {})


def _verdict(folder: Path, record: conclude.Record) -> dict[str, Any]:
    path = folder / "verdict.json"
    if path.is_file():
        found: dict[str, Any] = incoming.read_json(path, "a run folder whose verdict.json is whole", inside=folder)
        if found["schema"] != conclude.VERDICT_SCHEMA:
            schema = str(found["schema"])[:80]
            raise UserError(
                f"a verdict of schema {conclude.VERDICT_SCHEMA}", f"{schema!r} in {str(path)!r}", "Use a newer locus."
            )
        if found["plan_sha256"] == record.plan["sha256"]:
            return found
    took = cost.summary(record.done, record.store.costs())
    seconds = {"trials": took["total"]["seconds"]}
    return {**conclude.derive(record), "versions": conclude.versions(), "seconds": seconds, "cost": took}


def _check(found: dict[str, Any]) -> None:
    """Look once at every part that a page is made of, since a verdict may have been edited or cut.

    Raises:
        KeyError, TypeError, AttributeError: if a part is missing, or of another kind.
    """
    entries = [entry for kind in KINDS for entry in found[kind]]
    entries += found["baseline"]["base"]
    for entry in entries:
        _ = entry["name"], entry["setting"], entry["read"], entry["location"], entry["trials"][0], entry["converged"]
    for claim in found["claims"]:
        _ = claim["name"], claim["read"], claim["sentence"], claim["n_sites"], list(claim["location"])
        for question in verdict.QUESTIONS:
            _ = claim[question]["standing"], claim[question]["sentence"]
    _ = found["n"]["test"], found["seeds"]["seed"], found["seconds"]["trials"], found["versions"]["locus"], found["unfinished"]
    _ = found["model"]["name"], found["dataset"]["name"], metric(found["metric"]).about, found["prompt"], found["rule_sha256"]


def add_gains(found: dict[str, Any], record: conclude.Record) -> None:
    """Give every place its mean difference from no edit in the main metric, paired by question, with a 95 % interval."""
    bases = [trial for entry in found["baseline"]["base"] for trial in entry["trials"]]
    if not bases:
        return
    metric = found["metric"]
    base = record.values(bases[0], metric)
    for kind in ("claimed", "complement", "ceiling", "shift", "shift_everywhere", "random", "single"):
        for entry in found[kind]:
            values = np.array([record.values(trial, metric) for trial in entry["trials"]])
            if np.isfinite(values).any():
                gain = stats.bootstrap_mean(values.mean(axis=0) - base, groups=record.groups, draws=2000)
                entry["gain"] = {"metric": metric, "mean": gain.value, "interval": [gain.low, gain.high], "n": gain.n}


def settings(record: conclude.Record) -> list[dict[str, Any]]:
    """Means over test questions of every setting of ITI and of the optimal edits at claims and ceiling, chosen or not."""
    found = []
    for role in ("shift", "shift-random", "shift-everywhere", "claim", "ceiling"):
        for arm in record.find(role):
            for setting in dict.fromkeys(conclude.setting(trial) for trial in arm.trials):
                ids = [trial["id"] for trial in arm.trials if conclude.setting(trial) == setting]
                row: dict[str, Any] = {"role": role, "name": arm.name, "read": arm.read, "setting": setting}
                row["strength"] = next(one["spec"]["alpha"] for one in arm.trials if one["id"] in ids)
                row["chosen"] = setting == arm.setting
                for one in record.config.measures:
                    values = np.array([record.values(trial, one.name, one.split) for trial in ids])
                    row[one.name] = float(np.nanmean(values)) if np.isfinite(values).any() else None
                found.append(row)
    return found


def heads(material: Material) -> list[list[dict[str, Any]]]:
    """The layer x head map: for each head its claims, random Locations, probe accuracy, and what it does alone.

    Returns:
        By layer, by head: name, score (fraction or None), shade (0 to 5, or None), claims, random, alone, title.
    """
    plan, found = material.plan, material.found
    layout, metric = plan["model"]["anatomy"], found["metric"]
    scores: dict[str, float] = {}
    for claim in plan["claims"]:
        scores |= claim["scores"] if claim["origin"] == "probe" else {}
    low, high = (min(scores.values()), max(scores.values())) if scores else (0.0, 1.0)
    claims: dict[str, list[str]] = {}
    for claim in plan["claims"]:
        for name in claim["heads"]:
            claims.setdefault(name, []).append(claim["name"])
    random: dict[str, list[str]] = {}
    for entry in found["random"]:
        for name in entry["location"] if isinstance(entry["location"], list) else []:
            random.setdefault(name, []).append(entry["name"].removeprefix("random-"))
    alone = {entry["location"][0]: entry[metric]["mean"] for entry in found["single"] if entry.get(metric) and entry["location"]}
    grid = []
    for layer in range(layout["n_layers"]):
        row = []
        for head in range(layout["n_heads"]):
            name = f"{layer}.{head}"
            score = scores.get(name)
            shade = None if score is None else int(5 * (score - low) / ((high - low) or 1.0) + 0.5)
            one = {"name": name, "score": score, "shade": shade, "claims": claims.get(name, [])}
            one |= {"random": list(dict.fromkeys(random.get(name, []))), "alone": alone.get(name)}
            row.append({**one, "title": _title(one, metric)})
        grid.append(row)
    return grid


def _title(head: dict[str, Any], metric: str) -> str:
    """A head in words."""
    parts = [f"head {head['name']}"]
    if head["score"] is not None:
        parts.append(f"probe accuracy {amount(head['score'], 'mc1')}")
    if head["claims"]:
        parts.append(f"claimed by {', '.join(visible(name, 24) for name in head['claims'])}")
    if head["random"]:
        parts.append(f"in {len(head['random'])} random Locations")
    if head["alone"] is not None:
        parts.append(f"edited alone: {metric} {amount(head['alone'], metric)}")
    return ", ".join(parts)
