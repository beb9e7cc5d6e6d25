"""report.html: one self-contained page without scripts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from locus import atomic, errors, registry, units
from locus.conclude import diagnosis
from locus.conclude import rule as verdict
from locus.engine import cost
from locus.metrics.base import Metric
from locus.plan.config import AuditConfig
from locus.report import chart, cite, html, receipt, words
from locus.report.material import Material, heads, read
from locus.shown import visible

STANDINGS = {"supported": "●", "refuted": "✕", "undecided": "?", "invalid": "–"}
ASKED = {
    "works": "Is the optimal edit at the claim as good as the optimal edit everywhere?",
    "special": "Is it better than the optimal edits at random Locations of the same size?",
    "unique": "Do only few random Locations do as well?",
    "necessary": "Does the optimal edit everywhere but there fall short?",
}
TESTS = {
    "works": "paired non-inferiority over questions",
    "special": "rank among random Locations",
    "unique": "share of Locations, exact (Clopper–Pearson)",
    "necessary": "paired difference over questions",
}
# What a stranger can check with a shell alone: the receipt's hash, its id from the hash, every file by its hash in the receipt.
RECIPE = (
    r"""sed -n 's/^"body":\(.*\),$/\1/p' receipt.json | tr -d '\n' | sha256sum""",
    r"""sed -n 's/^"sha256":"\(.*\)",$/\1/p' receipt.json | tr a-f A-F | basenc -d --base16 -i | base32 | cut -c1-26""",
    r"""grep -oE '"[^":]+\.[a-z0-9]+":"[0-9a-f]{64}"' receipt.json | sed -E 's/"(.+)":"(.+)"/\2  \1/' | sha256sum -c""",
)
OPEN = 6  # questions whose answers are shown unfolded


def write(folder: Path, others: list[Path] | None = None, figures: bool = True, sign: bool = True) -> Path:
    """Write a run's report.html, figures and citations, and list them in its receipt if it has one.

    Args:
        folder: the run folder, finished or not.
        others: run folders to set beside it.
        figures: whether figures are drawn; where there are figures already, they are always drawn anew.
        sign: whether the user's key signs what is listed.

    Returns:
        The path of the page.

    Raises:
        UserError: if a folder is no run, or nothing can be written there.
    """
    with errors.whole("a run folder whose files are whole", folder):
        return _write(folder, [read(other) for other in others or []], figures, sign)


def _write(folder: Path, others: list[Material], figures: bool, sign: bool) -> Path:
    material = read(folder)
    drawn: list[str] = []
    if figures or (folder / "figures").is_dir():
        from locus.report.figures import write as write_figures  # matplotlib is slow to come

        drawn = write_figures(material, folder / "figures")
        atomic.sweep(folder / "figures")
    cited = cite.works(material.plan, material.found["versions"]["locus"], material.receipt.get("id", ""))
    for ending, text in cite.forms(cited).items():
        atomic.replace(folder / f"cite.{ending}", text)
    page = render(material, others, cited, drawn)
    atomic.replace(folder / "report.html", page)
    atomic.sweep(folder)
    receipt.seal_views(folder, sign)
    return folder / "report.html"


def render(material: Material, others: list[Material], cited: list[cite.Work], drawn: list[str]) -> str:
    """The page's HTML.

    Args:
        material: the run.
        others: runs set beside it.
        cited: what the run used, and the run itself.
        drawn: names of the figures that were written.
    """
    environment = html.environment()
    environment.filters |= {"amount": units.amount, "bare": units.bare, "difference": units.difference}
    plan, found = material.plan, material.found
    config, rows = AuditConfig(**plan["config"]), table(found)
    columns, effect_columns, judged_columns = _columns(config.measures)
    return html.render(
        environment,
        "page.html.j2",
        plan=plan,
        config=config,
        found=found,
        claims=[_claim(material, claim) for claim in found["claims"]],
        rows=rows,
        settings=[row for row in material.settings if row["role"] == "shift"],
        columns=_measured(columns, rows),
        effect_columns=_measured(effect_columns, rows),
        judged_columns=_measured(judged_columns, rows) if found.get("judge") else [],
        headings=words.headings(config.measures),
        measures={one.name: one.about for one in config.measures},
        limits=words.limits(plan, found),
        places=words.places(found),
        effects=effects(found),
        gained=diagnosis.gained(found["gain"], found["metric"]) if found.get("gain") else "",
        grid=heads(material),
        scored=any(claim["scores"] for claim in plan["claims"] if claim["origin"] == "probe"),
        answers=material.answers,
        open=OPEN,
        judged=any(row["truth"] is not None for one in material.answers for row in one["rows"]),
        compared=[row for one in (material, *others) for row in beside(one)] if others else [],
        took=cost.told(found),
        cited=cited,
        forms=cite.forms(cited),
        receipt=material.receipt,
        recipe=RECIPE,
        drawn=drawn,
        asked=ASKED,
        tests=TESTS,
        marks=STANDINGS,
        questions=verdict.QUESTIONS,
    )


def _claim(material: Material, claim: dict[str, Any]) -> dict[str, Any]:
    """A claim with its chart and what would settle it."""
    metric, rows = material.found["metric"], chart.verdict_rows(material.found, claim)
    good = chart.bound(rows, claim)
    empty = {"estimate": None, "interval": [None, None], "p": None, "margin": None, "n": None, "n_random": None, "level": None}
    whole = {**claim, **{name: {**empty, **claim[name]} for name in verdict.QUESTIONS}}
    more = {"chart": chart.layout(rows, metric, good), "described": chart.described(rows, metric)}
    # Where the ceiling has no effect, one reason answers all four questions, and is said once.
    reasons = {claim[name]["sentence"] for name in verdict.QUESTIONS}
    more["reason"] = reasons.pop() if len(reasons) == 1 else ""
    steps = diagnosis.next_steps(whole, material.found)
    return {**whole, **more, "next": steps}


def _columns(metrics: Sequence[Metric]) -> tuple[list[str], list[str], list[str]]:
    """What the page's tables show: metrics of test questions; side effects; other views of what a judge said, and of wording."""
    placed = sorted((one for one in metrics if one.page is not None), key=lambda one: one.page or 0)
    judged = [one.name for one in metrics if one.needs_judge and one.page is None]
    split = {text: [one.name for one in placed if (one.of == "text") is text] for text in (False, True)}
    return split[False], split[True], [*words.VIEWS, *judged]


