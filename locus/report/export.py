"""What a run leaves for others to use: edits as PEFT adapters or biases, per-item scores as tables, claims as files.

An edit of rank k is exactly a LoRA of rank k (lora.py), a shift a bias (baked.py), of the stream also a control vector
(steering.py). Nothing is approximated: what has no exact
form is refused, and that the form is exact on this very model is tried before anything is written (faithful.py).
What a plan names is not opened: see `consent`.
"""

from pathlib import Path
from typing import Any, Literal

from locus.boundary import incoming, outputs
from locus.boundary.spreadsheet import write_csv
from locus.conclude.record import Arm, Record, every_arm
from locus.edits.base import Edit, load_edit
from locus.errors import UserError
from locus.models.configured import load_configured
from locus.models.model import Model
from locus.models.points import POINTS
from locus.plan import reading
from locus.records.plan import PlanRecord
from locus.records.result import TrialResult
from locus.report.baked import baked, save_baked
from locus.report.consent import Given, settle
from locus.report.derived import copied_store
from locus.report.lora import EVERYWHERE, adapter, write_json, write_peft
from locus.report.steering import vectors, write
from locus.shown import visible

Form = Literal["auto", "peft", "bias", "vector"]
NOTHING_GIVEN = Given()
UNSETTLED = "Its training had not settled: a longer one may find a better edit."


def find_trial(run: Path, name: str) -> str:
    """The id of a trial from its id, its arm (random-11, iti:probe), or its role where that has one arm (claim, ceiling, shift).

    Edits of a higher rank have arms of their own, such as probe:rank-4.

    Of an arm's trials it is the chosen setting's, with the first seed.

    Raises:
        UserError: naming what there is, if nothing has that name, or several things.
    """
    plan = reading.read_plan(run)
    with copied_store(run) as store:
        arms = [arm for arm in every_arm(Record(plan, store)) if arm.role != "base"]
    if any(name == trial.id for arm in arms for trial in arm.trials):
        return name
    matching = [arm for arm in arms if name in (arm.name, _path(arm))] or [
        arm for arm in arms if name == arm.role and arm.trials[0].spec.rank == 1
    ]
    if len(matching) == 1:
        return matching[0].chosen[0]
    there = list(dict.fromkeys(map(_path, matching or arms)))
    shown = ", ".join(there[:30]) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
    what = "several of that name" if matching else "none of that name, or none that is finished"
    raise UserError("one edit, by the id of its trial or by name", f"{name!r}: {what}", f"Finished edits: {shown or 'none yet'}.")


def _path(arm: Arm) -> str:
    """The whole name of an arm."""
    return "/".join(dict.fromkeys(part for part in (arm.role, arm.name, arm.claim, arm.read) if part))


def export_edit(
    run: Path, trial: str, to: Path, form: Form = "auto", given: Given = NOTHING_GIVEN, opened: Model | None = None
) -> list[str]:
    """Export one trial's edit of a run folder.

    Args:
        run: the run folder.
        trial: the trial's id or name, as `find_trial` has it.
        to: a new or empty folder.
        form: peft (what reads and writes), bias (shift, constant), vector (these, of the stream), or whichever is exact.
        given: the user's own model, where the run's does not come with the package.
        opened: the model itself, where it is open already.

    Returns:
        What its user should know, one sentence each; also written to `export.json`.

    Raises:
        UserError: if the trial has no edit, the model is another or was not given, or the form is not exact for it.
    """
    trial = find_trial(run, trial)
    path = run / "edits" / f"{trial}.safetensors"
    if not incoming.regular(path, inside=run):
        raise UserError("an edit that is still there, as a regular file", f"no {path}", "Restore the run folder's edits.")
    edit, plan = load_edit(path), reading.read_plan(run)
    model, revision = _given(plan, given) if opened is None else (opened, _revision(opened))
    if model.fingerprint != plan.context["model"]:
        wanted = f"the model the run was made on, with fingerprint {visible(plan.context['model'], 64)}"
        raise UserError(wanted, f"{model.name!r} with {model.fingerprint}", "Give --model with those weights.")
    chosen = form if form != "auto" else _exact(edit)
    if chosen == "peft":
        factors, added = adapter(model, edit)  # refused before anything is written
        outputs.empty_folder(to)
        notes = write_peft(model, factors, added, to, revision)
    elif chosen == "vector":
        found = vectors(model, edit)
        outputs.empty_folder(to)
        write(model, found, to)
        notes = []
    else:
        hf = baked(model, edit)
        outputs.empty_folder(to)
        save_baked(model, edit, hf, to)
        notes = []
    if edit.positions == "answer":
        notes.append(EVERYWHERE)
    if edit.about.get("converged") is False:
        notes.append(UNSETTLED)
    about: dict[str, object] = {
        "trial": trial,
        "as": chosen,
        "kind": edit.kind,
        "location": edit.location.names,
        "about": edit.about,
    }
    about |= {"base": {"name": model.name, "revision": revision, "dtype": str(model.dtype)}, "notes": notes}
    write_json(to / "export.json", {**about, "plan_sha256": plan.sha256, "model_sha256": model.fingerprint})
    return notes


