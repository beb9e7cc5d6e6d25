"""The figures of one run: the verdict, the map of heads, and the five of the paper.

Source: Wang & Veitch 2025, figures 1 to 5. True*Info is drawn where the run's answers were judged, else MC2; what a panel
shows is on its axis.
"""

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes

from locus.records.place import Measured, PlaceResult
from locus.report import chart
from locus.report.figures.plot import CALLED, LOOK, Drawing, Rows, axis, called, drift_axis, intervals, legend, points, scale
from locus.report.material import Material, SettingRow, sites
from locus.report.places import Place
from locus.sites.space import SiteSpace

STRENGTH, SCORE, TRUTH, INFO, MC2, KL = range(4, 10)  # columns of what was tried


def drawings(material: Material) -> list[Drawing]:
    """Every figure; those without rows have nothing to show."""
    first = [*verdict_figures(material), head_map(material), iti(material), optimal(material), *random_heads(material)]
    return [*first, single_heads(material), mc_scores(material)]


def main_score(material: Material) -> str:
    """True*Info if answers were judged, else MC2."""
    return "true_info" if any(row.means["true_info"] is not None for row in material.settings) else "mc2"


def verdict_figures(material: Material) -> list[Drawing]:
    """Claim and ceiling against the distribution of random Locations, one figure a claim and read mode."""
    metric, figures = material.verdict.metric, []
    factor = scale(metric)
    for number, claim in enumerate(material.verdict.claims):
        shown = chart.verdict_rows(material, claim)
        rows: Rows = [(row.label, row.kind, factor * row.mean, factor * row.low, factor * row.high) for row in shown]
        height = 0.5 + 0.27 * len(rows)
        for row in shown:
            rows += [(f"random Location {place}", "dot", factor * dot, None, None) for place, dot in enumerate(row.dots)]
        if (good := chart.bound(shown, claim, material.verdict.gain)) is not None:
            rows.append(("as good as the ceiling from", "bound", factor * good, None, None))
        name = "verdict" if number == 0 else f"verdict-{number + 1}"
        figures.append(Drawing(name, ("edit", "kind", metric, "low", "high"), rows, height, _verdict(axis(metric))))
    return figures


def _verdict(label: str) -> Callable[[Sequence[Axes], Rows], None]:
    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        axes = panels[0]
        whole = [row for row in rows if row[3] is not None]
        intervals(axes, whole, label)
        _dots(axes, [row[1] for row in whole], [row[2] for row in rows if row[1] == "dot"])
        for row in rows:
            if row[1] == "bound":
                axes.axvspan(row[2], axes.get_xlim()[1], color=LOOK["ceiling"][0], alpha=0.1, linewidth=0)
            elif row[1] == "base":
                axes.axvline(row[2], color=LOOK["base"][0], linewidth=0.6, linestyle="--", zorder=0)

    return draw


def _dots(axes: Axes, kinds: Sequence[str], dots: Sequence[float]) -> None:
    """Every random Location as a dot, in the row of the random Locations if there is one."""
    if "random" in kinds:
        y = len(kinds) - 1 - kinds.index("random")
        heights = [y + (-0.14, 0.0, 0.14)[index % 3] for index in range(len(dots))]
        axes.scatter(dots, heights, s=7, color=LOOK["random"][0], alpha=0.6, linewidths=0)


def head_map(material: Material) -> Drawing:
    """Layers by heads, or other sites: probe accuracy, what is claimed, in random Locations, and edited alone.

    Where layers have one site it is a strip; where they have very many only what is named is drawn.
    """
    grid, space = sites(material), material.space
    rows: Rows = [
        (layer, one.index, one.score, int(bool(one.claims)), len(one.random), one.alone)
        for layer, line in enumerate(grid)
        for one in line
    ]
    noun = space.kind.noun
    columns = ("layer", noun, "probe accuracy", "claimed", "random Locations", f"single {noun}")
    height = min(7.0, 1.0 + 0.13 * len(grid) * max(0.5, min(1.5, 12 / max(1, *space.counts))))
    return Drawing("head-map", columns, rows, height, partial(_draw_map, space=space))


