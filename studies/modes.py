"""Tables of the studies read-modes and objectives, from their committed scores.

`python studies/modes.py > studies/read-modes/numbers.md`; gains over no edit and differences, with 90 % intervals.
"""

from pathlib import Path

import numpy as np
from scores import NAMES, SCALE, StudyScores, told

HERE = Path(__file__).parent
MEASURES = ("margin", "mc2")


def gain(scores: StudyScores, values: np.ndarray, measure: str) -> str:
    """The mean gain of some places over no edit."""
    return told(scores.difference(values, scores.of("base", measure)), measure).split(": ")[1]


def line(name: str, scores: StudyScores, role: str, **which: str) -> str:
    """A row: an edit's gain by each measure; of several places with the least and the most."""
    cells = [name]
    for measure in MEASURES:
        values = scores.of(role, measure, **which)
        cell = gain(scores, values, measure)
        if len(values) > 1:
            each = (values - scores.of("base", measure)).mean(axis=1) * SCALE[measure][0]
            cell += f"; {each.min():.{SCALE[measure][1]}f} to {each.max():.{SCALE[measure][1]}f}"
        cells.append(cell)
    return f"| {' | '.join(cells)} |"


def lead(name: str, scores: StudyScores, one: tuple[str, dict[str, str]], other: tuple[str, dict[str, str]]) -> str:
    """A row: by how much some edits lead others, by each measure."""
    sides = {m: [scores.of(role, m, **which) for role, which in (one, other)] for m in MEASURES}
    cells = [told(scores.difference(*both), measure).split(": ")[1] for measure, both in sides.items()]
    return f"| *{name}* | {' | '.join(cells)} |"


def head(title: str) -> list[str]:
    """A heading and the first lines of its table."""
    return [f"\n## {title}\n", f"| | {' | '.join(MEASURES)} |", "| --- | --- | --- |"]


def rows() -> list[str]:
    """All lines."""
    modes, means = StudyScores(HERE / "read-modes"), StudyScores(HERE / "objectives")
    lines = head("What an edit reads: gains over no edit")
    for read in ("layer", "heads", "constant"):
        for role, called in (("claim", "claim"), ("random", "random sets"), ("complement", "everywhere but there")):
            lines.append(line(f"{called}, read {read}", modes, role, read=read))
        lines.append(lead(f"claim less random, {read}", modes, ("claim", {"read": read}), ("random", {"read": read})))
    lines += head("The optimal edit everywhere as W b and free")
    forms = [("ceiling", {"arm": f"ceiling:{form}"}) for form in ("free", "heads")]
    lines += [line(which["arm"], modes, role, **which) for role, which in forms]
    lines.append(lead("free less W b", modes, *forms))
    lines += head("ITI at the claim, at a random set and at all heads")
    settings = sorted({key[3] for key in modes.arms if key[0] == "shift"}, key=lambda text: float(text.split("=")[1]))
    for role, called in (("shift", "claim"), ("shift-random", "a random set"), ("shift-everywhere", "all heads")):
        lines += [line(f"{called}, {setting}", modes, role, setting=setting) for setting in settings]
    lines += head("IPO on sums and on means of log-probs")
    for scores, setting, words in ((modes, "tau=0.1", "sum"), (means, "tau=0.1", "mean"), (means, "tau=1", "mean")):
        which = {"setting": setting, "read": "layer"}
        for role, called in (("claim", "claim"), ("random", "random sets"), ("complement", "everywhere but there")):
            lines.append(line(f"{called}, {words}, {setting}", scores, role, **which))
        lines.append(line(f"everywhere, {words}, {setting}", scores, "ceiling", setting=setting, arm="ceiling:heads"))
        lines.append(lead(f"claim less random, {words}, {setting}", scores, ("claim", which), ("random", which)))
    return lines


def main() -> None:
    """Print the tables."""
    print("# Read modes, forms and objectives\n\nWritten by `studies/modes.py` from committed scores.")
    for row in rows():
        for name, called in NAMES.items():
            row = row.replace(name, called)
        print(row)


if __name__ == "__main__":
    main()