def _exact(edit: Edit) -> Form:
    """The form that may be exact for an edit."""
    if any(terms.read is not None for terms in edit.layers.values()):
        return "peft"
    return "vector" if POINTS[edit.point].side == "stream" and min(edit.layers, default=0) > 1 else "bias"


def _revision(opened: Model) -> str | None:
    """The revision by which an open model was had."""
    revision = opened.settings.get("revision")
    return revision if isinstance(revision, str) else None


def _given(plan: PlanRecord, given: Given) -> tuple[Model, str | None]:
    """The user's model, or the package's, and its revision."""
    config = settle(plan.config, given, needs=("model",))
    return load_configured(config, device="auto"), config.revision


def export_scores(run: Path, to: Path) -> list[str]:
    """Write per-item scores (scores.parquet, scores.csv), head scores (heads.json) and claims (claim-N.json) of a run.

    Each score comes with its trial's heads, read mode and setting, and with its question's group.

    Returns:
        Names of the files written. Unscored values are null, with the reason beside them.

    Raises:
        UserError: if there is no run, or the folder to write to is not empty.
        VerificationError: if the run's store is missing, or not as locus writes it.
    """
    import pyarrow as pa
    import pyarrow.parquet

    plan = reading.read_plan(run)
    with copied_store(run) as store:
        cursor = store.db.execute(
            "SELECT trial, role, arm, claim, split, measure, item, value, scores.reason AS reason "
            "FROM scores JOIN trials ON trials.id = trial ORDER BY trial, split, measure, item"
        )
        names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        trials = {trial.id: trial for trial in store.trials()}
    schema = pa.schema([(name, pa.float64() if name == "value" else pa.string()) for name in names])
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
    for place, (name, found) in enumerate(_spelt_out(rows, trials, plan).items()):
        table = table.add_column(4 + place, name, pa.array(found, pa.string()))
    table = table.replace_schema_metadata({"plan_sha256": plan.sha256})
    outputs.empty_folder(to)
    with (to / "scores.parquet").open("wb") as file:  # a path it would read as an address
        pyarrow.parquet.write_table(table, file)
    write_csv(to / "scores.csv", table.column_names, zip(*(column.to_pylist() for column in table.columns), strict=True))
    write_json(to / "heads.json", {claim.name: claim.scores for claim in plan.claims})
    files = [f"claim-{number}.json" for number in range(len(plan.claims))]
    for name, claim in zip(files, plan.claims, strict=True):
        write_json(to / name, claim.to_json())
    return ["scores.parquet", "scores.csv", "heads.json", *files]


def _spelt_out(rows: list[Any], trials: dict[str, TrialResult], plan: PlanRecord) -> dict[str, list[str]]:
    """What a row's trial and question are: the heads, what is read of them, the point of the grid, the question's group."""
    groups = {item.id: item.group for part in plan.items.by_part.values() for item in part}
    specs = {name: (",".join(one.spec.location), one.spec.read, one.setting) for name, one in trials.items()}
    heads, reads, settings = ([specs[row[0]][place] for row in rows] for place in range(3))
    return {"heads": heads, "read": reads, "setting": settings, "group": [groups.get(row[6], "") for row in rows]}
