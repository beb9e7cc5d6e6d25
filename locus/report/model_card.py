"""A block for a model card on the hub: the audit in words and in a table, and as a `model-index` that the hub's tools read.

Every text of a run is quoted as JSON, which is YAML too, and escaped as Markdown.

Source: https://huggingface.co/docs/hub/model-cards and https://github.com/huggingface/hub-docs/blob/main/modelcard.md: the
fields of model-index.
"""

import json
from pathlib import Path

from locus import atomic
from locus.boundary import outputs
from locus.conclude.rule import QUESTIONS
from locus.metrics.base import metric
from locus.plan import reading
from locus.records.base import JsonObject
from locus.records.place import PlaceResult
from locus.records.plan import PlanRecord
from locus.records.verdict import Verdict
from locus.report.receipt import sealed_in
from locus.report.results import verdict_of
from locus.shown import markdown, visible
from locus.units import amount

FILE = "model-card.md"
METHOD = "https://arxiv.org/abs/2502.11447"


def write(run: Path, to: Path) -> list[str]:
    """Write the block of a finished run.

    Returns:
        The name of the file written.

    Raises:
        UserError: if the run has no verdict yet, or the folder to write to is not empty.
    """
    plan, verdict, receipt = reading.read_plan(run), verdict_of(run), sealed_in(run)
    text = block(plan, verdict, receipt.id if receipt else "")
    outputs.empty_folder(to)
    atomic.replace(to / FILE, text)
    return [FILE]


def block(plan: PlanRecord, verdict: Verdict, receipt: str) -> str:
    """The block: YAML between rules, then Markdown."""
    index = [{"name": visible(plan.model.name, 80), "results": [_result(plan, verdict, receipt)]}]
    front = f"---\ntags: {json.dumps(['locus', 'localization-audit'])}\nmodel-index: {json.dumps(index)}\n---\n"
    heading = "claim | heads | " + " | ".join(QUESTIONS)
    rows = [f"| {heading} |", "| " + " | ".join(["---"] * (2 + len(QUESTIONS))) + " |"]
    for claim in verdict.claims:
        heads = ", ".join(claim.location[:12]) + (f" and {len(claim.location) - 12} more" if len(claim.location) > 12 else "")
        standings = [getattr(claim, name).standing for name in QUESTIONS]
        rows.append("| " + " | ".join(map(markdown, (claim.name, heads, *standings))) + " |")
    sentences = [f"- {markdown(claim.sentence)}" for claim in verdict.claims]
    place = f"on {markdown(plan.dataset.name)} by {metric(verdict.metric).label}"
    signed = f"Receipt `{receipt}`; `locus verify` checks it." if receipt else "It has no receipt."
    lines = ["## Localization audit", "", f"Edits of {markdown(plan.model.name)} {place}. {signed}", "", *rows, "", *sentences]
    return front + "\n" + "\n".join(lines) + "\n"


def _result(plan: PlanRecord, verdict: Verdict, receipt: str) -> JsonObject:
    """What the model-index says of the run."""
    places = [one for one in _places(verdict) if one[1].mean(verdict.metric) is not None]
    source = f"locus {visible(verdict.versions['locus'], 40)}, receipt {receipt or 'none'}"
    return {
        "task": {"type": "text-generation", "name": "Localization audit"},
        "dataset": {"type": _slug(plan.dataset.name), "name": visible(plan.dataset.name, 80), "split": "test"},
        "metrics": [_entry(label, place, verdict.metric) for label, place in places],
        "source": {"name": source, "url": METHOD},
    }


def _places(verdict: Verdict) -> list[tuple[str, PlaceResult]]:
    """No edit, the claims and the ceiling, under the names that a table gives them."""
    groups = (("no edit", verdict.baseline.base), ("edit at the claim", verdict.claimed), ("edit everywhere", verdict.ceiling))
    return [(label, place) for label, places in groups for place in places]


def _entry(label: str, place: PlaceResult, name: str) -> JsonObject:
    """One value of the main metric."""
    value = place.mean(name)
    assert value is not None, "places without a value are left out"
    read = f" ({place.read})" if place.read else ""
    said = f"{metric(name).label}, {label}{read}, {amount(value, name)}"
    return {"type": name, "name": visible(said, 120), "value": round(value, 6)}


def _slug(name: str) -> str:
    """A data set's name as an id on the hub would be written; of any other characters nothing is left."""
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "-_./") else "-" for one in name)[:80]
    return kept.strip("-./") or "questions"
