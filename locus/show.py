"""What the terminal shows: one progress bar for the whole audit, and tables a person can read without a manual."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from locus.claims.claim import Claim

MARKS = {
    "supported": "[green]supported[/]",
    "refuted": "[red]refuted[/]",
    "undecided": "[yellow]undecided[/]",
    "invalid": "[magenta]invalid[/]",
}
COLUMNS = {"mc1": "MC1 %", "mc2": "MC2 %", "margin": "margin, nats", "kl": "KL", "ce": "CE"}
JUDGED_COLUMNS = {
    "truth": "True %",
    "info": "Info %",
    "true_info": "True*Info %",
    "both": "corrected %",
    "blind_true_info": "blind %",
    "mc2": "MC2 %",
    "kl": "KL",
}
KINDS = ("shift", "shift_random", "ceiling", "claimed", "random", "complement", "single")
PERCENT = ("mc1", "mc2", "mc3", "truth", "info", "true_info", "both", "blind_true_info")
CAPTION = (
    "mean [95 % interval over questions]; over several places: mean (least to most). MC1 and MC2: multiple choice. "
    "Margin: gain of true over false answers. KL to the model as it is, and change of cross-entropy, on other text: nats a token."
)
JUDGED_CAPTION = (
    "mean [95 % interval over questions]; over several places: mean (least to most). True, Info: the judge's mean probability "
    "that what the model says is true, and informative; True*Info: mean of their products. Corrected: share of answers that are "
    "both, with the judge's known errors taken out. Blind: True*Info by a judge of wording alone. MC2: multiple choice. KL to "
    "the model as it is, on other text: nats a token."
)


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, float], None]]:
    """A bar over the whole audit with its remaining time; gives the function to report to."""
    columns = (
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def told(what: str, share: float) -> None:
            if what:
                bar.update(task, completed=share, description=what[:60])
            else:
                bar.update(task, completed=share)

        yield told


def _value(entry: dict[str, Any], measure: str) -> dict[str, Any] | None:
    """A measure's entry if it has a number; `both` is the corrected share of answers that are true and informative."""
    value = entry.get("judged", {}).get("corrected", {}).get("both") if measure == "both" else entry.get(measure)
    return value if value and value["mean"] is not None else None


def cell(entry: dict[str, Any], measure: str) -> str:
    """A mean with its interval, or a dash with nothing behind it."""
    value = _value(entry, measure)
    if value is None:
        return "-"
    if measure in ("kl", "ce"):
        return f"{value['mean']:.3f}"
    scale, digits = (100, 0) if measure in PERCENT else (1, 2)
    low, high = (f"{scale * one:.{digits}f}" if one is not None else "?" for one in value["interval"])
    return f"{scale * value['mean']:.{max(1, digits)}f} [{low}, {high}]"


def _spread(entries: list[dict[str, Any]], measure: str) -> str:
    """Mean and range over several places."""
    means = [value["mean"] for entry in entries if (value := _value(entry, measure)) is not None]
    if not means:
        return "-"
    if measure in ("kl", "ce"):
        return f"{np.mean(means):.3f}"
    scale, digits = (100, 0) if measure in PERCENT else (1, 2)
    return f"{scale * np.mean(means):.{max(1, digits)}f} ({scale * min(means):.{digits}f} to {scale * max(means):.{digits}f})"


def columns(found: dict[str, Any]) -> dict[str, str]:
    """The measures a table shows, with their headings."""
    return JUDGED_COLUMNS if found.get("judge") else COLUMNS


