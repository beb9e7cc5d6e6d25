"""What an audit found, in the terminal: what was measured at every place, then what follows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from locus import registry
from locus.boundary.terminal import Console, Text
from locus.conclude.diagnosis import gained, next_steps, settling
from locus.conclude.tests import QUESTIONS
from locus.engine import cost
from locus.metrics.base import Metric, metric, tabled
from locus.report.words import by_steering, steered, steering
from locus.shown import line
from locus.units import bare, is_share

COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow", "invalid": "magenta"}
CORRECTED = {"both": "corrected %"}  # no metric, but what remains of True*Info where the judge's known errors are taken out
KINDS = ("shift", "shift_random", "shift_everywhere", "ceiling", "claimed", "random", "complement", "single")
MEANS = "mean [95 % interval over questions]; over several Locations: mean (least, most)."
ABOUT_CORRECTED = {"both": "Corrected: share of answers that are both, with the judge's known errors taken out."}
LABEL = 16  # least width of a row's label
NAME = 120  # most characters of a name
Cell = tuple[str, str]  # mean, and its interval or range
NOTHING: Cell = ("-", "")
PackedRow = tuple[str, dict[str, Cell]]  # label, and cells by measure; an empty label begins a section


def verdict_table(console: Console, found: dict[str, Any], out: Path) -> None:
    """The audit's results: what was measured, then what follows."""
    n = found["n"]
    console.print(
        Text(
            f"{line(found['model']['name'], NAME)} on {line(found['dataset']['name'], NAME)}: {n['test']} test questions, "
            f"{n['train']} training questions, prompt format {found['prompt']}"
        )
    )
    judged = bool(found.get("judge"))
    metrics = _metrics(found)
    rows = _rows(found, [*(one.name for one in metrics), *CORRECTED])
    headings = {
        name: heading
        for name, heading in columns(metrics, judged, found["metric"]).items()
        if any(cells[name] != NOTHING for label, cells in rows if label)
    }
    captions = {**{one.name: one.caption for one in metrics if one.caption}, **ABOUT_CORRECTED}
    for table in tables(headings, rows, console.width):
        console.print(table)
    console.print(Text(" ".join([MEANS, *(captions[name] for name in headings if name in captions)]), style="dim"))
    if judged:
        console.print(Text(_about_judge(found), style="dim"))
    _standings(console, found)
    _notes(console, found)
    console.print()
    console.print(Text(cost.told(found), style="dim"))
    console.print(Text(out / "report.html"), soft_wrap=True)


def _metrics(found: dict[str, Any]) -> list[Metric]:
    """The metrics that any place of a verdict has, in the order of tables."""
    kinds = [found["baseline"]["base"], *(found.get(kind, []) for kind in KINDS)]
    named = {name for entries in kinds for entry in entries for name in entry}
    return tabled([metric(name) for name in registry.entries("metrics") if name in named])


def columns(metrics: Sequence[Metric], judged: bool, main: str = "") -> dict[str, str]:
    """The headings of the table of a run that was judged, or was not; the main metric is always among them.

    Of a judged run, what remains of True*Info with the judge's errors taken out stands behind what he says himself.
    """
    where = ("always", "judged" if judged else "unjudged")
    shown = [one for one in metrics if one.name == main or one.terminal in where]
    said = [one for one in shown if one.needs_judge and one.decides]
    rest = [one for one in shown if one not in said]
    named = [{one.name: one.column for one in part} for part in (said, rest)]
    return named[0] | (CORRECTED if judged else {}) | named[1]


def tables(headings: dict[str, str], rows: list[PackedRow], width: int) -> list[Table]:
    """The rows as one table; in a narrow terminal with intervals below their means, and as several where even that is too wide.

    Args:
        headings: heading of each measure.
        rows: labels and cells.
        width: columns of the terminal.
    """

    def needed(name: str, low: bool) -> int:
        cells = [cells[name] for label, cells in rows if label]
        parts = [part for cell in cells for part in cell] if low else [" ".join(cell) for cell in cells]
        return max(map(len, [*headings[name].split(), *parts] if low else [headings[name], *parts]))

    wide = {name: needed(name, False) + 2 for name in headings}
    if sum(wide.values()) + LABEL <= width:
        return [_table(headings, rows, False)]
    narrow = {name: needed(name, True) + 2 for name in headings}
    groups: list[dict[str, str]] = [{}]
    for name, heading in headings.items():
        if groups[-1] and sum(narrow[other] for other in groups[-1]) + narrow[name] + LABEL > width:
            groups.append({})
        groups[-1][name] = heading
    return [_table(group, rows, True) for group in groups]


