"""Draw where random Locations lie beside the claim, in models whose true location is known and in a real one.

`python studies/what-editing-shows/draw.py [--to FOLDER]`, from the committed verdicts; each study is a row. The scale is the
gain in preference margin over no edit, as a share of the gain of the optimal edit everywhere.
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from locus.report.figures.plot import LOOK, STYLE, UNDATED, Rows

HERE = Path(__file__).parent
FIGURES = HERE.parents[1] / "docs" / "figures"
STUDIES = {
    "planted: one head": HERE / "localized",
    "planted: two heads, both needed": HERE / "conjunctive",
    "planted: one of two, either enough": HERE / "redundant",
    "planted: any head will do": HERE / "distributed",
    "planted: heads a probe picks": HERE / "decoy",
    "SmolLM2, TruthfulQA: heads a probe picks": HERE.parent / "truthfulqa",
    "SmolLM2, indirect object: heads that patching finds": HERE.parent / "ioi",
}
PLANTED = "planted: heads a probe picks"  # the last whose true location is known


def rows() -> Rows:
    """Study, kind of Location, name, share of the ceiling's gain."""
    shares: Rows = []
    for study, folder in STUDIES.items():
        verdict = json.loads((folder / "verdict.json").read_text())
        whole = verdict["ceiling"][0]["margin"]["mean"]
        for kind, arms in (("random", verdict["random"]), ("complement", verdict["complement"]), ("claim", verdict["claimed"])):
            shares += [(study, kind, arm["name"], arm["margin"]["mean"] / whole) for arm in arms]
    return shares


def draw(axes: Axes, shares: Rows) -> None:
    """A line a study."""
    names = list(STUDIES)
    axes.axvspan(0.75, 1.25, color=LOOK["ceiling"][0], alpha=0.1, linewidth=0)
    axes.axvline(0, color="black", linewidth=0.6, linestyle="--")
    shifts = np.random.default_rng(0)
    for kind, size in (("random", 7), ("complement", 12), ("claim", 14)):
        color, marker = LOOK[kind]
        mine = [(share, names.index(study)) for study, which, _, share in shares if which == kind]
        spread = shifts.uniform(-0.22, 0.22, len(mine)) if kind == "random" else np.zeros(len(mine))
        x, y = [share for share, _ in mine], [place + move for (_, place), move in zip(mine, spread, strict=True)]
        axes.scatter(x, y, s=size, color=color, marker=marker, alpha=0.5 if kind == "random" else 1, linewidth=0, zorder=3)
    axes.axhline(names.index(PLANTED) + 0.5, color="#BBBBBB", linewidth=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("gain of the optimal edit, as a share of that everywhere")
    for label, kind in (("claim", "claim"), ("random Locations", "random"), ("everywhere but the claim", "complement")):
        axes.scatter([], [], color=LOOK[kind][0], marker=LOOK[kind][1], s=12, linewidth=0, label=label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=3, frameon=False, handletextpad=0.2, columnspacing=1.0)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="folder for figure and table; without it those of the project are drawn anew")
    target = parser.parse_args().to
    to, table = target or FIGURES, target or HERE
    to.mkdir(parents=True, exist_ok=True)
    shares = rows()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.6), layout="constrained")
        draw(figure.add_subplot(), shares)
        figure.savefig(to / "what-editing-shows.png", dpi=300, metadata=UNDATED["png"])
    with (table / "what-editing-shows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study", "kind", "location", "share of the gain everywhere"), *shares])


if __name__ == "__main__":
    main()
