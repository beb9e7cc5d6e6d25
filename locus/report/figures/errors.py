"""Figures of how often verdicts are wrong, and of what an audit can find; from numbers alone, whoever counted them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from locus import atomic, stats
from locus.boundary import incoming
from locus.errors import UserError
from locus.records.calibration import Calibration, GradedCalibration
from locus.records.power import Power
from locus.report.figures.plot import Drawing, Rows, brief, save

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v")
GRID = tuple(step / 20 for step in range(1, 11))  # 19 random Locations give p-values in steps of 1/20
Share = tuple[float, float, float]  # a share with the ends of its exact interval


def calibration(alphas: Sequence[float], rates: Mapping[str, Sequence[Share]]) -> Drawing:
    """Share of false claims that a test passes, by its level: at or under the diagonal if the level is honest.

    Args:
        alphas: levels.
        rates: by kind of claim, for every level the share with its exact interval, as fractions.
    """
    rows: Rows = [(kind, alpha, *share) for kind, shares in rates.items() for alpha, share in zip(alphas, shares, strict=True)]

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        axes = panels[0]
        axes.plot([0, max(alphas)], [0, max(alphas)], color="#999999", linewidth=0.8, linestyle="--", label="level")
        kinds = list(dict.fromkeys(row[0] for row in rows))
        for number, kind in enumerate(kinds):
            mine = sorted(row[1:] for row in rows if row[0] == kind)
            xs, shares, lows, highs = zip(*mine, strict=True)
            colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
            axes.fill_between(xs, lows, highs, color=colour, alpha=0.12, linewidth=0)
            axes.plot(xs, shares, color=colour, marker=marker, markersize=3, linewidth=1, label=brief(kind))
        axes.set_xlim(0, None)
        axes.set_ylim(0, None)
        axes.set_xlabel("level of the test")
        axes.set_ylabel("share of false claims passed")
        axes.legend(frameon=False)

    return Drawing("calibration", ("kind", "level", "share", "low", "high"), rows, 2.4, draw)


def error_rates(errors: Sequence[tuple[str, str, Share]], alpha: float) -> Drawing:
    """Share of wrong answers by kind and question with exact intervals, against the level.

    Args:
        errors: kind, question, share with its interval as fractions.
        alpha: the level of the tests.
    """
    rows: Rows = [(kind, question, *share) for kind, question, share in errors]

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        axes = panels[0]
        kinds, questions = (list(dict.fromkeys(row[place] for row in rows)) for place in (0, 1))
        step = 0.8 / len(questions)
        for number, question in enumerate(questions):
            mine = [row for row in rows if row[1] == question]
            ys = [len(kinds) - 1 - kinds.index(row[0]) + 0.4 - step * (number + 0.5) for row in mine]
            colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
            axes.hlines(ys, [100 * row[3] for row in mine], [100 * row[4] for row in mine], color=colour, linewidth=0.8)
            axes.plot(
                [100 * row[2] for row in mine], ys, marker, color=colour, markersize=3, label=brief(question), clip_on=False
            )
        axes.axvline(100 * alpha, color="#999999", linewidth=0.8, linestyle="--", label="level")
        axes.set_yticks(range(len(kinds)), [brief(kind) for kind in reversed(kinds)])
        axes.set_xlim(0, None)
        axes.set_xlabel("wrong answers, % of audits")
        if axes.figure is not None:
            axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)

    height = 0.7 + 0.3 * len({row[0] for row in rows})
    return Drawing("calibration-errors", ("kind", "question", "share", "low", "high"), rows, height, draw)


def power(effects: Sequence[float], curves: Mapping[int, Sequence[float]], want: float = 0.8) -> Drawing:
    """Power of the rank test by effect, and by the number of random Locations.

    Args:
        effects: of the claim above random Locations, in sd between Locations.
        curves: by number of random Locations, the power at every effect, as a fraction.
        want: the power that is wished for.
    """
    rows: Rows = [
        (count, effect, value) for count, values in curves.items() for effect, value in zip(effects, values, strict=True)
    ]

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        counts = sorted({row[0] for row in rows})
        for number, count in enumerate(counts):
            xs, ys = zip(*sorted((row[1], row[2]) for row in rows if row[0] == count), strict=True)
            panels[0].plot(xs, ys, color=LINES[number % len(LINES)], linewidth=1, label=str(count))
        for number, effect in enumerate(one for one in (1.5, 2.0, 2.5, 3.0) if one in effects):
            xs, ys = zip(*sorted((row[0], row[2]) for row in rows if row[1] == effect), strict=True)
            marker, colour = MARKERS[number % len(MARKERS)], LINES[number % len(LINES)]
            panels[1].plot(xs, ys, color=colour, marker=marker, markersize=3, linewidth=0.8, label=f"{effect:g} sd")
        panels[0].set_xlabel("effect, sd between Locations")
        panels[1].set_xlabel("random Locations")
        panels[0].set_ylabel("power")
        panels[0].legend(frameon=False, title="random Locations", title_fontsize=6)
        panels[1].legend(frameon=False, title="effect", title_fontsize=6)
        for panel in panels:
            panel.axhline(want, color="#999999", linewidth=0.8, linestyle="--")
            panel.set_ylim(0, 1.02)

    return Drawing("power", ("random Locations", "effect", "power"), rows, 2.2, draw, panels=2)


def graded(curves: Mapping[tuple[int, str], Sequence[tuple[float, *Share]]]) -> Drawing:
    """How often each question is answered yes, by the share of the behaviour that the claimed head carries.

    Args:
        curves: by number of random Locations and question, the share s with that of audits and its exact interval, as fractions.
    """
    rows: Rows = [(*key, *point) for key, points in curves.items() for point in points]

    def draw(panels: Sequence[Axes], rows: Rows) -> None:
        counts = sorted({row[0] for row in rows})
        questions = list(dict.fromkeys(row[1] for row in rows))
        for panel, count in zip(panels, counts, strict=True):
            for number, question in enumerate(questions):
                xs, *ends = zip(*sorted(row[2:] for row in rows if row[:2] == (count, question)), strict=True)
                shares, lows, highs = ([100 * one for one in values] for values in ends)
                colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
                panel.fill_between(xs, lows, highs, color=colour, alpha=0.12, linewidth=0)
                panel.plot(xs, shares, color=colour, marker=marker, markersize=3, linewidth=1, label=brief(question))
            panel.set_ylim(0, 102)
            panel.set_xlabel("share of the claimed head")
            panel.set_title(f"{count} random Locations")
        panels[0].set_ylabel("answered yes, % of audits")
        panels[0].legend(frameon=False)

    return Drawing(
        "graded", ("random Locations", "question", "s", "share", "low", "high"), rows, 2.4, draw, len({row[0] for row in rows})
    )


def write(path: Path) -> list[str]:
    """Draw what `locus calibrate` or `locus power` wrote, into `figures/` beside it.

    Args:
        path: a calibration's folder, its calibration.json or graded.json, or a power's JSON file.

    Returns:
        Names of the figures.

    Raises:
        UserError: if it is neither.
    """
    named = "graded.json" if (path / "graded.json").is_file() else "calibration.json"
    file = path / named if path.is_dir() else path
    try:
        content = incoming.read_json(file, "what locus calibrate or locus power wrote")
        if "cells" in content:
            drawings = [of_graded(GradedCalibration.parse(content))]
        else:
            drawings = of_calibration(Calibration.parse(content)) if "rows" in content else [of_power(content)]
        folder = atomic.folder(file.parent / "figures")
        for drawing in drawings:
            save(drawing, folder)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(
            "what locus calibrate or locus power wrote", f"{path} ({type(error).__name__}: {str(error)[:200]})", "Check it."
        ) from error
    return [drawing.name for drawing in drawings]


def of_power(content: Power) -> Drawing:
    """The power figure of a `locus power` file."""
    return power(content["effects"], {int(count): values for count, values in content["curve"].items()}, content["want"])


def of_graded(tallied: GradedCalibration) -> Drawing:
    """The figure of a graded.json: the answers about the head that carries the share."""
    curves: dict[tuple[int, str], list[tuple[float, *Share]]] = {}
    for cell in tallied.cells:
        if cell.claim == "planted":
            point = (cell.percent / 100, *_share(cell.all.supported, cell.n))
            curves.setdefault((cell.random, cell.question), []).append(point)
    return graded(curves)


def of_calibration(tallied: Calibration, metric: str = "mc2", read: str = "layer") -> list[Drawing]:
    """Both calibration figures of a calibration.json: rank p-values of places that are not special, and wrong answers."""
    rows = [row for row in tallied.rows if (row.metric, row.read) == (metric, read) and row.expected]
    values: dict[str, list[float]] = {}
    audits: dict[str, int] = {}  # with those found invalid, in which nothing passes and no p is given
    for row in rows:
        if row.question == "special" and row.expected != "supported":
            name = "shuffled labels" if row.kind == "shuffled" else "not the place"
            values.setdefault(name, []).extend(tallied.rank_p.get(f"{row.kind} {row.claim}", ()))
            audits[name] = audits.get(name, 0) + row.n
    rates = {name: [_share(sum(p <= alpha + 1e-12 for p in ps), audits[name]) for alpha in GRID] for name, ps in values.items()}
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        wrong = counts.setdefault((row.kind, row.question), [0, 0])
        wrong[0] += row.all.wrong.count if row.all.wrong else 0
        wrong[1] += row.n
    errors = [(kind, question, _share(*wrong)) for (kind, question), wrong in counts.items()]
    return [calibration(GRID, rates), error_rates(errors, tallied.settings.alpha)]


def _share(count: int, n: int) -> Share:
    """A share with its exact 95 % interval."""
    share = stats.clopper_pearson(count, n)
    return share.value, share.low, share.high
