"""plan.json: what an audit will do and by which rule it will judge, written before the first result and never changed."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locus import atomic, conclude, verdict
from locus.config import SINCE_FIRST
from locus.datasets.blind import BlindScore
from locus.datasets.items import Dataset, content_hash
from locus.errors import UserError
from locus.judges.named import known_errors
from locus.run import Bench, Stage
from locus.store import Store
from locus.trials import Plan


def schema_of(out: Path) -> str:
    """The schema of the plan in a run folder; today's where there is none."""
    return str(conclude.read_plan(out)["schema"]) if (out / "plan.json").exists() else conclude.PLAN_SCHEMA


def document(bench: Bench, dataset: Dataset, baselines: list[BlindScore], schema: str = conclude.PLAN_SCHEMA) -> dict[str, Any]:
    """The plan's file but for the trials: configuration, what it is run on, and the rule.

    Only `context` enters the trials' ids: what can change a trial's numbers.

    Args:
        bench: model, questions and configuration.
        dataset: the questions.
        baselines: what rules that never read the question reach.
        schema: a run that the first edition began goes on under its plan, which lacks what came later.
    """
    stage, config, model = bench.stage, bench.config, bench.model
    items, text, sample = stage.items, stage.prompt, stage.sample
    context = {
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "data": dataset.sha256,
        "split": stage.split.sha256,
        "items": {name: content_hash([item.id for item in part]) for name, part in items.items()},
        "prompt": text.sha256,
        "text": [sample.sha256, config.text_tokens] if sample else None,
        "features": [config.features, config.seed],
        "tokens": config.tokens,
    }
    rule = verdict.rule(config)
    settings = config.model_dump(mode="json")
    if schema == conclude.FIRST_PLAN:
        settings = {name: value for name, value in settings.items() if name not in SINCE_FIRST}
    return {
        "schema": schema,
        "config": settings,
        "context": context,
        "rule": rule,
        "rule_sha256": content_hash(rule),
        "model": {
            "name": model.name,
            "quantised": model.quantised,
            "anatomy": vars(model.anatomy),
            "checks": list(stage.checked),
        },
        "dataset": {
            "name": dataset.name,
            "licence": dataset.licence,
            "n_items": len(dataset.items),
            "sha256": dataset.sha256,
            "blind": [one.to_dict() for one in baselines],
        },
        "prompt": vars(text),
        "judge": _judge(stage),
        "items": {
            name: [{"id": item.id, "group": item.group, "question": item.question} for item in part]
            for name, part in items.items()
        },
    }


def _judge(stage: Stage) -> dict[str, Any] | None:
    """Who judges, what is known of its errors, and how many of the questions it learned from; None where nobody does.

    All of it is in the plan, so that the corrected rates follow from plan and scores alone.
    """
    judge, config = stage.judge, stage.config
    if judge is None:
        return None
    errors = known_errors(judge, Path(config.judge_figures) if config.judge_figures else None)
    from locus.judges.local import LocalJudge  # slow to import, and most audits have no judge

    seen = judge.seen([item.question for item in stage.items["test"]]) if isinstance(judge, LocalJudge) else None
    return {
        "name": judge.name,
        "fingerprint": judge.fingerprint,
        "confusion": {target: asdict(one) for target, one in errors.items()},
        "seen": None if seen is None else sum(seen),
    }


def fix(plan: Plan, out: Path) -> None:
    """Write the plan, or see that the folder's plan is this one.

    Raises:
        UserError: naming what differs, if the folder holds another plan; or if the folder cannot be written.
    """
    path = out / "plan.json"
    content = json.dumps({**plan.document, "sha256": plan.sha256}, indent=1, sort_keys=True) + "\n"
    if path.exists():
        old, new = conclude.read_plan(out), json.loads(content)
        if old != new:  # all of it: whoever made the folder could have written any hash
            differ = [part for part in sorted({*old, *new}) if old.get(part) != new.get(part) and part != "sha256"]
            raise UserError(
                "the plan that this run folder was begun with",
                f"another one: {', '.join(differ)[:200] or 'its hash'} differ",
                "The model, the data or locus itself has changed since; give another --out.",
            )
        atomic.folder(out / "edits")
        return
    try:
        atomic.folder(out / "edits")
        atomic.replace(path, content)
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(out)!r} ({error})", "Give another --out.") from error


def note_time(plan: Plan, store: Store) -> None:
    """Note in the store, beside the plan's hash, when the plan was fixed; once, and only while there is no result."""
    if not store.done():
        store.note("plan_fixed", f"{plan.sha256} {datetime.now(UTC).isoformat(timespec='seconds')}")
