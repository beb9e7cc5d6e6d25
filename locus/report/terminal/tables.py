"""The tables of the commands beside the audit: claims, power, patching, judges."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from locus.boundary.terminal import Console, Text
from locus.claims.claim import Claim
from locus.claims.direction import VECTORS
from locus.claims.published import Published, Rank
from locus.conclude.stability import described
from locus.judges.figures import Comparison, Spread
from locus.records.base import JsonObject
from locus.records.findings import QUESTIONS
from locus.records.patch import PatchRecord
from locus.records.power import PowerOfRun
from locus.records.repeat import RepeatRecord
from locus.report.repeat import PAGE, STANDINGS
from locus.report.verify import Verification
from locus.shown import visible
from locus.sites.kind import default, kind_of
from locus.units import share


def claim_table(console: Console, claim: Claim, top: int) -> None:
    """The sites that a probe ranks highest, and all that are claimed."""
    n, own = claim.about, kind_of(claim.location.kind)
    title = f"{own.nouns[:1].upper()}{own.nouns[1:]} by the accuracy of their probes: fitted on {n['n_train']} training answers, "
    title += f"ranked on {n['n_validation']} others"
    console.print(Text(title))
    table = Table()
    for name in ("rank", own.noun, "validation accuracy", "claimed"):
        table.add_column(name, justify="right")
    claimed = set(claim.location.names)
    for rank, (site, accuracy) in enumerate(claim.scores.items(), 1):
        if rank <= top or site in claimed:
            table.add_row(str(rank), site, f"{100 * accuracy:.1f} %", "yes" if site in claimed else "")
    console.print(table)


def published_table(console: Console, said: Published, claim: Claim | None, why: str, rank: Rank | None, top: int) -> None:
    """What a published file says: its shape, its scores, the highest first, and its claim or why it makes none."""
    kinds = ", ".join(f"{count} of {kind}" for kind, count in said.kinds.items())
    nouns = kind_of(claim.location.kind).nouns if claim else default().nouns
    console.print(Text(f"{said.name}: read as {said.importer or nouns}; sites: {kinds or 'none'}"), soft_wrap=True)
    for name, value in said.about.items():
        if name == VECTORS:
            value = f"{len(value)}, of unit length, in the claim file that `locus claims convert` writes"
        console.print(Text(f"  {name}: {value}"), soft_wrap=True)
    for direction in said.directions[:top]:
        norm = float((direction.vector.astype("float64") ** 2).sum() ** 0.5)
        place = direction.site or "a place that it does not say"
        console.print(Text(f"  {direction.label} at {place}: width {len(direction.vector):,}, norm {norm:.4g}"), soft_wrap=True)
    claimed, scores = set(claim.location.names) if claim else set(), claim.scores if claim else said.ranked(rank)
    table = Table()
    for heading in ("rank", "site", "score", "claimed"):
        table.add_column(heading, justify="right")
    for number, (head, score) in enumerate(scores.items(), 1):
        if number <= top:
            table.add_row(str(number), head, f"{score:.6g}", "yes" if head in claimed else "")
    if scores:
        console.print(table)
    layers = ", ".join(map(str, sorted({site.layer for site in claim.location.sites}))) if claim else ""
    line = f"claimed {nouns}: {', '.join(claim.location.names)} (layer {layers})" if claim else f"No claim: {why}"
    console.print(Text(line), soft_wrap=True)


def verified_table(console: Console, verification: Verification) -> None:
    """What was checked of a run, a receipt or a record; the answer first, in one line."""
    console.print(Text(verification.line), soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(f"  {verification.kind}"), Text(verification.id))
    for name, text in verification.held:
        grid.add_row(Text(f"  {name}"), Text(text))
    for text in verification.unchecked:
        grid.add_row("  not checked", Text(text))
    console.print(grid)


def numbers_table(console: Console, numbers: Sequence[Any], out: Path) -> None:
    """Numbers of a study, as committed and again, and where the new run is."""
    table = Table()
    table.add_column("number")
    for name in ("committed", "again", "within"):
        table.add_column(name, justify="right")
    table.add_column("")
    for number in numbers:
        cells = [one if isinstance(one, str) else f"{one:.4f}" for one in (number.committed, number.again)]
        within = "the same" if isinstance(number.again, str) else f"{number.within:g}"
        standing = Text("yes", "green") if number.agrees else Text("NO", "red")
        if number.within is None:
            within, standing = "-", Text("not compared")
        table.add_row(Text(number.name), *map(Text, cells), within, standing)
    console.print(table)
    compared = [number for number in numbers if number.within is not None]
    good = sum(number.agrees for number in compared)
    words = f"{good} of {len(compared)} numbers lie within their tolerance."
    if len(compared) < len(numbers):
        words += " Standings are not compared: fewer random Locations are judged at another level, so by another rule."
    console.print(Text(f"{words} Of places that are several, those are compared that both runs have. The new run: {out}"))


def power_table(console: Console, power: PowerOfRun) -> None:
    """What an audit of a given size can find."""
    special, paired, want = power["special"], power["paired"], share(power["want"])
    if power.get("warning"):
        console.print(Text(power["warning"], style="yellow"))
    table = Table(title=f"{power['n_random']} random Locations, {power['n_questions']} test questions, alpha {power['alpha']:g}")
    table.add_column("question")
    table.add_column("answer", justify="right")
    table.add_row("least p that the rank test can give", f"{power['least_p']:.4f}")
    table.add_row(
        f"special: power for a claim {abs(special['effect']):.2f} sd {'above' if special['effect'] >= 0 else 'BELOW'} "
        f"random Locations (noise {power['noise']:.2f} sd)",
        share(special["power"]),
    )
    table.add_row(f"special: least effect found with {want} power, in sd between Locations", f"{special['smallest_effect']:.2f}")
    table.add_row(
        f"special: random Locations that find {special['effect']:.2f} sd", str(special["random_for_effect"] or special["reason"])
    )
    table.add_row(
        f"works, necessary: least distance from the margin found with {want} power, in sd of a question's difference",
        f"{paired['smallest_effect']:.2f}",
    )
    for size, n in paired["questions_for"].items():
        table.add_row(f"works, necessary: questions that find {size} sd", str(n))
    if power["run"]:
        for name, value in power["run"].items():
            table.add_row(f"from the run: {name.replace('_', ' ')}", f"{value:.4g}")
    console.print(table)


def patch_table(console: Console, record: PatchRecord, out: Path) -> None:
    """What patching found: a row a map, what other choices would have said, and how to go on."""
    table = Table(
        caption="found: beyond the least effect at the stated level, corrected for all components; (-): against the answer"
    )
    for name in ("map", "n", "found", "2 SD rule", "stability"):
        table.add_column(name)
    for entry in (entry for entry in record.maps if entry.width == 1):
        shown = [f"{one.name}{' (-)' if one.mean is None or one.mean <= 0 else ''}" for one in entry.components if one.found]
        listed = ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
        steady = entry.stability.jaccard
        rough = len(entry.two_deviations.detected)
        cells = (entry.label, str(entry.n), listed or "none", str(rough), "-" if steady is None else f"{steady:.2f}")
        table.add_row(*map(Text, cells))
    console.print(table)
    for warning in record.maps[0].warnings:
        console.print(Text(warning))
    together = [record.controls.sentence] if record.controls else []
    for sentence in [*record.sentences, *(screen.sentence for screen in record.screens[:1]), *together]:
        console.print(Text(f"- {sentence}"))
    console.print(Text(f"wrote {out / 'page.html'}"), soft_wrap=True)
    if record.claim is not None:
        asked = f"{_asked(record.config)} --claim {shlex.quote(f'patch:{out}')}"
        console.print(Text(f"audit it: locus audit {asked} --out RUN"), soft_wrap=True)


def _asked(config: JsonObject) -> str:
    """The model and the questions of an audit of what patching found, as a shell takes them."""
    task, model = str(config["task"]), str(config["model"])
    data = model if task == "planted" else "QUESTIONS" if task.endswith(".jsonl") or task == "induction" else f"task:{task}"
    return f"--model {shlex.quote(model)} --data {shlex.quote(data)}"


def judge_table(console: Console, comparison: Comparison, left_out: int) -> None:
    """How good each judge is, and how far judges agree."""
    labels = comparison["labels"]
    more = f"; {left_out} more left out, to questions a judge learned from" if left_out else ""
    caption = "[95 % interval over questions]; ECE: expected calibration error. Unscored answers are in no figure."
    title = Text(f"{labels['name']}: {labels['answers']} answers{more}")
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", pad_edge=False)
    table.add_column("judge", overflow="fold")
    table.add_column("target", overflow="fold")
    for name in ("scored", "yes %", "accuracy %", "balanced %", "AUC %", "ECE %"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in comparison["judges"].values():
        lines = {"true": one["truth"], "true, if informative": one["truth_of_informative"], "informative": one["info"]}
        for words, line in lines.items():
            count = f"{line['n']} of {line['n'] + line['n_unscored']}"
            spans = map(_percent, (line["accuracy"], line["balanced_accuracy"], line["auc"]))
            shares = _share(line["share_yes"]), _share(line["calibration"]["error"])
            table.add_row(Text(one["judge"]), words, count, shares[0], *spans, shares[1])
        table.add_section()
    console.print(table)
    for pair in comparison["agreement"]:
        parts = [
            f"{words} kappa {_number(one['kappa']['value'])}, differ on {_share(one['differ'])} %"
            for words, one in (("true", pair["truth"]), ("informative", pair["info"]))
        ]
        console.print(Text(f"{' and '.join(pair['judges'])}: {'; '.join(parts)} of {pair['n']} answers"))


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) and np.isfinite(value) else "-"


def _share(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f}"


def _percent(one: Spread) -> str:
    return f"{_share(one['value'])} [{_share(one['low'])}, {_share(one['high'])}]"


def repeat_table(console: Console, record: RepeatRecord, out: Path) -> None:
    """In how many audits that differ in their seed each question stands how, and how far leads are apart."""
    for claim in record.claims:
        console.print(
            Text(f"Claim {visible(claim.name, 120)}, read {claim.read}, by {record.metric}: {len(claim.answers)} audits")
        )
        table = Table()
        table.add_column("question")
        for standing in STANDINGS:
            table.add_column(standing, justify="right")
        for question in QUESTIONS:
            table.add_row(question, *(str(claim.count(question, standing)) for standing in STANDINGS))
        console.print(table)
        for sentence in described(claim, record.metric):
            console.print(Text(sentence))
    console.print(Text(out / PAGE), soft_wrap=True)
