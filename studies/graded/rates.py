"""Count how often each answer is wrong over all shares: python -m studies.graded.rates writes locus/report/rates.json."""

import json
from pathlib import Path

from locus.calibrate.table import share_of
from locus.records.calibration import GradedCalibration, ShareCount
from locus.records.findings import QUESTIONS
from locus.report.rates import PATH, MeasuredRates, Rates

HERE = Path(__file__).parent
FOLDERS = ("newton-19", "newton-99")


def main() -> None:
    """Write what follows from the folders that are there."""
    PATH.write_text(json.dumps(counted().to_json(), indent=1) + "\n", encoding="utf-8")


def counted() -> MeasuredRates:
    """Of each folder, over all shares and claims of which the right answer is known."""
    return MeasuredRates(kinds=tuple(_rates(name) for name in FOLDERS if (HERE / name / "graded.json").is_file()))


def _rates(name: str) -> Rates:
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
        settings=found.settings,
        source=f"studies/graded/{name}",
        false=over("false", "refuted"),
        missed=over("missed", "supported"),
    )


if __name__ == "__main__":
    main()
