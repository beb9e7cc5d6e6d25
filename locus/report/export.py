"""What a run leaves for others to use: edits as PEFT adapters or biases, per-item scores as tables, claims as files.

A rank-1 edit is exactly a LoRA of rank 1: W (o + <a, o> b) = W o + (W b) a^T o, so A = a^T and B = W b, in float32 and with
scale 1. A shift is exactly a bias: W (o + s) = W o + W s. Nothing else is approximated, and what has no exact form is refused.

The base is named so that nobody can take another for it: by hub id and revision where it came from there, by its whole path
where it lies here (a relative one would be looked for wherever the user of the adapter happens to be), and by the fingerprint
of its weights always. What a plan names is not opened: see `consent`.
Source: PEFT's file layout (adapter_config.json, adapter_model.safetensors); nothing of PEFT is imported.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from locus.boundary import incoming, outputs
from locus.boundary.spreadsheet import write_csv
from locus.conclude.record import Arm, Record
from locus.edits.base import Edit, load_edit
from locus.errors import UserError
from locus.models.configured import load_configured
from locus.models.locate import locate, on_hub
from locus.models.model import Model
from locus.plan import reading
from locus.records.plan import PlanRecord
from locus.records.result import TrialResult
from locus.registry import MEMORY
from locus.report.consent import Given, settle
from locus.report.derived import copied_store
from locus.shown import visible

Form = Literal["auto", "peft", "bias"]
NOTHING_GIVEN = Given()
UNSETTLED = "Its training had not settled: a longer one may find a better edit."
LIES = "The base model is in {place}: where there is no such folder, load the adapter onto a copy of it, as README.md says."
EVERYWHERE = "The edit acted from the last prompt token on; exported, it acts at every position."


def module_path(model: Model, layer: int) -> str:
    """Where a layer's output projection is in the Hugging Face model."""
    return model.parts.layers[layer].output


def lora(model: Model, edit: Edit) -> dict[int, tuple[Tensor, Tensor]]:
    """The factors A [1, features] and B [width, 1] of every layer, float32.

    Raises:
        UserError: if the edit is no rank-1 edit (a shift, a constant, an ablation).
    """
    _fits(model, edit)
    factors = {}
    for layer, terms in sorted(edit.layers.items()):
        if terms.read is None or terms.keep is not None or terms.shift is not None:
            raise UserError("a rank-1 edit that reads", f"{edit.kind!r}", "Export a shift or a constant with --as bias.")
        out = torch.zeros(model.layout.d_model) if terms.out is None else terms.out.float()
        if terms.write is not None:
            out = out + model.weight(layer).float().cpu() @ terms.write.float()
        factors[layer] = (terms.read.float()[None].contiguous(), out[:, None].contiguous())
    return factors


def save_peft(model: Model, edit: Edit, folder: Path, revision: str | None = None) -> list[str]:
    """Write a rank-1 edit as a PEFT LoRA adapter and return what its user should know.

    Args:
        model: the base.
        edit: the edit.
        folder: where to write.
        revision: of the base, if it is a hub's.

    Raises:
        UserError: if the edit is no rank-1 edit, or not of this model.
    """
    factors = lora(model, edit)
    tensors: dict[str, Tensor] = {}
    for layer, (down, up) in factors.items():
        name = f"base_model.model.{module_path(model, layer)}"
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    place = _place(model, folder)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": place,
        "revision": revision if on_hub(place) else None,
        "target_modules": [module_path(model, layer) for layer in factors],
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(model.parts.layers[layer].transposed for layer in factors),
        "inference_mode": True,
    }
    save_file(tensors, str(folder / "adapter_model.safetensors"), {"format": "pt", "base_model_sha256": model.fingerprint})
    _write(folder / "adapter_config.json", settings)
    notes = [] if on_hub(place) else [LIES.format(place=visible(place, 1000))]
    (folder / "README.md").write_text(_card(model, place, revision), encoding="utf-8")
    return notes + ([EVERYWHERE] if edit.positions == "answer" else [])


def _place(model: Model, folder: Path) -> str:
    """Where PEFT finds the base: a hub id, or the whole path of a folder; a planted or merged one's is written beside it."""
    if model.name.startswith(("planted:", MEMORY)) or model.merged:
        source: Any = model.hf
        source.save_pretrained(folder / "base")
        model.tokenizer.save_pretrained(folder / "base")
        return str((folder / "base").resolve())
    place = locate(model.name)[0]  # a package's or a GGUF file's is a folder of what it was converted to
    return place if on_hub(place) else str(Path(place).resolve())


def _card(model: Model, place: str, revision: str | None) -> str:
    """The adapter's README: its base by name and by fingerprint, and how to load it on a base that lies elsewhere."""
    hub = on_hub(place)
    head = f"base_model: {json.dumps(place)}\n" if hub else ""
    named = f"`{visible(place)}`" + (f", revision `{visible(revision)}`" if hub and revision else "")
    return (
        f"---\n{head}library_name: peft\n---\n\n# An edit found by locus, as a LoRA adapter of rank 1\n\n"
        f"Its base model is {named}.\n"
        f"It fits weights in {str(model.dtype).removeprefix('torch.')} with this fingerprint (SHA-256, as `locus` takes it), "
        f"and no others:\n\n    {model.fingerprint}\n\n"
        "Where the base lies elsewhere: `PeftModel.from_pretrained(base, ADAPTER)`, with `base` loaded from there.\n"
        "`export.json` says of which run and trial the edit is.\n"
    )


