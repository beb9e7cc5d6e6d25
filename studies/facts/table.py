"""The tables and the figure of the study, from its rows: `python -m studies.facts.table`.

--rows FOLDER    where traces.jsonl and edits.jsonl are, this study's own by default
--to FOLDER      where facts.md and facts.png go, beside the rows by default
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from locus.errors import UserError
from locus.report.figures.plot import LOOK, STYLE, UNDATED
from studies.facts.facts import FIRST, KINDS, read, traced_layer, usable
from studies.facts.material import HERE
from studies.facts.paired import Paired, by_fact, by_relation, explained, places
from studies.facts.reading import RESTORED

Array = npt.NDArray[np.float64]
Row = dict[str, Any]
WORDS = {
    "mlp": "an MLP",
    "mlp x 5": "five MLPs",
    "resid": "the stream",
    "token replacement": "replaced",
    "Gaussian noise": "noise",
}
BY_LAYER = ("gain", "says", "moved")
ENDS = ("ceiling", "complement")


@dataclass(frozen=True)
class Rows:
    """The rows of a study by what they are of: [fact, what, corruption] -> trace, [fact, kind] -> edits."""

    traces: dict[tuple[str, str, str], Row]
    edits: dict[tuple[str, str], Row]

    @classmethod
    def of(cls, folder: Path) -> "Rows":
        """Read them.

        Raises:
            UserError: if there are none yet.
        """
        traces, edits = read(folder / "traces.jsonl"), read(folder / "edits.jsonl")
        if not traces or not edits:
            raise UserError("traces.jsonl and edits.jsonl with rows", f"none in {folder}", "Run studies.facts.facts first.")
        return cls(
            {(row["fact"], row["what"], row["corruption"]): row for row in traces},
            {(row["fact"], row["kind"]): row for row in edits},
        )

    def edited(self, kind: str) -> list[Row]:
        """Of a kind, those of which every number is defined."""
        return [row for (_, own), row in self.edits.items() if own == kind and not any(None in row[name] for name in BY_LAYER)]

    def paired(self, what: str, corruption: str) -> Paired | None:
        """What tracing and editing found of the same facts, as shares: of what a corruption takes, and of what edits aim at.

        Facts whose traces are not usable are left out. None where fewer than three are left.
        """
        rows = [(row, self.traces.get((row["fact"], what, corruption))) for row in self.edited(what.split(" ")[0])]
        both = [(row, trace) for row, trace in rows if trace is not None and usable(trace)]
        if len(both) < 3:
            return None
        restored = [np.array(trace["restored"]) / trace["whole"] for _, trace in both]
        gain = [np.array(row["gain"]) / row["target"] for row, _ in both]
        return Paired(np.array(restored), np.array(gain), tuple(row["relation"] for row, _ in both))

    def traced(self, what: str) -> tuple[list[Row], list[int]]:
        """The edited facts that have a traced layer by what is restored, and these layers."""
        rows = [(row, self.traces.get((row["fact"], what, FIRST))) for row in self.edited(what.split(" ")[0])]
        both = [(row, trace["restored"]) for row, trace in rows if trace is not None and usable(trace)]
        return [row for row, _ in both], [traced_layer(restored, holding_first(what)) for _, restored in both]


def table(heads: list[str], lines: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *lines])


def holding_first(what: str) -> int:
    """How many of the first layers have layer 0 in what is restored with them."""
    return 1 + RESTORED[what][1] // 2


def correlations(rows: Rows) -> str:
    """By what is restored and corruption: the rank correlation within facts, and how much of it is the fact's own."""
    lines = []
    for what in RESTORED:
        for corruption in dict.fromkeys(one for _, own, one in rows.traces if own == what):
            if (pairs := rows.paired(what, corruption)) is None:
                continue
            cells = [WORDS[what], WORDS[corruption], str(len(pairs.relations)), by_fact(pairs.own)]
            later = pairs.after(holding_first(what))
            cells += [by_relation(pairs.own, pairs.relations), by_fact(later.own)]
            lines.append([*cells, by_fact(pairs.beyond), by_fact(later.beyond)])
    heads = ["restored", "corruption", "facts", "rank correlation, facts drawn", "relations drawn", "without layer 0"]
    return table([*heads, "beyond another fact's tracing", "without layer 0"], lines)


def variances(rows: Rows) -> str:
    """The comparison of Hase et al.: what explains gains, the layer or tracing."""
    lines = []
    for what in RESTORED:
        for corruption in dict.fromkeys(one for _, own, one in rows.traces if own == what):
            if (pairs := rows.paired(what, corruption)) is not None:
                one = explained(pairs)
                cells = [WORDS[what], WORDS[corruption], f"{one.layer:.3f}", f"{one.tracing:.3f}"]
                for part in (one, explained(pairs.after(holding_first(what)))):
                    low, high = part.interval
                    cells += [f"{part.added:.3f} ({low:.3f} to {high:.3f})", f"{part.p:.3f}"]
                lines.append(cells)
    heads = ["restored", "corruption", "layer", "tracing alone", "tracing beyond the layer", "p"]
    return table([*heads, "without layer 0", "p"], lines)


