"""Figures for a paper column (3.3 in): each as SVG, PDF, PNG and the CSV it was drawn from, the same bytes every time.

Colours are Okabe and Ito's, told apart by the colour-blind; shapes repeat what colours say.
"""

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from locus.report import chart
from locus.report.material import Material, heads
from locus.report.words import HEADINGS, PERCENT, visible

WIDTH = 3.3  # inches
STYLE: Any = {
    "font.size": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "locus",
    "pdf.fonttype": 42,
    # A name with a dollar sign is a name.
    "text.parse_math": False,
}
LOOK = {
    "base": ("#000000", "o"),
    "shift": ("#CC79A7", "v"),
    "complement": ("#009E73", "^"),
    "random": ("#7F7F7F", "o"),
    "claim": ("#D55E00", "D"),
    "ceiling": ("#0072B2", "s"),
}
UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
LABELS = {**HEADINGS, "margin": "preference margin, nats"}


@dataclass(frozen=True)
class Drawing:
    """A figure: its name, the rows it is drawn from, its height in inches, and how it is drawn on one pair of axes."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    height: float
    draw: Callable[[Axes, list[tuple[Any, ...]]], None]


def write(material: Material, folder: Path) -> list[str]:
    """Draw every figure that the run has numbers for.

    Returns:
        Names of the figures that were written.
    """
    folder.mkdir(exist_ok=True)
    drawings = [*verdict_figures(material), head_map(material), *trade_offs(material), *random_heads(material)]
    drawings += [single_heads(material), mc_scores(material)]
    written = []
    for drawing in drawings:
        if drawing.rows:
            save(drawing, folder)
            written.append(drawing.name)
    return written


def save(drawing: Drawing, folder: Path) -> None:
    """Write one figure in its four forms."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, drawing.height), layout="constrained")
        drawing.draw(figure.add_subplot(), drawing.rows)
        for ending, metadata in UNDATED.items():
            partial = folder / f".{drawing.name}.{os.getpid()}.{ending}"
            figure.savefig(partial, format=ending, dpi=300, metadata=metadata)
            partial.replace(folder / f"{drawing.name}.{ending}")
    with (folder / f"{drawing.name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(drawing.columns)
        writer.writerows([[_plain(value) for value in row] for row in drawing.rows])


def _plain(value: Any) -> Any:
    """A CSV cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    text = visible(value, 200)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _scale(metric: str) -> float:
    return 100.0 if metric in PERCENT else 1.0


def verdict_figures(material: Material) -> list[Drawing]:
    """Claim and ceiling against the distribution of random Locations, one figure a claim and read mode."""
    found, drawings = material.found, []
    factor = _scale(found["metric"])
    for number, claim in enumerate(found["claims"]):
        rows = [
            (row["label"], row["kind"], factor * row["mean"], factor * row["low"], factor * row["high"])
            for row in chart.verdict_rows(found, claim)
        ]
        places = [
            (f"random place {place}", "random", factor * dot, None, None)
            for row in chart.verdict_rows(found, claim)
            for place, dot in enumerate(row["dots"])
        ]
        good = chart.bound(chart.verdict_rows(found, claim), claim)
        places += [] if good is None else [("as good as the ceiling from", "bound", factor * good, None, None)]

        def draw(axes: Axes, rows: list[tuple[Any, ...]], metric: str = found["metric"]) -> None:
            _intervals(axes, [row for row in rows if row[3] is not None], LABELS[metric])
            _dots(axes, rows)
            for row in rows:
                if row[1] == "bound":
                    axes.axvspan(row[2], axes.get_xlim()[1], color=LOOK["ceiling"][0], alpha=0.1, linewidth=0)
                elif row[1] == "base":
                    axes.axvline(row[2], color=LOOK["base"][0], linewidth=0.6, linestyle="--", zorder=0)

        name = "verdict" if number == 0 else f"verdict-{number + 1}"
        columns = ("edit", "kind", found["metric"], "low", "high")
        drawings.append(Drawing(name, columns, rows + places, 0.5 + 0.27 * len(rows), draw))
    return drawings


def _intervals(axes: Axes, rows: list[tuple[Any, ...]], label: str) -> None:
    """Means with their intervals, the first row on top."""
    for y, (_, kind, mean, low, high) in enumerate(reversed(rows)):
        colour, marker = LOOK[kind]
        if kind == "random":
            axes.plot([mean, mean], [y - 0.32, y + 0.32], color=colour, linewidth=1.4)
        else:
            axes.plot([low, high], [y, y], color=colour, linewidth=1.4, solid_capstyle="round")
            axes.plot([mean], [y], marker=marker, color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.4)
    axes.set_yticks(range(len(rows)), [_brief(row[0]) for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)


def _brief(label: str, width: int = 40) -> str:
    """A label that leaves room for the figure."""
    text = visible(label)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _dots(axes: Axes, rows: list[tuple[Any, ...]]) -> None:
    """The random places, as dots in the row of their mean."""
    kinds = [row[1] for row in rows if row[3] is not None]
    if "random" in kinds:
        y = len(kinds) - 1 - kinds.index("random")
        dots = [row[2] for row in rows if row[3] is None and row[1] == "random"]
        heights = [y + (-0.14, 0.0, 0.14)[index % 3] for index in range(len(dots))]
        axes.scatter(dots, heights, s=7, color=LOOK["random"][0], alpha=0.6, linewidths=0)


def head_map(material: Material) -> Drawing:
    """Layer x head: probe accuracy, claimed heads, heads of random sets, single heads."""
    grid = heads(material)
    rows = [
        (layer, head, one["score"], int(bool(one["claims"])), len(one["random"]), one["alone"])
        for layer, line in enumerate(grid)
        for head, one in enumerate(line)
    ]
    columns = ("layer", "head", "probe accuracy", "claimed", "random sets", "single head")
    height = min(7.0, 1.0 + 0.13 * len(grid) * max(0.5, min(1.5, 12 / max(1, len(grid[0])))))
    return Drawing("head-map", columns, rows, height, _draw_map)


def _draw_map(axes: Axes, rows: list[tuple[Any, ...]]) -> None:
    layers, width = max(row[0] for row in rows) + 1, max(row[1] for row in rows) + 1
    values = [[float("nan")] * width for _ in range(layers)]
    for layer, head, score, *_ in rows:
        values[layer][head] = float("nan") if score is None else 100 * score
    axes.set_facecolor("#F2F2F2")
    if any(row[2] is not None for row in rows):
        image = axes.imshow(values, cmap="Blues", aspect="auto", interpolation="nearest")
        if axes.figure is not None:
            axes.figure.colorbar(image, ax=axes, label="probe accuracy, %", shrink=0.8)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    for kind, column, size in (("claim", 3, 9.0), ("random", 4, 3.0)):
        places = [(row[1], row[0]) for row in rows if row[column]]
        if places:
            xs, ys = zip(*places, strict=True)
            colour, marker = LOOK[kind]
            label = "claimed" if kind == "claim" else "in a random set"
            face = "none" if kind == "claim" else colour
            axes.scatter(xs, ys, s=size * 3, marker=marker, facecolors=face, edgecolors=colour, linewidths=1, label=label)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def trade_offs(material: Material) -> list[Drawing]:
    """ITI against optimal edits: what is gained (margin, MC2) for what is moved (KL), all settings that were run."""
    drawings = []
    for measure in ("margin", "mc2"):
        rows = [
            (row["role"], row["name"], row["setting"], int(row["chosen"]), row["kl"], _scale(measure) * row[measure])
            for row in material.settings
            if row["kl"] is not None and row[measure] is not None
        ]
        columns = ("kind", "arm", "setting", "chosen", "kl", measure)

        def draw(axes: Axes, rows: list[tuple[Any, ...]], measure: str = measure) -> None:
            for kind, label in (("shift", "ITI"), ("claim", "optimal, at the claim"), ("ceiling", "optimal, everywhere")):
                points = sorted((row[4], row[5]) for row in rows if row[0] == kind)
                if points:
                    xs, ys = zip(*points, strict=True)
                    colour, marker = LOOK[kind]
                    line = "-" if kind == "shift" else ""
                    axes.plot(xs, ys, marker=marker, color=colour, linestyle=line, linewidth=0.8, markersize=4, label=label)
            axes.set_xscale("symlog", linthresh=1e-3)
            axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axes.set_xlabel(LABELS["kl"])
            axes.set_ylabel(LABELS[measure])
            axes.legend(frameon=False)

        drawings.append(Drawing(f"iti-optimal-{measure}", columns, rows, 2.3, draw))
    return drawings


def random_heads(material: Material) -> list[Drawing]:
    """Every random Location in order of the main metric, with claim and ceiling, one figure a claim and read mode."""
    found, drawings = material.found, []
    metric = found["metric"]
    for number, claim in enumerate(found["claims"]):

        def mine(kind: str, claim: dict[str, Any] = claim) -> list[dict[str, Any]]:
            whose = ("", claim["name"]) if kind == "ceiling" else (claim["name"],)
            reads = (claim["read"], "layer") if kind == "ceiling" else (claim["read"],)
            return [entry for entry in found[kind] if entry["claim"] in whose and entry["read"] in reads and entry.get(metric)]

        rows = [_bar("random", entry, metric) for entry in sorted(mine("random"), key=lambda entry: entry[metric]["mean"] or 0)]
        rows += [_bar("claim", entry, metric) for entry in mine("claimed") if rows]
        rows += [_bar("ceiling", entry, metric) for entry in mine("ceiling") if rows]
        name = "random-heads" if number == 0 else f"random-heads-{number + 1}"
        drawings.append(Drawing(name, ("kind", "arm", "heads", metric, "low", "high"), rows, 2.0, _points(LABELS[metric])))
    return drawings


def _bar(kind: str, entry: dict[str, Any], metric: str) -> tuple[Any, ...]:
    value, factor = entry[metric], _scale(metric)
    mean, (low, high) = value["mean"] or 0.0, value["interval"]
    where = entry["location"] if isinstance(entry["location"], str) else " ".join(entry["location"])
    low, high = (factor * (mean if one is None else one) for one in (low, high))
    return kind, entry["name"], where, factor * mean, low, high


def _points(label: str, labelled: bool = False) -> Callable[[Axes, list[tuple[Any, ...]]], None]:
    """Draw places side by side with their intervals; claim and ceiling as lines across."""

    def draw(axes: Axes, rows: list[tuple[Any, ...]]) -> None:
        places = [row for row in rows if row[0] == "random"]
        for x, row in enumerate(places):
            axes.plot([x, x], [row[4], row[5]], color=LOOK["random"][0], linewidth=1)
            axes.plot([x], [row[3]], marker="o", color=LOOK["random"][0], markersize=3)
        for kind, style in (("claim", "-"), ("ceiling", "--")):
            for row in [row for row in rows if row[0] == kind][:1]:
                axes.axhline(row[3], color=LOOK[kind][0], linewidth=1, linestyle=style, label=kind)
                axes.axhspan(row[4], row[5], color=LOOK[kind][0], alpha=0.15, linewidth=0)
        if labelled:
            axes.set_xticks(range(len(places)), [row[2] for row in places], rotation=90)
        else:
            axes.set_xticks([])
        axes.set_xlabel("single heads" if labelled else "random Locations, in order")
        axes.set_ylabel(label)
        if len(places) < len(rows):
            axes.legend(frameon=False)

    return draw


def single_heads(material: Material) -> Drawing:
    """Every single head that was edited, in order of the main metric."""
    metric = material.found["metric"]
    entries = [entry for entry in material.found["single"] if entry.get(metric) and entry[metric]["mean"] is not None]
    rows = [_bar("random", entry, metric) for entry in sorted(entries, key=lambda entry: entry[metric]["mean"])]
    rows += [_bar("ceiling", entry, metric) for entry in material.found["ceiling"] if rows and entry.get(metric)]
    return Drawing("single-heads", ("kind", "arm", "heads", metric, "low", "high"), rows, 2.1, _points(LABELS[metric], True))


def mc_scores(material: Material) -> Drawing:
    """MC1 and MC2 of the unedited model, ITI, and the optimal edits."""
    found = material.found
    kinds = [("base", found["baseline"]["base"]), ("shift", found["shift"]), ("complement", found["complement"])]
    kinds += [("claim", found["claimed"]), ("ceiling", found["ceiling"])]
    rows = [
        (f"{measure.upper()} {entry['name']}", kind, 100 * entry[measure]["mean"], *_ends(entry[measure]))
        for measure in ("mc1", "mc2")
        for kind, entries in kinds
        for entry in entries
        if entry.get(measure) and entry[measure]["mean"] is not None
    ]

    def draw(axes: Axes, rows: list[tuple[Any, ...]]) -> None:
        _intervals(axes, rows, "MC1 and MC2, %")

    return Drawing("mc-scores", ("measure and edit", "kind", "percent", "low", "high"), rows, 0.5 + 0.2 * len(rows), draw)


def _ends(value: dict[str, Any]) -> tuple[float, float]:
    low, high = (value["mean"] if one is None else one for one in value["interval"])
    return 100 * low, 100 * high
