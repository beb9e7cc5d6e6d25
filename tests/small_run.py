"""A small run of a tiny model, and one with hostile text wherever a model, a dataset or a stranger could have put it."""

import json
import sqlite3
from pathlib import Path

SMALL = {
    "sequential": False,
    "claims": ("0.1,2.3",),
    "train": 8,
    "validation": 4,
    "test": 6,
    "epochs": 1,
    "random": 4,
    "alpha": 0.25,
    "singles": 2,
    "text_passages": 2,
    "text_tokens": 16,
    "iti_strengths": (5.0, 15.0),
    "shift_random": 1,
    "shift_everywhere": True,
}
BREAKOUT = "</title></style><script>alert(1)</script><img src=javascript:x onerror=alert(2)>"
NASTY = BREAKOUT + "\x1b[31m\u202egnp.\u2066\x00 $\\frac{ {{7*7}}"
LONG = "A" * 2_000_000


def let_speak(folder: Path, said: dict[str, list[str]], judged: dict[str, list[float]]) -> None:
    """Put generated texts and a judge's scores of them into a run, by role, one a test question.

    Args:
        folder: the run folder.
        said: by role, texts in the order of the plan's test questions.
        judged: by role, the judge's probability that a text is true; all are fully informative.
    """
    plan = json.loads((folder / "plan.json").read_text())
    items = [item["id"] for item in plan["items"]["test"]]
    plan["judge"] = plan["judge"] or {"name": "local", "fingerprint": "0" * 64, "confusion": {}, "seen": None}
    (folder / "plan.json").write_text(json.dumps(plan))
    verdict = json.loads((folder / "verdict.json").read_text()) | {"judge": plan["judge"]}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    with sqlite3.connect(folder / "trials.sqlite") as db:
        for trial in plan["trials"]:
            for item, text in zip(items, said.get(trial["role"], []), strict=False):
                db.execute("INSERT INTO texts VALUES (?, 'test', ?, ?)", (trial["id"], item, text))
            for item, truth in zip(items, judged.get(trial["role"], []), strict=False):
                scores = {"truth": truth, "info": 1.0, "true_info": truth}
                rows = [(trial["id"], "test", name, item, value, "") for name, value in scores.items()]
                db.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", rows)


def poison(folder: Path) -> None:
    """Put hostile text wherever a model, a dataset or another's run folder could have put it."""
    plan = json.loads((folder / "plan.json").read_text())
    plan["model"]["name"], plan["dataset"]["name"] = NASTY, LONG
    plan["claims"][0]["name"] = NASTY
    for trial in plan["trials"]:
        trial["claim"] = NASTY if trial["claim"] else ""
    plan["dataset"]["blind"][0]["name"] = NASTY
    (folder / "plan.json").write_text(json.dumps(plan))
    found = json.loads((folder / "verdict.json").read_text())
    found["model"]["name"], found["dataset"]["name"] = NASTY, LONG
    found["baseline"]["blind"][0]["name"] = NASTY
    claim = found["claims"][0]
    claim["name"], claim["sentence"] = NASTY, NASTY + LONG
    claim["works"]["sentence"], claim["special"]["to_decide"] = NASTY, '" onclick="alert(4)'
    for entry in found["claimed"]:
        entry["name"] = NASTY
    (folder / "verdict.json").write_text(json.dumps(found))
