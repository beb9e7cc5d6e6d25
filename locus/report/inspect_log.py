"""A run's test questions as logs of Inspect, one an edit, which its viewer and its reader open: `.eval` files.

A sample is a question, with every metric of it as a score and, where the model spoke, what it said. A question that was not
scored has no score, and its metadata say why. The answers are not in a run's plan, so a sample has no target.

Source: Inspect of the UK AI Security Institute, https://inspect.aisi.org.uk/eval-logs.html: a zip of JSON, with `header.json`,
`summaries.json`, `samples/ID_epoch_1.json` and `_journal/start.json`; schema version 2.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

from locus import atomic
from locus.boundary import outputs
from locus.conclude.record import Arm, Record, every_arm
from locus.errors import UserError
from locus.metrics.base import metric
from locus.plan import reading
from locus.records.plan import PlanRecord
from locus.report.derived import copied_store
from locus.report.export import find_trial
from locus.report.receipt import sealed_in
from locus.shown import visible

Json = dict[str, Any]
SCHEMA = 2
ROLES = ("base", "claim", "ceiling", "shift")  # written where no trial is named
EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same run gives the same bytes


def write(run: Path, to: Path, trial: str | None = None) -> list[str]:
    """Write the logs of a run: of one trial, or of no edit, every claim, the ceiling and the shift.

    Args:
        run: the run folder.
        to: a new or empty folder.
        trial: its id or its name, as of an export.

    Returns:
        Names of the files written.

    Raises:
        UserError: if there is no run, no such trial, or the folder to write to is not empty.
    """
    plan = reading.read_plan(run)
    chosen = find_trial(run, trial) if trial is not None else None
    receipt = sealed_in(run)
    with copied_store(run) as store:
        record = Record(plan, store)
        arms = [(arm, arm.chosen[0]) for arm in record.arms if arm.role in ROLES]
        if chosen is not None:
            arms = [(arm, chosen) for arm in every_arm(record) if any(one.id == chosen for one in arm.trials)]
        if not arms:
            raise UserError("a run with a finished trial", str(run), "Run the audit on.")
        created = (receipt.body.written if receipt else store.meta("plan_fixed")) or "1970-01-01T00:00:00+00:00"
        about = {"created": created, "receipt": receipt.id if receipt else ""}
        logs = [(arm.role, log(record, arm, one, about)) for arm, one in arms]
    outputs.empty_folder(to)
    names: list[str] = []
    for role, content in logs:
        names.append(f"{role}-{sum(name.startswith(role) for name in names)}.eval")
        atomic.replace(to / names[-1], content)
    return names


def log(record: Record, arm: Arm, trial: str, about: Json) -> bytes:
    """One log as the bytes of its zip."""
    samples = _samples(record, trial)
    spec = _spec(record.plan, arm, trial, about, len(samples))
    start = {"version": SCHEMA, "eval": spec, "plan": {"name": "plan", "steps": [], "config": {}}}
    stats = {"started_at": about["created"], "completed_at": about["created"], "model_usage": {}}
    header = {**start, "status": "success", "results": _results(samples), "stats": stats}
    summaries = [{name: one[name] for name in ("id", "epoch", "input", "target", "scores", "metadata")} for one in samples]
    files: dict[str, Any] = {"_journal/start.json": start}
    files |= {f"samples/{one['id']}_epoch_1.json": one for one in samples}
    files |= {"summaries.json": [{**one, "completed": True} for one in summaries], "header.json": header}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text.encode("utf-8", "backslashreplace"))
    return buffer.getvalue()


def _spec(plan: PlanRecord, arm: Arm, trial: str, about: Json, count: int) -> Json:
    """What was evaluated, on what."""
    spec = next(one for one in arm.trials if one.id == trial).spec
    edit: Json = {"role": arm.role, "arm": visible(arm.name), "claim": visible(arm.claim), "read": visible(arm.read)}
    edit |= {"location": [visible(site) for site in spec.location][:1000], "trial": trial}
    short = plan.sha256[:22]
    return {
        "eval_id": f"{short}{trial[:8]}",
        "run_id": short,
        "task_id": short,
        "created": about["created"],
        "task": f"locus/{arm.role}",
        "task_args": edit,
        "dataset": {
            "name": visible(plan.dataset.name),
            "samples": count,
            "sample_ids": list(range(1, count + 1)),
            "shuffled": False,
        },
        "model": visible(plan.model.name),
        "config": {},
        "metadata": {"plan_sha256": plan.sha256, "receipt": about["receipt"], "model_sha256": str(plan.context["model"])},
    }


def _samples(record: Record, trial: str) -> list[Json]:
    """Every test question, numbered from one; its own id stands among its metadata."""
    measures = [name for name in record.store.measures("test") if name not in ("kl", "ce")]
    values = {name: record.values(trial, name) for name in measures}
    reasons = {name: record.store.unscored(trial, "test", name) for name in measures}
    texts = record.store.texts(trial, "test")
    model = visible(record.plan.model.name)
    samples = []
    for number, item in enumerate(record.plan.items.test):
        scores: Json = {}
        for name in measures:
            if math.isfinite(value := float(values[name][number])):
                scores[name] = {"value": value, "answer": texts.get(item.id)}
        metadata: Json = {"id": item.id, "group": item.group}
        if lacking := {name: said[item.id] for name, said in reasons.items() if item.id in said}:
            metadata["unscored"] = {**lacking}
        samples.append(_sample(number + 1, item.question, texts.get(item.id), model, scores, metadata))
    return samples


def _sample(number: int, question: str, said: str | None, model: str, scores: Json, metadata: Json) -> Json:
    asked: Json = {"role": "user", "content": question}
    answer: Json = {"role": "assistant", "content": said or "", "model": model}
    choices = [{"message": answer, "stop_reason": "stop"}] if said is not None else []
    return {
        "id": number,
        "epoch": 1,
        "input": question,
        "target": "",
        "messages": [asked, answer] if choices else [asked],
        "output": {
            "model": model,
            "choices": choices,
            "completion": said or "",
        },
        "scores": scores,
        "metadata": metadata,
    }


def _results(samples: list[Json]) -> Json:
    """The mean of every metric over the questions that have it."""
    scored: dict[str, list[float]] = {}
    for one in samples:
        for name, score in one["scores"].items():
            scored.setdefault(name, []).append(score["value"])
    results: list[Any] = []
    for name, values in scored.items():
        mean = {"name": "mean", "value": sum(values) / len(values)}
        counts = {"scored_samples": len(values), "unscored_samples": len(samples) - len(values)}
        unit = {"unit": metric(name).unit, "about": metric(name).about}
        results.append({"name": name, "scorer": "locus", **counts, "metrics": {"mean": mean}, "metadata": unit})
    return {"total_samples": len(samples), "completed_samples": len(samples), "scores": results}
