"""`python -m studies.sited.table`: the calibrations of all kinds of sites side by side, in docs/verdicts.md."""

import json
from pathlib import Path

from locus.calibrate.table import AIMS, aims, share_of
from locus.records.calibration import Calibration, ShareCount
from locus.sites.kind import kinds

HERE, METRIC = Path(__file__).parent, "margin"
PAGE = HERE.parents[1] / "docs" / "verdicts.md"
BEGIN, END = "<!-- kinds -->", "<!-- end of kinds -->"


def table() -> str:
    """What is counted that matters most: of how many, with the exact 95 % interval in percent."""
    names = [kind.name for kind in kinds() if (HERE / kind.name / "calibration.json").is_file()]
    found = {name: Calibration.parse(json.loads((HERE / name / "calibration.json").read_text())) for name in names}
    counts = {name: dict(aims(one.rows, METRIC)) for name, one in found.items()}
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    lines.append(f"| planted models | {' | '.join(str(one.draws) for one in found.values())} |")
    for aim in AIMS:
        cells = []
        for name in names:
            own = next(kind for kind in kinds() if kind.name == name)
            count = counts[name].get(f"{name}: {aim.label.format(noun=own.noun, nouns=own.nouns)}")
            cells.append(_cell(count))
        if set(cells) != {"-"}:
            lines.append(f"| {aim.label.format(noun='site', nouns='sites')} | {' | '.join(cells)} |")
    lines.append(f"| special said of any claim where labels are shuffled | {' | '.join(map(_shuffled, found.values()))} |")
    return "\n".join(lines) + "\n"


def _shuffled(one: Calibration) -> str:
    rows = [row for row in one.rows if row.metric == METRIC and row.kind.endswith("shuffled") and row.question == "special"]
    return _cell(share_of(sum(row.all.of("supported") for row in rows), sum(row.n for row in rows)))


def _cell(count: ShareCount | None) -> str:
    return "-" if count is None else f"{count.count} of {count.n} [{100 * count.low:.1f}, {100 * count.high:.1f}]"


def main() -> None:
    """Put the table into its page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
