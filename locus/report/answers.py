"""Answers side by side: what the model says unedited and under each edit, the most instructive questions first.

A question is instructive where the edits differ: by the judge's True*Info from the best answer to the worst, or, where nobody
judged, by how many different answers there are.
"""

from typing import Any

from locus.conclude.derive import Record
from locus.metrics.base import shipped

JUDGED = tuple(one.name for one in shipped() if one.needs_judge and one.decides)


def side_by_side(record: Record, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was said to every test question that was asked aloud.

    Args:
        record: the run's scores and texts.
        found: its verdict; places already name their claim.

    Returns:
        By question, most instructive first: `question`, and `rows` of `label`, `kind`, `text`, and the judge's `truth`, `info`
        and `true_info` (None where unscored). Empty where nothing was generated.
    """
    said = []
    for label, kind, entry in _chosen(found):
        trial = entry["trials"][0]
        texts = dict(record.store.db.execute("SELECT item, text FROM texts WHERE trial = ? AND split = 'test'", (trial,)))
        scores = {name: record.values(trial, name) for name in JUDGED}
        if texts:
            said.append((label, kind, texts, scores))
    asked = []
    for place, item in enumerate(record.plan["items"]["test"]):
        rows = [
            {"label": label, "kind": kind, "text": texts[item["id"]]} | {name: _known(scores[name][place]) for name in JUDGED}
            for label, kind, texts, scores in said
            if item["id"] in texts
        ]
        if rows:
            asked.append({"question": item.get("question", item["id"]), "rows": rows})
    return sorted(asked, key=lambda one: -_difference(one["rows"]))


def _chosen(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The edits that are set side by side: label, kind, entry; of random Locations the one in the middle."""
    claim = found["claims"][0]
    mine = {
        kind: [entry for entry in found[kind] if entry["claim"] == claim["name"] and entry["read"] in ("", claim["read"])]
        for kind in ("shift", "claimed", "random")
    }
    metric = found["metric"]
    places = sorted(
        (entry for entry in mine["random"] if entry.get(metric) and entry[metric]["mean"] is not None),
        key=lambda entry: entry[metric]["mean"],
    )
    chosen = [("no edit", "base", entry) for entry in found["baseline"]["base"][:1]]
    chosen += [(f"ITI, {entry['setting']}", "shift", entry) for entry in mine["shift"][:1]]
    chosen += [("the claim", "claim", entry) for entry in mine["claimed"][:1]]
    if places:
        chosen.append(("random Location", "random", places[len(places) // 2]))
    chosen += [("everywhere", "ceiling", entry) for entry in found["ceiling"][:1]]
    return chosen


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def _difference(rows: list[dict[str, Any]]) -> float:
    """How instructive a question is; see the module's docstring."""
    scores = [row["true_info"] for row in rows if row["true_info"] is not None]
    return max(scores) - min(scores) if scores else len({row["text"] for row in rows}) / 1000