def _table(headings: dict[str, str], rows: list[PackedRow], low: bool) -> Table:
    """One table; `low` puts the interval below the mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("edit", overflow="fold", min_width=LABEL - 1)
    for heading in headings.values():
        table.add_column(heading.replace(" ", "\n") if low else heading, justify="right", no_wrap=True)
    for label, cells in rows:
        if label:
            table.add_row(Text(label), *(("\n" if low else " ").join(filter(None, cells[name])) for name in headings))
        else:
            table.add_section()
    return table


def _value(entry: dict[str, Any], measure: str) -> dict[str, Any] | None:
    """A measure's entry if it has a number; `both` is the corrected share of answers that are true and informative."""
    value = entry.get("judged", {}).get("corrected", {}).get("both") if measure == "both" else entry.get(measure)
    return value if value and value["mean"] is not None else None


def _number(value: float | None, measure: str) -> str:
    """A value as the table has it: shares with one decimal, what else is of a question with two, of other text with three."""
    if value is None:
        return "?"
    return bare(value, measure) if is_share(measure) or _of_text(measure) else f"{value:z.2f}"


def _of_text(measure: str) -> bool:
    """Whether it is measured on other text, whose intervals are left to the page."""
    return measure not in CORRECTED and metric(measure).of == "text"


def cell(entry: dict[str, Any], measure: str) -> Cell:
    """A mean with its interval, or a dash with nothing behind it."""
    value = _value(entry, measure)
    if value is None:
        return NOTHING
    if _of_text(measure):
        return _number(value["mean"], measure), ""
    low, high = (_number(one, measure) for one in value["interval"])
    return _number(value["mean"], measure), f"[{low}, {high}]"


def _spread(entries: list[dict[str, Any]], measure: str) -> Cell:
    """Mean and range over several places."""
    means = [value["mean"] for entry in entries if (value := _value(entry, measure)) is not None]
    if not means:
        return NOTHING
    mean = _number(float(np.mean(means)), measure)
    if _of_text(measure):
        return mean, ""
    return mean, f"({_number(min(means), measure)}, {_number(max(means), measure)})"


def _rows(found: dict[str, Any], names: Sequence[str]) -> list[PackedRow]:
    """Label and cells of every row; an empty label is a rule between sections."""
    base, size = found["baseline"], found["claims"][0]["n_sites"]

    def one(entry: dict[str, Any]) -> dict[str, Cell]:
        return {name: cell(entry, name) for name in names}

    def several(entries: list[dict[str, Any]]) -> dict[str, Cell]:
        return {name: _spread(entries, name) for name in names}

    rows: list[PackedRow] = [("no edit", one(entry)) for entry in base["base"]]
    if not found.get("judge"):
        nothing = dict.fromkeys(names, NOTHING)
        rows += [
            (f"blind to the question: {blind['name']}", {**nothing, "mc1": (bare(blind["mc1"], "mc1"), "")})
            for blind in base["blind"]
        ]
    rows.append(("", {}))
    rows += [(steered(entry["name"], entry["setting"]), one(entry)) for entry in found["shift"]]
    for kind, places in by_steering(found["shift_random"]).items():
        rows.append((f"{kind} at {len(places)} random Locations", several(places)))
    for entry in found.get("shift_everywhere", []):
        rows.append((f"{steering(entry['name'])} everywhere, {entry['setting']}", one(entry)))
    rows.append(("", {}))
    for entry in found["ceiling"]:
        rows.append((f"optimal everywhere ({entry['name'].removeprefix('ceiling:')})", one(entry)))
    edits = ("claimed", "random", "complement", "single")
    for read in dict.fromkeys(entry["read"] for kind in edits for entry in found[kind]):
        mine = {kind: [entry for entry in found[kind] if entry["read"] == read] for kind in edits}
        rows += [(f"optimal at {entry['name']}, read {read}", one(entry)) for entry in mine["claimed"]]
        heads = f"{size} head{'' if size == 1 else 's'}"
        if mine["random"]:
            rows.append((f"optimal at {len(mine['random'])} random Locations of {heads}", several(mine["random"])))
        rows += [("optimal everywhere but there", one(entry)) for entry in mine["complement"]]
        if mine["single"]:
            rows.append((f"optimal at {len(mine['single'])} single heads", several(mine["single"])))
    return rows


