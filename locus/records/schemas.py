"""JSON Schemas of the records, for readers in other languages; docs/schemas holds them, made from the models."""

import json
from pathlib import Path

from locus.records.base import Part
from locus.records.calibration import Calibration, Draw, GradedCalibration, GradedDraw
from locus.records.labels import LabelsRecord
from locus.records.patch import PatchRecord
from locus.records.plan import PlanRecord
from locus.records.receipt import Receipt
from locus.records.repeat import RepeatRecord
from locus.records.result import TrialResult
from locus.records.sweep import SweepRecord
from locus.records.verdict import Verdict

RECORDS: dict[str, type[Part]] = {
    "plan": PlanRecord,
    "result": TrialResult,
    "verdict": Verdict,
    "receipt": Receipt,
    "patch": PatchRecord,
    "calibration": Calibration,
    "draw": Draw,
    "graded": GradedCalibration,
    "graded-draw": GradedDraw,
    "repeat": RepeatRecord,
    "sweep": SweepRecord,
    "labels": LabelsRecord,
}


def schema_text(name: str) -> str:
    """The JSON Schema of a record, as its file has it.

    Args:
        name: one of `RECORDS`.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RECORDS[name].model_json_schema()}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write the schema of every record to `NAME.json` in a folder."""
    paths = [folder / f"{name}.json" for name in RECORDS]
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.write_text(schema_text(path.stem), encoding="utf-8")
    return paths