def _measured(columns: Sequence[str], rows: list[dict[str, Any]]) -> list[str]:
    """The columns in which any row has a number."""
    return [name for name in columns if any(name in row["cells"] for row in rows)]


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the results: label, and by measure the mean with its interval or range."""
    rows = [_row("no edit", entry) for entry in found["baseline"]["base"]]
    rows += [_row(words.steered(entry["name"], entry["setting"]), entry) for entry in found["shift"]]
    for kind, places in words.by_steering(found["shift_random"]).items():
        rows.append(_range(f"{kind} at {words.counted(len(places), 'random Location')}", places))
    for entry in found["shift_everywhere"]:
        rows.append(_row(f"{words.steering(entry['name'])} everywhere, {entry['setting']}", entry))
    rows += [_row(_ceiling(found, entry), entry) for entry in found["ceiling"]]
    for claim in found["claims"]:
        name, mode = claim["name"], claim["read"]
        for kind, label in (("claimed", "optimal edit at"), ("complement", "optimal edit everywhere but at")):
            mine = [entry for entry in found[kind] if entry["claim"] == name and entry["read"] == mode]
            rows += [_row(f"{label} {_short(name)} (read {mode})", entry) for entry in mine]
        places = [entry for entry in found["random"] if entry["claim"] == name and entry["read"] == mode]
        if places:
            size = words.counted(claim["n_sites"], "head")
            rows.append(
                _range(f"optimal edits at {words.counted(len(places), 'random Location')} of {size} (read {mode})", places)
            )
    if found["single"]:
        rows.append(_range(f"optimal edits at {len(found['single'])} single heads", found["single"]))
    return rows


def beside(material: Material) -> list[dict[str, Any]]:
    """A run as rows of a table of several: one a claim and read mode, with what decides its verdict, in its own metric."""
    found = material.found
    metric, rows = found["metric"], []
    for claim in found["claims"]:
        mine = [("base", found["baseline"]["base"]), ("ceiling", found["ceiling"])]
        for kind in ("claimed", "random"):
            mine.append((kind, [one for one in found[kind] if (one["claim"], one["read"]) == (claim["name"], claim["read"])]))
        means = {kind: _range("", entries)["cells"].get(metric, {}).get("mean") for kind, entries in mine}
        rows.append({"run": material.folder.resolve().name, "found": found, "claim": claim, "metric": metric, **means})
    return rows


def _short(name: str) -> str:
    return visible(name.removeprefix("iti:").removeprefix("ceiling:"), 40)


def _ceiling(found: dict[str, Any], entry: dict[str, Any]) -> str:
    """The ceiling's label; its form is named where there are several."""
    return "optimal edit everywhere (ceiling" + (f", {_short(entry['name'])})" if len(found["ceiling"]) > 1 else ")")


def _row(label: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "cells": _cells(entry)}


def _cells(entry: dict[str, Any]) -> dict[str, Any]:
    """What was measured of a place, by column of the page."""
    judged = entry.get("judged")
    more = {"product": judged["product_of_means"], "both": judged["share"]["both"]} if judged else {}
    more |= {f"corrected_{target}": value for target, value in judged["corrected"].items()} if judged else {}
    known = registry.entries("metrics")
    return {**{name: value for name, value in entry.items() if name in known and value}, **{k: v for k, v in more.items() if v}}


def _range(label: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Several places in one row: the mean of their means, and the least and most of them."""
    cells, measured = {}, [_cells(entry) for entry in entries]
    for name in dict.fromkeys(name for one in measured for name in one):
        means = [one[name]["mean"] for one in measured if name in one and one[name]["mean"] is not None]
        if means:
            cells[name] = {"mean": math.fsum(means) / len(means), "interval": [min(means), max(means)], "n": len(means)}
    return {"label": label, "cells": cells, "range": True}


def effects(found: dict[str, Any]) -> list[str]:
    """Side effects on ordinary text, one sentence an edit."""
    said = []
    for kind, what in (("claimed", "The optimal edit at the claim"), ("ceiling", "The ceiling"), ("shift", "ITI at the claim")):
        for entry in found[kind]:
            who = what if kind != "shift" else f"{words.steering(entry['name'])} at the claim"
            kl, ce = entry.get("kl"), entry.get("ce")
            if kl and ce and kl["mean"] is not None and ce["mean"] is not None:
                which = "" if kind == "ceiling" else f" ({_short(entry['name'])})"
                said.append(
                    f"{who}{which} moves the next-token distribution by {kl['mean']:.4f} nats a token (KL) and changes "
                    f"cross-entropy by {ce['mean']:+.4f} nats a token, over {kl['n']} passages."
                )
    return said or ["Not measured: this run read no ordinary text (text_passages = 0, or no trial has finished)."]
