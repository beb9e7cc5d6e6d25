"""A run's scores as a data frame, a row a question and metric."""

from pathlib import Path
from typing import TYPE_CHECKING

from locus.conclude.record import Record, every_arm
from locus.errors import UserError
from locus.plan import reading
from locus.report.derived import copied_store

if TYPE_CHECKING:
    import pandas

COLUMNS = "question split role arm claim read setting chosen seed metric value reason trial".split()


def scores(folder: Path, metric: str | None = None) -> "pandas.DataFrame":
    """Every score of a run; see `Run.scores`."""
    import pandas

    plan = reading.read_plan(folder)
    with copied_store(folder) as store:
        record = Record(plan, store)
        rows = store.db.execute("SELECT trial, split, measure, item, value, reason FROM scores ORDER BY 1, 2, 3, 4").fetchall()
        chosen = {trial for arm in every_arm(record) for trial in arm.chosen}
        about = {
            trial.id: {
                **{name: getattr(trial.spec, name) for name in ("role", "arm", "claim", "read", "seed")},
                "setting": trial.setting,
                "chosen": trial.id in chosen,
            }
            for trial in record.done.values()
        }
    known = sorted({row[2] for row in rows})
    if metric is not None and metric not in known:
        raise UserError("a metric that this run has", repr(metric), f"There are: {', '.join(known)}.")
    held = [
        {"trial": trial, "split": split, "metric": measure, "question": item, "value": value, "reason": reason, **about[trial]}
        for trial, split, measure, item, value, reason in rows
        if trial in about and metric in (None, measure)
    ]
    frame = pandas.DataFrame(held, columns=COLUMNS)
    return frame.astype({"value": "float64", "seed": "int64", "chosen": "bool"})