def _rows(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Label and cells of every row; an empty label is a rule between sections."""
    base, size, names = found["baseline"], found["claims"][0]["n_sites"], columns(found)

    def one(entry: dict[str, Any]) -> list[str]:
        return [cell(entry, name) for name in names]

    def several(entries: list[dict[str, Any]]) -> list[str]:
        return [_spread(entries, name) for name in names]

    rows = [("no edit", one(entry)) for entry in base["base"]]
    rows += [
        (f"question-blind: {blind['name']}", [f"{100 * blind['mc1']:.1f}", *["-"] * 4])
        for blind in base["blind"]
        if "mc1" in names
    ]
    rows.append(("", []))
    rows += [(f"ITI at {entry['name'].removeprefix('iti:')}, {entry['setting']}", one(entry)) for entry in found["shift"]]
    if found["shift_random"]:
        rows.append((f"ITI at {len(found['shift_random'])} random places", several(found["shift_random"])))
    rows.append(("", []))
    for entry in found["ceiling"]:
        rows.append((f"optimal everywhere ({entry['name'].removeprefix('ceiling:')})", one(entry)))
    for read in dict.fromkeys(entry["read"] for entry in found["random"]):
        mine = {
            kind: [entry for entry in found[kind] if entry["read"] == read]
            for kind in ("claimed", "random", "complement", "single")
        }
        rows += [(f"optimal at {entry['name']}, read {read}", one(entry)) for entry in mine["claimed"]]
        rows.append((f"optimal at {len(mine['random'])} random places of {size}", several(mine["random"])))
        rows += [("optimal everywhere but there", one(entry)) for entry in mine["complement"]]
        if mine["single"]:
            rows.append((f"optimal at {len(mine['single'])} single heads", several(mine["single"])))
    return rows


def _about_judge(found: dict[str, Any]) -> str:
    """Who judged, on what terms, and how many answers were left out or were silence."""
    judge, n = found["judge"], found["n"]["test"]
    entries = [entry for entries in (found["baseline"]["base"], *(found[kind] for kind in KINDS)) for entry in entries]
    judged = [entry["judged"] for entry in entries if "judged" in entry]
    unscored, silent = (sum(one[name] for one in judged) for name in ("unscored", "silent"))
    said = [f"Judge: {judge['name']}, {judge['fingerprint'][:12]}; {unscored} answers unscored, {silent} empty."]
    if not judge["confusion"]:
        said.append("Its errors were never measured, so nothing is corrected for them.")
    if judge["seen"]:
        said.append(
            f"It learned from {judge['seen']} of the {n} test questions; its known errors are those on questions it never saw."
        )
    said.append(f"Settings were chosen on validation questions by {found['selected_by']}.")
    return " ".join(said)


def verdict_table(console: Console, found: dict[str, Any], out: Path) -> None:
    """The audit's results: what was measured, then what follows."""
    n = found["n"]
    title = (
        f"{found['model']['name']} on {found['dataset']['name']}: {n['test']} test questions, {n['train']} training questions, "
        f"prompt format {found['prompt']}"
    )
    caption = JUDGED_CAPTION if found.get("judge") else CAPTION
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", pad_edge=False)
    table.add_column("edit", overflow="fold", min_width=24)
    for name in columns(found).values():
        table.add_column(name, justify="right", no_wrap=True)
    for label, cells in _rows(found):
        if label:
            table.add_row(Text(label), *cells)
        else:
            table.add_section()
    console.print(table)
    if found.get("judge"):
        console.print(Text(_about_judge(found), style="dim"))
    _standings(console, found)
    _notes(console, found)
    console.print(Text(f"\n{out / 'report.html'}   ({found['seconds']['trials']:.0f} s of trials)"))


def _standings(console: Console, found: dict[str, Any]) -> None:
    """What follows for every claim: four answers, one sentence, and the answers by other metrics."""
    for claim in found["claims"]:
        console.print()
        console.print(
            Text(
                f"Claim {claim['name']}: heads {', '.join(claim['location'])}; read {claim['read']}; judged by {found['metric']}"
            )
        )
        questions: tuple[str, ...] = ("works", "special", "unique", "necessary")
        if len({claim[question]["sentence"] for question in questions}) == 1:
            console.print("  all four  ", MARKS[claim["works"]["standing"]], Text(claim["works"]["sentence"]))
            questions = ()
        for question in questions:
            finding = claim[question]
            console.print(f"  {question:<10}", MARKS[finding["standing"]], Text(finding["sentence"]))
            if finding.get("to_decide"):
                console.print(Text(f"             would settle it: {finding['to_decide']}", style="dim"))
        console.print(Text(claim["sentence"], style="bold"))
        for metric, other in claim["by_metric"].items():
            if metric != found["metric"]:
                standings = ", ".join(f"{question} {other[question]['standing']}" for question in other)
                console.print(Text(f"  by {metric}: {standings}", style="dim"))


def _notes(console: Console, found: dict[str, Any]) -> None:
    """What a reader of the table has to know: questions left out, places not drawn, training not settled."""
    for part, wanted in found["asked"].items():
        if wanted is not None and found["n"][part] < wanted:
            console.print(
                Text(
                    f"{found['n'][part]} {part} questions, not {wanted}: the split gives 60/20/20 % of the data.", style="yellow"
                )
            )
    drawn = found["drawn"]
    if drawn["stopped_early"] and drawn["random"] < drawn["planned"]:
        console.print(
            Text(
                f"Drew {drawn['random']} of {drawn['planned']} random places: more could not change the verdict "
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
        console.print(Text(f"Training had not settled at {len(unsettled)} place(s): {', '.join(unsettled[:8])}", style="yellow"))


def claim_table(console: Console, claim: Claim, top: int) -> None:
    """The ranked heads of a claim."""
    table = Table(title=f"{claim.name}: {claim.about}", title_justify="left")
    for name in ("rank", "head", "validation accuracy", "claimed"):
        table.add_column(name, justify="right")
    for rank, (head, accuracy) in enumerate(list(claim.scores.items())[:top], 1):
        table.add_row(str(rank), head, f"{100 * accuracy:.1f} %", "yes" if head in claim.location.names else "")
    console.print(table)


def power_table(console: Console, found: dict[str, Any]) -> None:
    """What an audit of a given size can find."""
    special, paired, want = found["special"], found["paired"], f"{found['want']:.0%}"
    table = Table(title=f"{found['n_random']} random places, {found['n_questions']} test questions, alpha {found['alpha']:g}")
    table.add_column("question")
    table.add_column("answer", justify="right")
    table.add_row("least p that the rank test can give", f"{found['least_p']:.4f}")
    table.add_row(
        f"special: power for a claim {special['effect']:.2f} sd above random places (noise {found['noise']:.2f} sd)",
        f"{special['power']:.0%}",
    )
    table.add_row(f"special: least effect found with {want} power, in sd between places", f"{special['smallest_effect']:.2f}")
    table.add_row(
        f"special: random places that find {special['effect']:.2f} sd", str(special["random_for_effect"] or special["reason"])
    )
    table.add_row(
        f"works, necessary: least distance from the margin found with {want} power, in sd of a question's difference",
        f"{paired['smallest_effect']:.2f}",
    )
    for size, n in paired["questions_for"].items():
        table.add_row(f"works, necessary: questions that find {size} sd", str(n))
    if found["run"]:
        for name, value in found["run"].items():
            table.add_row(f"from the run: {name.replace('_', ' ')}", f"{value:.4g}")
    console.print(table)


def patch_table(console: Console, found: dict[str, Any], out: Path) -> None:
    """What patching found: a row a map, what other choices would have said, and how to go on."""
    from locus.patching.outcome import label

    table = Table(
        caption="found: beyond the least effect at the stated level, corrected for all components; (-): against the answer"
    )
    for name in ("map", "n", "found", "2 SD rule", "stability"):
        table.add_column(name)
    for entry in (entry for entry in found["maps"] if entry["width"] == 1):
        shown = [f"{one['name']}{'' if one['mean'] > 0 else ' (-)'}" for one in entry["components"] if one["found"]]
        listed = ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
        steady = entry["stability"]["jaccard"]
        rough = len(entry["two_deviations"]["detected"])
        cells = (label(entry), str(entry["n"]), listed or "none", str(rough), "-" if steady is None else f"{steady:.2f}")
        table.add_row(*map(Text, cells))
    console.print(table)
    for one in found["maps"][:1]:
        for warning in one["warnings"]:
            console.print(Text(warning))
    together = [found["controls"]] if found["controls"] else []
    for sentence in [*found["sentences"], *(one["sentence"] for one in [*found["screens"][:1], *together])]:
        console.print(Text(f"- {sentence}"))
    console.print(Text(f"wrote {out / 'page.html'}"), soft_wrap=True)
    if found["claim"] is not None:
        console.print(Text(f"audit it: locus audit {_asked(found['config'])} --claim patch:{out} --out RUN"), soft_wrap=True)


def _asked(config: dict[str, Any]) -> str:
    """The model and the questions of an audit of what patching found."""
    task, model = config["task"], config["model"]
    data = model if task == "planted" else "QUESTIONS" if task.endswith(".jsonl") or task == "induction" else f"task:{task}"
    return f"--model {model} --data {data}"


def judge_table(console: Console, found: dict[str, Any], left_out: int) -> None:
    """How good each judge is, and how far judges agree."""
    labels = found["labels"]
    more = f"; {left_out} more left out, to questions a judge learned from" if left_out else ""
    caption = "[95 % interval over questions]; ECE: expected calibration error. Unscored answers are in no figure."
    title = Text(f"{labels['name']}: {labels['answers']} answers{more}")
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", pad_edge=False)
    table.add_column("judge", overflow="fold")
    table.add_column("target", overflow="fold")
    for name in ("scored", "yes %", "accuracy %", "balanced %", "AUC %", "ECE %"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found["judges"].values():
        for target, words in (("truth", "true"), ("truth_of_informative", "true, if informative"), ("info", "informative")):
            line = one[target]
            count = f"{line['n']} of {line['n'] + line['n_unscored']}"
            spans = [_percent(line[name]) for name in ("accuracy", "balanced_accuracy", "auc")]
            shares = _share(line["share_yes"]), _share(line["calibration"]["error"])
            table.add_row(Text(one["judge"]), words, count, shares[0], *spans, shares[1])
        table.add_section()
    console.print(table)
    for pair in found["agreement"]:
        said = [
            f"{words} kappa {_number(pair[target]['kappa']['value'])}, differ on {_share(pair[target]['differ'])} %"
            for target, words in (("truth", "true"), ("info", "informative"))
        ]
        console.print(Text(f"{' and '.join(pair['judges'])}: {'; '.join(said)} of {pair['n']} answers"))


def _number(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f}"


def _percent(one: dict[str, float]) -> str:
    return f"{_share(one['value'])} [{_share(one['low'])}, {_share(one['high'])}]"