def _about_judge(found: dict[str, Any]) -> str:
    """Who judged, on what terms, and how many answers were left out or were silence."""
    judge, n = found["judge"], found["n"]["test"]
    entries = [entry for entries in (found["baseline"]["base"], *(found.get(kind, []) for kind in KINDS)) for entry in entries]
    judged = [entry["judged"] for entry in entries if "judged" in entry]
    unscored, silent = (sum(one[name] for one in judged) for name in ("unscored", "silent"))
    said = [f"Judge: {line(judge['name'], NAME)}, {judge['fingerprint'][:12]}; {unscored} answers unscored, {silent} empty."]
    if missing := found.get("unscored"):
        said.append(f"Why: {line(missing['commonest'])}.")
    if not judge["confusion"]:
        said.append("Its errors were never measured, so nothing is corrected for them.")
    if judge["seen"]:
        said.append(
            f"It learned from {judge['seen']} of the {n} test questions; its known errors are those on questions it never saw."
        )
    said.append(f"Settings were chosen on validation questions by {found['selected_by']}.")
    return " ".join(said)


def _standings(console: Console, found: dict[str, Any]) -> None:
    """What follows for every claim: four answers, one sentence, and the answers by other metrics."""
    if (gain := found.get("gain")) is not None:
        console.print()
        console.print(Text(gained(gain, found["metric"])))
    for claim in found["claims"]:
        heads = ", ".join(claim["location"])
        console.print()
        console.print(Text(f"Claim {line(claim['name'], NAME)}: heads {heads}; read {claim['read']}; by {found['metric']}"))
        said = Table.grid(padding=(0, 2, 0, 0))
        said.add_column(no_wrap=True)
        said.add_column(no_wrap=True)
        said.add_column()
        if len({claim[question]["sentence"] for question in QUESTIONS}) == 1:
            said.add_row("  all four", _mark(claim["works"]), Text(claim["works"]["sentence"]))
        else:
            for question in QUESTIONS:
                finding = claim[question]
                said.add_row(f"  {question}", _mark(finding), Text(finding["sentence"]))
                if finding.get("to_decide"):
                    said.add_row("", "", Text(f"would settle it: {finding['to_decide']}", style="dim"))
        console.print(said)
        console.print(Text(claim["sentence"], style="bold"))
        if "invalid" in {claim[question]["standing"] for question in QUESTIONS}:
            told = [settling(question, claim[question]) for question in QUESTIONS]  # in the grid above
            for step in next_steps(claim, found):
                if step not in told:
                    console.print(Text(f"  - {step}", style="yellow"))
        for name, other in claim["by_metric"].items():
            if name != found["metric"]:
                console.print(Text(f"  by {name}: {_briefly(other)}", style="dim"))


def _mark(finding: dict[str, Any]) -> Text:
    return Text(finding["standing"], COLOURS[finding["standing"]])


def _briefly(findings: dict[str, Any]) -> str:
    """The four standings by another metric; where one reason answers all four, the reason."""
    (first, *others) = findings.values()
    if first["standing"] == "invalid" and {one["sentence"] for one in others} == {first["sentence"]}:
        return f"{first['sentence'][0].lower()}{first['sentence'][1:]}"
    return ", ".join(f"{question} {one['standing']}" for question, one in findings.items())


def _notes(console: Console, found: dict[str, Any]) -> None:
    """What a reader of the table has to know: planted truth, questions left out, Locations not drawn, training not settled."""
    if found["dataset"]["name"].startswith("planted-"):
        console.print(Text(_truth(found["model"]["name"])))
    for part, wanted in found["asked"].items():
        if wanted is not None and found["n"][part] < wanted:
            said = f"{found['n'][part]} {part} questions, not {wanted}: the split gives 60/20/20 % of the data."
            console.print(Text(said, style="yellow"))
    drawn = found["drawn"]
    if drawn["stopped_early"] and drawn["random"] < drawn["planned"]:
        console.print(
            Text(
                f"Drew {drawn['random']} of {drawn['planned']} random Locations: more could not change the verdict "
                "(--set sequential=false draws them all)."
            )
        )
    unsettled = [
        entry["name"]
        for kind in ("claimed", "ceiling", "complement", "random")
        for entry in found[kind]
        if False in entry["converged"]
    ]
    if unsettled:
        more = f" and {len(unsettled) - 8} more" if len(unsettled) > 8 else ""
        said = f"Training had not settled at {len(unsettled)} Location(s): {', '.join(unsettled[:8])}{more}"
        console.print(Text(said, style="yellow"))


def _truth(name: str) -> str:
    """Where the behaviour of a planted model is, by construction."""
    from locus.models.planted.named import planted_named  # imports torch

    planted = planted_named(name)
    if planted.shuffled:
        return "Planted: the labels are shuffled, so no edit can generalise, wherever it is."
    if len(planted.truth) == planted.model.config.num_hidden_layers * planted.model.config.num_attention_heads:
        return "Planted: every head does its share of the work, by construction."
    heads = ", ".join(f"{layer}.{head}" for layer, head in planted.truth)
    return f"Planted: the work is done at {heads}, by construction."