def compared(rows: Rows) -> str:
    """By what is restored: edits at the traced layer, at others, everywhere, and everywhere but there."""
    lines = []
    for what in RESTORED:
        edited, layers = rows.traced(what)
        targets = np.array([row["target"] for row in edited])
        for name, said, scale in (
            ("gain", "gain, share of target", targets),
            ("says", "probability of the new object", np.ones(len(edited))),
            ("moved", "neighbours, nats", np.ones(len(edited))),
        ):
            if edited:
                found = places(np.array([row[name] for row in edited]) / scale[:, None], layers)
                ends = [np.array([row[f"{name}_{end}"] for row in edited], dtype=float) / scale for end in ENDS]
                cells = [by_fact(one) for one in (found.traced, found.others, found.middle, found.best, *ends)]
                lines.append([WORDS[what], said, *cells[:-1], cells[-1] if what in KINDS else "–"])
    heads = ["traced by", "of", "traced layer", "mean of others", "median of others", "best other"]
    return table([*heads, "everywhere", "everywhere but there"], lines)


def leads(rows: Rows) -> str:
    """By what is restored: whether the traced layer is a better place than others, and where the best ones are."""
    lines = []
    for what in RESTORED:
        edited, layers = rows.traced(what)
        if edited:
            gains = np.array([row["gain"] for row in edited]) / np.array([[row["target"]] for row in edited])
            found = places(gains, layers)
            lead, relations = found.traced - found.middle, [row["relation"] for row in edited]
            cells = [WORDS[what], str(len(edited)), by_fact(lead), by_relation(lead, relations), by_fact(found.as_good)]
            cells += [spread(layers), spread(list(gains.argmax(axis=1)))]
            lines.append([*cells, f"{sum(row['settled'] for row in edited)} of {gains.size}"])
    heads = ["traced by", "facts", "traced less median of others, facts drawn", "relations drawn", "others that do as well"]
    return table([*heads, "traced layers", "best layers", "settled searches"], lines)


def spread(layers: list[int]) -> str:
    """Median and quartiles of layers, and the commonest."""
    low, middle, high = np.quantile(layers, [0.25, 0.5, 0.75])
    ((top, times),) = Counter(sorted(map(int, layers))).most_common(1)
    return f"{middle:.0f} ({low:.0f} to {high:.0f}), most often {top} ({times})"


def page(rows: Rows) -> str:
    """All tables, each under what it says."""
    about = Counter(row["relation"] for row in {fact: row for (fact, _), row in rows.edits.items()}.values())
    left = {kind: sum(own == kind for _, own in rows.edits) - len(rows.edited(kind)) for kind in KINDS}
    head = f"Facts: {', '.join(f'{name} {count}' for name, count in about.items())}; "
    head += f"left out, since a number was undefined: {', '.join(f'{kind} {count}' for kind, count in left.items())}."
    parts = [
        "<!-- Written by python -m studies.facts.table. -->",
        head,
        "**Within facts.** Rank correlation over layers of what comes back with what the optimal edit gains.",
        correlations(rows),
        "**Over facts and layers.** Shares of the variance of gains; p of tracing, facts given each other's.",
        variances(rows),
        "**Places.** Means over facts.",
        compared(rows),
        "**The traced layer.** Its gain, and which layers it is and which would have been best.",
        leads(rows),
    ]
    return "\n\n".join(parts) + "\n"


def band(axes: Axes, values: Array, colour: str, label: str, line: str = "-") -> None:
    """Mean over facts and, if it is a full line, quartiles; by layer."""
    layers = np.arange(values.shape[1])
    axes.plot(layers, values.mean(axis=0), line, color=colour, linewidth=1, label=label)
    if line == "-":
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        axes.fill_between(layers, low, high, color=colour, alpha=0.15, linewidth=0)


def drawn(rows: Rows) -> Figure:
    """By kind, above one another: what comes back at each layer, and what the optimal edit there gains."""
    kinds = [kind for kind in KINDS if rows.paired(kind, FIRST) is not None]
    figure = Figure(figsize=(3.2 * max(1, len(kinds)), 3.6), layout="constrained")
    grid = figure.subplots(2, max(1, len(kinds)), sharex=True, sharey="row", squeeze=False)
    for (top, bottom), kind in zip(grid.T, kinds, strict=False):
        for what, line in ((kind, "-"), (f"{kind} x 5", ":")):
            for corruption, role in ((FIRST, "claim"), ("Gaussian noise", "complement")):
                if (pairs := rows.paired(what, corruption)) is not None:
                    band(top, pairs.restored, LOOK[role][0], f"{WORDS[what]}, {WORDS[corruption]}", line)
        top.set_title(WORDS[kind])
        top.legend(frameon=False)
        edited = rows.edited(kind)
        targets = np.array([[row["target"]] for row in edited])
        band(bottom, np.array([row["gain"] for row in edited]) / targets, LOOK["random"][0], "one layer")
        whole = float(np.mean([row["gain_ceiling"] / row["target"] for row in edited]))
        bottom.axhline(whole, color=LOOK["ceiling"][0], linewidth=0.8, linestyle="--", label="everywhere")
        bottom.legend(frameon=False)
        bottom.set_xlabel("layer")
    grid[0, 0].set_ylabel("comes back, share")
    grid[1, 0].set_ylabel("edit gains, share of target")
    return figure


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=HERE, help="for the rows")
    parser.add_argument("--to", type=Path, help="for tables and figure")
    given = parser.parse_args()
    to = given.to or given.rows
    try:
        rows = Rows.of(given.rows)
    except UserError as error:
        raise SystemExit(str(error)) from error
    to.mkdir(parents=True, exist_ok=True)
    (to / "facts.md").write_text(page(rows), encoding="utf-8")
    with matplotlib.rc_context(STYLE):
        drawn(rows).savefig(to / "facts.png", dpi=300, metadata=UNDATED["png"])


if __name__ == "__main__":
    main()
