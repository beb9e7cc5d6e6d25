"""What an audit found, in the terminal: what was measured at every place, then what follows."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from locus import registry
from locus.boundary.terminal import Console, Text
from locus.conclude import cost, entanglement, ranks
from locus.conclude.curve import described
from locus.conclude.diagnosis import gained, next_steps, settling
from locus.conclude.manifold import noted
from locus.conclude.nulls import compared
from locus.conclude.transfer import told
from locus.metrics.base import Metric, metric, tabled
from locus.plan.config import AuditConfig
from locus.plan.reading import read_plan
from locus.records.findings import Finding, Findings
from locus.records.judge import JudgeRecord
from locus.records.place import Measured, PlaceResult
from locus.records.verdict import KINDS, Verdict
from locus.report.rates import error_rates
from locus.report.words import by_steering, judge_errors, kind_claimed, labelled, searched, steered
from locus.shown import line
from locus.sites.kind import kind_of
from locus.units import bare, is_share, share

COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow", "invalid": "magenta", "withheld": "cyan"}
# No metrics, but what remains of True*Info, or of the wanted side, where the judge's known errors are taken out.
CORRECTED = {"both": "true_info", "corrected_wanted": "wanted"}
MEANS = "mean [95 % interval over questions]; over several Locations: mean (least, most)."
ABOUT_CORRECTED = {
    "both": "Corrected: share of answers that are both, with the judge's known errors taken out.",
    "corrected_wanted": "Corrected: share of answers on the wanted side, with the judge's known errors taken out.",
}
LABEL = 16  # least width of a row's label
NAME = 120  # most characters of a name
Cell = tuple[str, str]  # mean, and its interval or range
NOTHING: Cell = ("-", "")
PackedRow = tuple[str, dict[str, Cell]]  # label, and cells by measure; an empty label begins a section


def verdict_table(console: Console, verdict: Verdict, out: Path) -> None:
    """The audit's results: what was measured, then what follows."""
    n = verdict.n
    console.print(
        Text(
            f"{line(verdict.model.name, NAME)} on {line(verdict.dataset.name, NAME)}: {n.test} test questions, "
            f"{n.train} training questions, prompt format {verdict.prompt}"
        )
    )
    judged, metrics = verdict.judge is not None, _metrics(verdict)
    rows = _rows(verdict, [*(one.name for one in metrics), *CORRECTED])
    headings = {
        name: heading
        for name, heading in columns(metrics, judged, verdict.metric).items()
        if any(cells[name] != NOTHING for label, cells in rows if label)
    }
    captions = {**{one.name: one.caption for one in metrics if one.caption}, **ABOUT_CORRECTED}
    for table in tables(headings, rows, console.width):
        console.print(table)
    console.print(Text(" ".join([MEANS, *(captions[name] for name in headings if name in captions)]), style="dim"))
    if verdict.judge is not None:
        console.print(Text(_about_judge(verdict, verdict.judge), style="dim"))
    _standings(console, verdict, AuditConfig.recorded(read_plan(out).config))
    _notes(console, verdict)
    console.print()
    console.print(Text(cost.cost_line(verdict.seconds, verdict.cost), style="dim"))
    console.print(Text(out / "report.html"), soft_wrap=True)


def _metrics(verdict: Verdict) -> list[Metric]:
    """The metrics that any place of a verdict has, in the order of tables."""
    named = {name for kind in ("base", *KINDS) for place in verdict.places(kind) for name in place.measures}
    return tabled([metric(name) for name in registry.entries("metrics") if name in named])


def columns(metrics: Sequence[Metric], judged: bool, main: str = "") -> dict[str, str]:
    """The headings of the table of a run that was judged, or was not; the main metric is always among them.

    Of a judged run, what remains with the judge's errors taken out stands behind what he says himself.
    """
    where = ("always", "judged" if judged else "unjudged")
    shown = [one for one in metrics if one.name == main or one.terminal in where]
    judged_metrics = [one for one in shown if one.needs_judge and one.decides]
    rest = [one for one in shown if one not in judged_metrics]
    headings = [{one.name: one.column for one in part} for part in (judged_metrics, rest)]
    corrected = {name: "corrected %" for name, of in CORRECTED.items() if judged and of in headings[0]}
    return headings[0] | corrected | headings[1]


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


def _value(place: PlaceResult, measure: str) -> Measured | None:
    """A measure's entry if it has a number; what is corrected is a share of answers."""
    if measure in CORRECTED:
        value = place.judged.corrected.get(measure.removeprefix("corrected_")) if place.judged else None
    else:
        value = place.measures.get(measure)
    return value if value and value.mean is not None else None


