"""Records: what is written down of a run, and how it is read again."""

from locus.records.calibration import Calibration, GradedCalibration
from locus.records.cost import Cost, Seconds, Took
from locus.records.findings import ClaimVerdict, Finding, Findings, Standing
from locus.records.patch import PatchRecord
from locus.records.place import JudgedShares, Measured, PlaceResult
from locus.records.plan import PlanRecord, TrialRecord
from locus.records.result import TrialResult
from locus.records.verdict import Verdict

__all__ = [
    "Calibration",
    "ClaimVerdict",
    "Cost",
    "Finding",
    "Findings",
    "GradedCalibration",
    "JudgedShares",
    "Measured",
    "PatchRecord",
    "PlaceResult",
    "PlanRecord",
    "Seconds",
    "Standing",
    "Took",
    "TrialRecord",
    "TrialResult",
    "Verdict",
]