def baked(model: Model, edit: Edit) -> Any:
    """A copy of the Hugging Face model with a shift written into the output projections' biases, W s, summed in float32.

    Raises:
        UserError: if the edit is no shift, or this architecture has no bias there.
    """
    _fits(model, edit)
    for terms in edit.layers.values():
        if terms.shift is None or terms.keep is not None or terms.read is not None:
            raise UserError("a shift or a constant edit", f"{edit.kind!r}", "Export a rank-1 edit with --as peft.")
    fresh = _with_bias(model)
    with torch.no_grad():
        for layer, terms in edit.layers.items():
            assert terms.shift is not None, "checked above"
            added = model.weight(layer).float().cpu() @ terms.shift.float()
            bias = fresh.get_submodule(module_path(model, layer)).bias
            bias.copy_(bias.float() + added)
    return fresh


def _with_bias(model: Model) -> Any:
    """A copy on the CPU whose output projections have biases; new ones, also those of q, k and v, are zero."""
    source: Any = model.hf
    config = copy.deepcopy(source.config)
    if not model.has_bias(model.layout.headed[0]):
        config.attention_bias = True
    fresh = type(source)(config).to(model.dtype).eval()
    fresh.generation_config = copy.deepcopy(source.generation_config)  # else made anew from the configuration, with less in it
    if any(fresh.get_submodule(module_path(model, layer)).bias is None for layer in model.layout.headed):
        raise UserError(
            "an architecture whose attention output projection can have a bias",
            f"{type(source).__name__}, which has none whatever its configuration says",
            "Use the saved edit with locus, or add the bias W s in a hook on the projection's output.",
        )
    missing, unexpected = fresh.load_state_dict({key: value.cpu() for key, value in source.state_dict().items()}, strict=False)
    new = [key for key in missing if key.endswith(".bias")]
    tied = [key for key in missing if key == "lm_head.weight" and config.tie_word_embeddings]
    assert len(new) + len(tied) == len(missing) and not unexpected, f"unlike models: {missing}, {unexpected}"
    with torch.no_grad():
        for key in new:
            fresh.get_parameter(key).zero_()
    return fresh


def _fits(model: Model, edit: Edit) -> None:
    if edit.layout != model.layout:
        raise UserError(f"an edit of a model with {model.layout}", f"one of {edit.layout}", "Name the model it was made for.")


def find_trial(run: Path, name: str) -> str:
    """The id of a trial from its id, its arm (random-11, iti:probe) or its role, if it has one arm (claim, ceiling, shift).

    Of an arm's trials it is the chosen setting's, with the first seed.

    Raises:
        UserError: naming what there is, if nothing has that name, or several things.
    """
    plan = reading.read_plan(run)
    with copied_store(run) as store:
        arms = [arm for arm in Record(plan, store).arms if arm.role != "base"]
    if any(name == trial.id for arm in arms for trial in arm.trials):
        return name
    matching = [arm for arm in arms if name in (arm.name, _path(arm))] or [arm for arm in arms if name == arm.role]
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
        form: peft (rank-1), bias (shift, constant), or whichever of the two is exact.
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
    chosen = form if form != "auto" else "peft" if any(terms.read is not None for terms in edit.layers.values()) else "bias"
    if chosen == "peft":
        lora(model, edit)  # refused before anything is written
        _empty(to)
        notes = save_peft(model, edit, to, revision)
    else:
        hf = baked(model, edit)
        _empty(to)
        hf.save_pretrained(to)
        model.tokenizer.save_pretrained(to)
        notes = [EVERYWHERE] if edit.positions == "answer" else []
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
    _write(to / "export.json", {**about, "plan_sha256": plan.sha256, "model_sha256": model.fingerprint})
    return notes


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
    _empty(to)
    with (to / "scores.parquet").open("wb") as file:  # a path it would read as an address
        pyarrow.parquet.write_table(table, file)
    write_csv(to / "scores.csv", table.column_names, zip(*(column.to_pylist() for column in table.columns), strict=True))
    _write(to / "heads.json", {claim.name: claim.scores for claim in plan.claims})
    files = [f"claim-{number}.json" for number in range(len(plan.claims))]
    for name, claim in zip(files, plan.claims, strict=True):
        _write(to / name, claim.to_json())
    return ["scores.parquet", "scores.csv", "heads.json", *files]


def _spelt_out(rows: list[Any], trials: dict[str, TrialResult], plan: PlanRecord) -> dict[str, list[str]]:
    """What a row's trial and question are: the heads, what is read of them, the point of the grid, the question's group."""
    groups = {item.id: item.group for part in plan.items.by_part.values() for item in part}
    specs = {name: (",".join(one.spec.location), one.spec.read, one.setting) for name, one in trials.items()}
    heads, reads, settings = ([specs[row[0]][place] for row in rows] for place in range(3))
    return {"heads": heads, "read": reads, "setting": settings, "group": [groups.get(row[6], "") for row in rows]}


def _empty(folder: Path) -> None:
    outputs.check_folder(folder, "--to")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("a new or empty folder", f"{folder}, which is neither", "Give another --to.")
    folder.mkdir(parents=True, exist_ok=True)


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