def _number(value: float | None, measure: str) -> str:
    """A value as the table has it: shares with one decimal, what else is of a question with two, of other text with three."""
    if value is None:
        return "?"
    return bare(value, measure) if is_share(measure) or _of_text(measure) else f"{value:z.2f}"


def _of_text(measure: str) -> bool:
    """Whether it is measured on other text, whose intervals are left to the page."""
    return measure not in CORRECTED and metric(measure).of == "text"


def cell(place: PlaceResult, measure: str) -> Cell:
    """A mean with its interval, or a dash with nothing behind it."""
    value = _value(place, measure)
    if value is None:
        return NOTHING
    if _of_text(measure):
        return _number(value.mean, measure), ""
    low, high = (_number(one, measure) for one in value.interval)
    return _number(value.mean, measure), f"[{low}, {high}]"


def _spread(places: Sequence[PlaceResult], measure: str) -> Cell:
    """Mean and range over several places."""
    measured = [value.mean for place in places if (value := _value(place, measure)) is not None]
    means = [mean for mean in measured if mean is not None]
    if not means:
        return NOTHING
    mean = _number(float(np.mean(means)), measure)
    if _of_text(measure):
        return mean, ""
    return mean, f"({_number(min(means), measure)}, {_number(max(means), measure)})"


def _rows(verdict: Verdict, names: Sequence[str]) -> list[PackedRow]:
    """Label and cells of every row; an empty label is a rule between sections."""
    base, size, kind = verdict.baseline, verdict.claims[0].n_sites, kind_claimed(verdict.claims[0])

    def one(place: PlaceResult) -> dict[str, Cell]:
        return {name: cell(place, name) for name in names}

    def several(places: Sequence[PlaceResult]) -> dict[str, Cell]:
        return {name: _spread(places, name) for name in names}

    rows: list[PackedRow] = [("no edit", one(place)) for place in base.base]
    if verdict.judge is None:
        nothing = dict.fromkeys(names, NOTHING)
        rows += [
            (f"blind to the question: {blind.name}", {**nothing, "mc1": (bare(blind.mc1, "mc1"), "")}) for blind in base.blind
        ]
    rows.append(("", {}))
    rows += [(steered(place.name, place.setting), one(place)) for place in verdict.shift]
    for steering, places in by_steering(verdict.shift_random).items():
        rows.append((f"{steering} at {len(places)} random Locations", several(places)))
    rows += [(steered(place.name, place.setting, everywhere=True), one(place)) for place in verdict.shift_everywhere]
    rows.append(("", {}))
    for place in verdict.ceiling:
        form = place.name.removeprefix("ceiling:") if len(verdict.ceiling) > 1 else "ceiling"
        rows.append((f"optimal everywhere ({form})", one(place)))
    edits = ("claimed", "random", "random_in_layers", "complement", "single")
    for read in dict.fromkeys(place.read for kind in edits for place in verdict.places(kind)):
        mine = {kind: [place for place in verdict.places(kind) if place.read == read] for kind in edits}
        rows += [(f"optimal at {place.name}, read {read}", one(place)) for place in mine["claimed"]]
        sites = kind.counted(size)
        if mine["random"]:
            rows.append((f"optimal at {len(mine['random'])} random Locations of {sites}", several(mine["random"])))
        if layered := mine["random_in_layers"]:
            rows.append((f"optimal at {len(layered)} random Locations of its layers", several(layered)))
        rows += [("optimal everywhere but there", one(place)) for place in mine["complement"]]
        if mine["single"]:
            rows.append((f"optimal at {len(mine['single'])} single {kind.nouns}", several(mine["single"])))
    return rows


def _about_judge(verdict: Verdict, judge: JudgeRecord) -> str:
    """Who judged, on what terms, and how many answers were left out or were silence."""
    judged = [place.judged for kind in ("base", *KINDS) for place in verdict.places(kind) if place.judged is not None]
    unscored, silent = sum(one.unscored for one in judged), sum(one.silent for one in judged)
    parts = [f"Judge: {line(judge.name, NAME)}, {judge.fingerprint[:12]}; {unscored} answers unscored, {silent} empty."]
    if verdict.unscored is not None:
        parts.append(f"Why: {line(verdict.unscored.commonest)}.")
    parts += judge_errors(judge)
    if judge.seen:
        parts.append(
            f"It learned from {judge.seen} of the {verdict.n.test} test questions; its known errors are those on questions it "
            "never saw."
        )
    parts.append(f"Settings were chosen on validation questions by {verdict.selected_by}.")
    return " ".join(parts + labelled(verdict))