def _draw_map(panels: Sequence[Axes], rows: Rows, space: SiteSpace) -> None:
    axes = panels[0]
    layers, width = len(space.counts), max(space.counts)
    values = [[float("nan")] * width for _ in range(layers)]
    for layer, index, score, *_ in rows:
        values[layer][index] = float("nan") if score is None else 100 * score
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
            label = "claimed" if kind == "claim" else "in a random Location"
            face = "none" if kind == "claim" else colour
            axes.scatter(xs, ys, s=size * 3, marker=marker, facecolors=face, edgecolors=colour, linewidths=1, label=label)
    axes.set_xlabel(space.kind.noun)
    axes.set_ylabel("layer")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _tried(material: Material, roles: Sequence[str]) -> Rows:
    """(kind, arm, setting, chosen, strength, score, truth, info, mc2, kl) of everything tried in some roles."""
    measure = main_score(material)

    def value(row: SettingRow, name: str) -> float | None:
        mean = row.means[name]
        return None if mean is None else scale(name) * mean

    return [
        (
            *(row.role, row.name, row.setting, int(row.chosen), row.strength),
            *(value(row, name) for name in (measure, "truth", "info", "mc2", "kl")),
        )
        for row in material.settings
        if row.role in roles and row.means[measure] is not None
    ]


def _pairs(rows: Rows, kind: str, x: int, y: int) -> dict[str, list[tuple[float, float]]]:
    """(x, y) of one kind, by arm."""
    arms: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row[0] == kind:
            arms.setdefault(row[1], []).append((row[x], row[y]))
    return arms


def _trade_offs(shown: Sequence[tuple[int, int, str]], kinds: Sequence[str]) -> Callable[[Sequence[Axes], Rows], None]:
    """Panels of one column of the rows against another, kind by kind."""

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        for panel, (x, y, label) in zip(panels, shown, strict=True):
            for kind in kinds:
                named: set[str] = set()
                for arm, pairs in _pairs(rows, kind, x, y).items():
                    line, label = "-" if kind.startswith("shift") else "", called(kind, arm)
                    points(panel, kind, pairs, line, "_" if label in named else label)
                    named.add(label)
            panel.set_ylabel(label)
            if x == KL:
                drift_axis(panel)
            else:
                panel.set_xlabel("ITI strength, standard deviations" if x == STRENGTH else axis("truth"))
        legend(panels[0])

    return draw


def _trade_off_figure(material: Material, name: str, kinds: Sequence[str], strengths: bool) -> Drawing:
    """The score by ITI's strength, or by KL; informative against true, if judged; MC2 by KL. Only what was measured."""
    rows, score = _tried(material, kinds), main_score(material)
    judged, drift = score == "true_info", any(row[KL] is not None for row in rows)
    shown = [(STRENGTH, SCORE, axis(score))] if strengths else [(KL, SCORE, axis(score))] if drift else []
    shown += [(TRUTH, INFO, axis("info"))] if judged else []
    shown += [(KL, MC2, axis("mc2"))] if drift and (judged or strengths) else []
    columns = ("kind", "arm", "setting", "chosen", "strength", score, "truth", "info", "mc2", "kl")
    return Drawing(name, columns, rows if shown else [], 2.1, _trade_offs(shown, kinds), len(shown))


def iti(material: Material) -> Drawing:
    """Figure 1: ITI at the claim, at random heads and at all heads if asked for, by strength, and what it costs."""
    return _trade_off_figure(material, "iti", ("shift-random", "shift-everywhere", "shift"), strengths=True)


def optimal(material: Material) -> Drawing:
    """Figure 2: optimal edits against ITI at the same heads."""
    return _trade_off_figure(material, "optimal-iti", ("shift", "ceiling", "claim"), strengths=False)


def random_heads(material: Material) -> list[Drawing]:
    """Figure 3: the optimal edit at every random Location, in order, with claim and ceiling; one figure a claim and read mode."""
    places, figures = material.places, []
    metric = _measured(places["random"], material)
    for number, claim in enumerate(material.verdict.claims):
        mine = {
            kind: [place for place in places[kind] if place.claim == claim.name and place.read == claim.read]
            for kind in ("random", "claimed")
        }
        rows = _places(mine["random"], "random", metric)
        rows += _places(mine["claimed"], "claim", metric) + _places(places["ceiling"], "ceiling", metric) if rows else []
        name = "random-heads" if number == 0 else f"random-heads-{number + 1}"
        figures.append(_distribution(name, rows, metric, "random Locations, in order"))
    return figures


def single_heads(material: Material) -> Drawing:
    """Figure 4: the optimal edit at every single head that was tried, in order, and what it costs."""
    metric = _measured(material.places["single"], material)
    rows = _places(material.places["single"], "single", metric)
    rows += _places(material.places["ceiling"], "ceiling", metric) if rows else []
    return _distribution("single-heads", rows, metric, "single sites, in order")


def _measured(places: Sequence[Place], material: Material) -> str:
    """The main score if these places have it, else the verdict's metric."""
    metric = main_score(material)
    return metric if any(metric in place.measures for place in places) else material.verdict.metric


