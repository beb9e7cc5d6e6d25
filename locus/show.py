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
COLUMNS = {
    "mc1": "MC1 %",
    "mc2": "MC2 %",
    "margin": "margin nats",
    "kl": "KL nats/token",
    "ce": "CE change",
}


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
            bar.update(task, completed=share, **({"description": what[:60]} if what else {}))

        yield told


def cell(entry: dict[str, Any], measure: str) -> str:
    """A mean with its interval, or a dash with nothing behind it."""
    value = entry.get(measure)
    if not value or value["mean"] is None:
        return "-"
    scale = 100 if measure.startswith("mc") else 1
    digits = 1 if scale == 100 else 2 if measure != "kl" else 3
    low, high = (f"{scale * one:.{digits}f}" if one is not None else "?" for one in value["interval"])
    return f"{scale * value['mean']:.{digits}f} [{low}, {high}]"


def _spread(entries: list[dict[str, Any]], measure: str) -> str:
    """Mean and range over several places."""
    means = [entry[measure]["mean"] for entry in entries if entry.get(measure) and entry[measure]["mean"] is not None]
    if not means:
        return "-"
    scale, digits = (100, 1) if measure.startswith("mc") else (1, 3 if measure == "kl" else 2)
    return f"{scale * np.mean(means):.{digits}f} ({scale * min(means):.{digits}f} to {scale * max(means):.{digits}f})"


def verdict_table(console: Console, found: dict[str, Any], out: Path) -> None:
    """The audit's results: what was measured, then what follows."""
    size, n = found["claims"][0]["n_sites"], found["n"]
    title = (
        f"{found['model']['name']} on {found['dataset']['name']}: {n['test']} test questions, {n['train']} training questions, "
        f"prompt {found['prompt']}"
    )
    table = Table(
        title=title, title_justify="left", caption="mean [95 % interval over questions]; over places: mean (least to most)"
    )
    table.add_column("edit")
    table.add_column("setting")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)

    def row(label: str, setting: str, cells: list[str]) -> None:
        table.add_row(Text(label), Text(setting), *cells)

    for entry in found["baseline"]["base"]:
        row("none (the model as it is)", "", [cell(entry, name) for name in COLUMNS])
    for blind in found["baseline"]["blind"]:
        row(f"question-blind: {blind['name']}", "", [f"{100 * blind['mc1']:.1f}"] + ["-"] * (len(COLUMNS) - 1))
    for entry in found["shift"]:
        row(f"ITI shift at {entry['name'].removeprefix('iti:')}", entry["setting"], [cell(entry, name) for name in COLUMNS])
    if found["shift_random"]:
        row(
            f"ITI shift at {len(found['shift_random'])} random places",
            "best alpha",
            [_spread(found["shift_random"], name) for name in COLUMNS],
        )
    table.add_section()
    for kind, label in (
        ("claimed", "optimal at {}"),
        ("ceiling", "optimal everywhere ({})"),
        ("complement", "optimal everywhere but there"),
    ):
        for entry in found[kind]:
            name = entry["name"].removeprefix("ceiling:")
            row(label.format(name) + f", read {entry['read']}", entry["setting"], [cell(entry, measure) for measure in COLUMNS])
    for read in dict.fromkeys(entry["read"] for entry in found["random"]):
        places = [entry for entry in found["random"] if entry["read"] == read]
        row(f"optimal at {len(places)} random places of {size}, read {read}", "", [_spread(places, name) for name in COLUMNS])
    if found["single"]:
        row(f"optimal at {len(found['single'])} single heads", "", [_spread(found["single"], name) for name in COLUMNS])
    console.print(table)
    for claim in found["claims"]:
        console.print()
        console.print(
            Text(
                f"Claim {claim['name']}: heads {', '.join(claim['location'])}; read {claim['read']}; judged by {found['metric']}"
            )
        )
        for question in ("works", "special", "unique", "necessary"):
            console.print(f"  {question:<10} {MARKS[claim[question]['standing']]:<22} ", Text(claim[question]["sentence"]))
        console.print(Text(claim["sentence"], style="bold"))
    unsettled = [
        entry["name"]
        for kind in ("claimed", "ceiling", "complement", "random")
        for entry in found[kind]
        if False in entry["converged"]
    ]
    if unsettled:
        console.print(Text(f"Training had not settled at {len(unsettled)} place(s): {', '.join(unsettled[:8])}", style="yellow"))
    console.print(Text(f"\n{out / 'verdict.json'}   ({found['seconds']['trials']:.0f} s of trials)"))


def claim_table(console: Console, claim: Claim, top: int) -> None:
    """The ranked heads of a claim."""
    table = Table(title=f"{claim.name}: {claim.about}", title_justify="left")
    for name in ("rank", "head", "validation accuracy", "claimed"):
        table.add_column(name, justify="right")
    for rank, (head, accuracy) in enumerate(list(claim.scores.items())[:top], 1):
        table.add_row(str(rank), head, f"{100 * accuracy:.1f} %", "yes" if head in claim.location.names else "")
    console.print(table)