def _standings(console: Console, verdict: Verdict, config: AuditConfig) -> None:
    """What follows for every claim: four answers, one sentence, and the answers by other metrics."""
    if verdict.gain is not None:
        console.print()
        console.print(Text(gained(verdict.gain, verdict.metric)))
    for claim in verdict.claims:
        where, findings = ", ".join(claim.location), claim.by_question
        console.print()
        console.print(
            Text(f"Claim {line(claim.name, NAME)}: {kind_claimed(claim).nouns} {where}; read {claim.read}; by {verdict.metric}")
        )
        wrong, unmeasured = error_rates(claim, config)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column()
        if len({finding.sentence for finding in findings.values()}) == 1:
            grid.add_row("  all four", _mark(claim.works), Text(claim.works.sentence))
        else:
            for question, finding in findings.items():
                grid.add_row(f"  {question}", _mark(finding), Text(finding.sentence))
                if finding.to_decide:
                    grid.add_row("", "", Text(f"would settle it: {finding.to_decide}", style="dim"))
                if wrong[question]:
                    grid.add_row("", "", Text(wrong[question], style="dim"))
        console.print(grid)
        if unmeasured:
            console.print(Text(unmeasured, style="dim"))
        console.print(Text(claim.sentence, style="bold"))
        if beside := compared(claim, verdict.metric):
            console.print(Text(beside))
        if survives := ranks.told(verdict.ranks, claim, verdict.metric):
            console.print(Text(survives))
        if way := described(verdict.curve, claim, verdict.metric):
            console.print(Text(way))
        if "invalid" in {finding.standing for finding in findings.values()}:
            above = [settling(question, finding) for question, finding in findings.items()]  # in the grid
            for step in next_steps(claim, verdict):
                if step not in above:
                    console.print(Text(f"  - {step}", style="yellow"))
        for name, other in claim.by_metric.items():
            if name != verdict.metric:
                console.print(Text(f"  by {name}: {_briefly(other)}", style="dim"))


def _mark(finding: Finding) -> Text:
    return Text(finding.standing, COLOURS[finding.standing])


def _briefly(findings: Findings) -> str:
    """The four standings by another metric; where one reason answers all four, the reason."""
    (first, *others) = findings.by_question.values()
    if first.standing == "invalid" and {one.sentence for one in others} == {first.sentence}:
        return f"{first.sentence[0].lower()}{first.sentence[1:]}"
    return ", ".join(f"{question} {one.standing}" for question, one in findings.by_question.items())


def _notes(console: Console, verdict: Verdict) -> None:
    """What a reader of the table has to know: planted truth, questions left out, Locations not drawn, training not settled."""
    if verdict.dataset.name.startswith("planted-") and verdict.model.name.startswith("planted:"):
        console.print(Text(_truth(verdict.model.name)))
    if verdict.model.name.startswith("twin of "):
        console.print(Text("A twin: its weights are redrawn, and the behaviour is nowhere in it.", style="yellow"))
    held = dict(verdict.n)
    for part, wanted in verdict.asked:
        if wanted is not None and held[part] < wanted:
            few = f"{held[part]} {part} questions, not {wanted}: the split gives 60/20/20 % of the data."
            console.print(Text(few, style="yellow"))
    looked = verdict.drawn
    if looked.stopped_early and looked.random is not None and looked.random < looked.planned:
        console.print(
            Text(
                f"Drew {looked.random} of {looked.planned} random Locations: more could not change the verdict "
                "(--set sequential=false draws them all)."
            )
        )
    for one in verdict.transfer:
        console.print(Text(told(one, verdict.prompt)))
    for sentence in chain.from_iterable(map(entanglement.told, verdict.also)):
        console.print(Text(sentence))
    if verdict.also:
        console.print(Text("What edits do to other behaviours is described, and decides nothing.", style="dim"))
    for said in filter(None, map(noted, verdict.departures)):
        console.print(Text(said, style="yellow"))
    kinds = ("claimed", "ceiling", "complement", "random")
    for sentence in searched(verdict):
        console.print(Text(sentence))
    unsettled = [place.name for kind in kinds for place in verdict.places(kind) if not place.near]
    if unsettled:
        more = f" and {len(unsettled) - 8} more" if len(unsettled) > 8 else ""
        warning = f"Training had not settled at {len(unsettled)} Location(s): {', '.join(unsettled[:8])}{more}"
        console.print(Text(warning, style="yellow"))


def _truth(name: str) -> str:
    """Where the behaviour of a planted model is, by construction."""
    from locus.models.planted.named import planted_named  # imports torch

    planted = planted_named(name)
    if planted.shuffled:
        return "Planted: the labels are shuffled, so no edit can generalise, wherever it is."
    if planted.everywhere:
        return f"Planted: every {kind_of(planted.site).noun} does its share of the work, by construction."
    places = ", ".join(planted.where.names)
    if planted.plan.parts:
        part = share(planted.plan.reach(planted.truth))
        return f"Planted: {part} of the work is done at {places} alone, and the rest at others, by construction."
    return f"Planted: the work is done at {places}, by construction."