def _places(places: Sequence[Place], kind: str, metric: str) -> Rows:
    """(kind, arm, heads, mean, low, high, KL) in order of the mean; intervals are of the difference from no edit, if known."""
    rows: Rows = []
    for place in places:
        if (mean := place.mean(metric)) is not None:
            ends = [scale(metric) * one for one in place.ends(metric)]
            location = place.result.location
            where = location if isinstance(location, str) else " ".join(location)
            rows.append((kind, place.name, where, scale(metric) * mean, *ends, place.mean("kl")))
    return sorted(rows, key=lambda row: row[3])


def _distribution(name: str, rows: Rows, metric: str, label: str) -> Drawing:
    """Places side by side with their intervals, claim and ceiling across; and, where it was measured, the trade-off with KL."""

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        axes = panels[0]
        places = [row for row in rows if row[0] in ("random", "single")]
        for x, row in enumerate(places):
            colour = LOOK[row[0]][0]
            axes.plot([x, x], [row[4], row[5]], color=colour, linewidth=0.8)
            axes.plot([x], [row[3]], marker="o", color=colour, markersize=2.5)
        for kind, style in (("claim", "-"), ("ceiling", "--")):
            for row in [row for row in rows if row[0] == kind][:1]:
                axes.axhline(row[3], color=LOOK[kind][0], linewidth=1, linestyle=style, label=CALLED[kind])
                axes.axhspan(row[4], row[5], color=LOOK[kind][0], alpha=0.1, linewidth=0)
        axes.set_xticks([])
        axes.set_xlabel(label)
        axes.set_ylabel(axis(metric))
        legend(axes)
        low, high = axes.get_ylim()
        for axes in panels[1:]:
            for kind in ("random", "single", "ceiling", "claim"):
                points(axes, kind, [(row[6], row[3]) for row in rows if row[0] == kind])
            axes.set_ylim(low, high)
            drift_axis(axes)

    panels = 2 if any(row[6] is not None for row in rows) else 1
    return Drawing(name, ("kind", "arm", "heads", metric, "low", "high", "kl"), rows, 2.1, draw, panels)


def mc_scores(material: Material) -> Drawing:
    """Figure 5: MC1 and MC2 of the unedited model, ITI, and the optimal edits; of random Locations the mean and every dot."""
    verdict = material.verdict
    kinds = [("base", verdict.baseline.base), ("shift", verdict.shift), ("complement", verdict.complement), ("random", ())]
    rows: Rows = []
    for measure in ("mc1", "mc2"):
        held = [(place.name, 100 * mean) for place in verdict.random if (mean := place.mean(measure)) is not None]
        means = [mean for _, mean in held]
        for kind, places in [*kinds, ("claim", verdict.claimed), ("ceiling", verdict.ceiling)]:
            rows += [
                (_edit(kind, place, len(places)), kind, 100 * mean, *_ends(mean, place.measures[measure]), measure.upper())
                for place in places
                if (mean := place.mean(measure)) is not None
            ]
            if kind == "random" and means:
                rows.append((CALLED[kind], kind, sum(means) / len(means), min(means), max(means), measure.upper()))
        rows += [(name, "dot", mean, None, None, measure.upper()) for name, mean in held]
    shown = list(dict.fromkeys(row[5] for row in rows))

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        for place, (panel, measure) in enumerate(zip(panels, shown, strict=True)):
            mine = [row[:5] for row in rows if row[5] == measure]
            whole = [row for row in mine if row[3] is not None]
            intervals(panel, whole, f"{measure}, %")
            _dots(panel, [row[1] for row in whole], [row[2] for row in mine if row[1] == "dot"])
            panel.tick_params(labelleft=place == 0)

    height = 0.5 + 0.22 * sum(row[3] is not None for row in rows) / max(1, len(shown))
    return Drawing("mc-scores", ("edit", "kind", "percent", "low", "high", "measure"), rows, height, draw, len(shown))


def _edit(kind: str, place: PlaceResult, several: int) -> str:
    """An edit in words, with its claim and read mode (or its form) where there are several of its kind."""
    parts = [called(kind, place.name), place.setting if kind == "shift" else ""]
    if several > 1:
        parts += [place.name.removeprefix("iti:").removeprefix("ceiling:"), f"read {place.read}" if place.read else ""]
    return ", ".join(part for part in parts if part)


def _ends(mean: float, measured: Measured) -> tuple[float, float]:
    low, high = (mean if one is None else one for one in measured.interval)
    return 100 * low, 100 * high
