"""Count how often each answer is wrong where the truth is known: python -m studies.graded.rates writes locus/report/rates.json.

Of heads over all shares of the graded plants; of other kinds of sites over their planted models, but for the shuffled ones, of
which no answer is right.
"""

import json
from pathlib import Path

from locus.calibrate.sited import ROUNDS
from locus.calibrate.table import share_of
from locus.records.calibration import Calibration, GradedCalibration, GradedSettings, ShareCount
from locus.records.findings import QUESTIONS
from locus.records.place import NEAR
from locus.report.rates import PATH, MeasuredRates, Rates
from locus.sites.kind import default, kinds

HERE = Path(__file__).parent
FOLDERS = ("newton-19", "newton-99")
SITED, METRIC = HERE.parent / "sited", "margin"


def main() -> None:
    """Write what follows from the folders that are there."""
    PATH.write_text(json.dumps(counted().to_json(), indent=1) + "\n", encoding="utf-8")


def counted() -> MeasuredRates:
    """Of each folder, over all claims of which the right answer is known."""
    graded = [_graded(name) for name in FOLDERS if (HERE / name / "graded.json").is_file()]
    sited = [_sited(kind.name) for kind in kinds() if kind.calibrated and kind != default()]
    return MeasuredRates(kinds=(*graded, *sited))


def _sited(name: str) -> Rates:
    """Of a kind of site, with all random Locations."""
    found = Calibration.parse(json.loads((SITED / name / "calibration.json").read_text()))
    rows = [row for row in found.rows if row.metric == METRIC and not row.kind.endswith("shuffled")]
    known, written = found.settings, {"metric": METRIC, "search": "newton", "steps": ROUNDS, "near": NEAR}

    def over(standing: str, expected: str) -> dict[str, ShareCount]:
        sums = {}
        for question in QUESTIONS:
            own = [row for row in rows if (row.question, row.expected) == (question, expected)]
            if n := sum(row.n for row in own):
                sums[question] = share_of(sum(row.all.of(standing) for row in own), n)
        return sums

    return Rates(
        kind=name,
        settings=GradedSettings.parse({**known.to_json(), **written}),
        source=f"studies/sited/{name}",
        false=over("supported", "refuted"),
        missed=over("refuted", "supported"),
    )


def _graded(name: str) -> Rates:
    found = GradedCalibration.parse(json.loads((HERE / name / "graded.json").read_text()))
    cells = [cell for cell in found.cells if cell.random == found.settings.random]

    def over(part: str, expected: str) -> dict[str, ShareCount]:
        """By question, the audits of which the right answer is this one; none where there are no such audits."""
        sums = {}
        for question in QUESTIONS:
            counts = [getattr(cell, part) for cell in cells if cell.question == question and cell.expected == expected]
            if n := sum(one.n for one in counts):
                sums[question] = share_of(sum(one.count for one in counts), n)
        return sums

    return Rates(
        kind=default().name,
        settings=found.settings,
        source=f"studies/graded/{name}",
        false=over("false", "refuted"),
        missed=over("missed", "supported"),
    )


if __name__ == "__main__":
    main()
