"""What a run leaves for others to use: edits as PEFT adapters or biases, per-item scores as tables, claims as files.

A rank-1 edit is exactly a LoRA of rank 1: W (o + <a, o> b) = W o + (W b) a^T o, so A = a^T and B = W b, in float32 and with
scale 1. A shift is exactly a bias: W (o + s) = W o + W s. Nothing else is approximated, and what has no exact form is refused.
Source: PEFT's file layout (adapter_config.json, adapter_model.safetensors); nothing of PEFT is imported.
"""

import copy
import json
import sqlite3
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from locus import conclude, outputs
from locus.conclude import Arm, Record
from locus.config import AuditConfig
from locus.edits.base import Edit, load_edit
from locus.errors import UserError
from locus.locate import locate
from locus.model import Model, load
from locus.report.verify import copied_store
from locus.store import Store

Form = Literal["auto", "peft", "bias"]
UNSETTLED = "Its training had not settled: a longer one may find a better edit."
EVERYWHERE = "The edit acted from the last prompt token on; exported, it acts at every position."


def module_path(model: Model, layer: int) -> str:
    """Where a layer's output projection is in the Hugging Face model."""
    return f"{model.shape.blocks}.{layer}.{model.shape.output}"


def lora(model: Model, edit: Edit) -> dict[int, tuple[Tensor, Tensor]]:
    """The factors A [1, features] and B [width, 1] of every layer, float32.

    Raises:
        UserError: if the edit is no rank-1 edit (a shift, a constant, an ablation).
    """
    _fits(model, edit)
    found = {}
    for layer, terms in sorted(edit.layers.items()):
        if terms.read is None or terms.keep is not None or terms.shift is not None:
            raise UserError("a rank-1 edit that reads", f"{edit.kind!r}", "Export a shift or a constant with --as bias.")
        out = torch.zeros(model.anatomy.width) if terms.out is None else terms.out.float()
        if terms.write is not None:
            out = out + model.weight(layer).float().cpu() @ terms.write.float()
        found[layer] = (terms.read.float()[None].contiguous(), out[:, None].contiguous())
    return found


def save_peft(model: Model, edit: Edit, folder: Path) -> list[str]:
    """Write a rank-1 edit as a PEFT LoRA adapter and return what its user should know.

    Raises:
        UserError: if the edit is no rank-1 edit, or not of this model.
    """
    factors = lora(model, edit)
    tensors: dict[str, Tensor] = {}
    for layer, (down, up) in factors.items():
        name = f"base_model.model.{module_path(model, layer)}"
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "target_modules": [module_path(model, layer) for layer in factors],
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": type(model.projections[0]).__name__ == "Conv1D",
        "inference_mode": True,
    }
    save_file(tensors, str(folder / "adapter_model.safetensors"), {"format": "pt"})
    _write(folder / "adapter_config.json", settings)
    return [EVERYWHERE] if edit.positions == "answer" else []


def _save_base(model: Model, folder: Path) -> list[str]:
    """Write the model beside its adapter, which names it: a planted model can be had from nowhere else."""
    source: Any = model.hf
    source.save_pretrained(folder / "base")
    model.tokenizer.save_pretrained(folder / "base")
    return _name_base(model, folder, str(folder / "base"))


def _name_base(model: Model, folder: Path, place: str) -> list[str]:
    """Let an adapter name the folder of a base model that PEFT could not find by the name that locus has for it."""
    path = folder / "adapter_config.json"
    _write(path, json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": place})
    return [f"The base model, {model.name}, is in {place}."]


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
    if not model.has_bias(0):
        config.attention_bias = True
    fresh = type(source)(config).to(model.dtype).eval()
    if any(fresh.get_submodule(module_path(model, layer)).bias is None for layer in range(model.anatomy.n_layers)):
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
    if edit.anatomy != model.anatomy:
        raise UserError(f"an edit of a model with {model.anatomy}", f"one of {edit.anatomy}", "Name the model it was made for.")


def find_trial(run: Path, name: str) -> str:
    """The id of a trial from its id, its arm (random-11, iti:probe) or its role, if it has one arm (claim, ceiling, shift).

    Of an arm's trials it is the chosen setting's, with the first seed.

    Raises:
        UserError: naming what there is, if nothing has that name, or several things.
    """
    plan = conclude.read_plan(run)
    with copied_store(run) as store:
        arms = [arm for arm in Record(plan, store).arms if arm.role != "base"]
    if any(name == trial["id"] for arm in arms for trial in arm.trials):
        return name
    found = [arm for arm in arms if name in (arm.name, _path(arm))] or [arm for arm in arms if name == arm.role]
    if len(found) == 1:
        return found[0].chosen[0]
    there = list(dict.fromkeys(map(_path, found or arms)))
    shown = ", ".join(there[:30]) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
    what = "several of that name" if found else "none of that name, or none that is finished"
    raise UserError("one edit, by the id of its trial or by name", f"{name!r}: {what}", f"Finished edits: {shown or 'none yet'}.")


def _path(arm: Arm) -> str:
    """The whole name of an arm."""
    return "/".join(dict.fromkeys(part for part in (arm.role, arm.name, arm.claim, arm.read) if part))


def export_edit(run: Path, trial: str, to: Path, form: Form = "auto") -> list[str]:
    """Export one trial's edit of a run folder.

    Args:
        run: the run folder.
        trial: the trial's id or name, as `find_trial` has it.
        to: a new or empty folder.
        form: peft (rank-1), bias (shift, constant), or whichever of the two is exact.

    Returns:
        What its user should know, one sentence each; also written to `export.json`.

    Raises:
        UserError: if the trial has no edit, the model has changed, or the form is not exact for it.
    """
    trial = find_trial(run, trial)
    path = run / "edits" / f"{trial}.safetensors"
    if not path.is_file():
        raise UserError("an edit that is still there", f"no {path}", "Restore the run folder's edits.")
    edit, plan = load_edit(path), conclude.read_plan(run)
    config = AuditConfig(**plan["config"])
    model = load(config.model, dtype=config.dtype, revision=config.revision, trust_remote_code=config.trust_remote_code)
    if model.fingerprint != plan["context"]["model"]:
        raise UserError("the model the run was made on", f"other weights under {config.model!r}", "Restore that model.")
    chosen = form if form != "auto" else "peft" if any(terms.read is not None for terms in edit.layers.values()) else "bias"
    if chosen == "peft":
        lora(model, edit)  # refused before anything is written
        _empty(to)
        notes = save_peft(model, edit, to)
        if config.model.startswith("planted:"):
            notes += _save_base(model, to)
        elif (place := locate(config.model)[0]) != config.model:  # a package's or a GGUF file's, converted
            notes += _name_base(model, to, place)
    else:
        hf = baked(model, edit)
        _empty(to)
        hf.save_pretrained(to)
        model.tokenizer.save_pretrained(to)
        notes = [EVERYWHERE] if edit.positions == "answer" else []
    if edit.about.get("converged") is False:
        notes.append(UNSETTLED)
    about = {"trial": trial, "as": chosen, "kind": edit.kind, "location": edit.location.names, "about": edit.about}
    _write(to / "export.json", {**about, "plan_sha256": plan["sha256"], "model_sha256": model.fingerprint, "notes": notes})
    return notes


def export_scores(run: Path, to: Path) -> list[str]:
    """Write per-item scores (scores.parquet, scores.csv), head scores (heads.json) and claims (claim-N.json) of a run.

    Each score comes with its trial's heads, read mode and setting, and with its question's group.

    Returns:
        Names of the files written. Unscored values are null, with the reason beside them.

    Raises:
        UserError: if there is no run, or the folder is not empty.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    plan = conclude.read_plan(run)
    path = run / "trials.sqlite"
    if not path.is_file():
        raise UserError("a run's trials.sqlite", f"none in {str(run)!r}", "Check the run folder.")
    store = Store(path)
    try:
        cursor = store.db.execute(
            "SELECT trial, role, arm, claim, split, measure, item, value, scores.reason AS reason "
            "FROM scores JOIN trials ON trials.id = trial ORDER BY trial, split, measure, item"
        )
        names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        trials = {trial["id"]: trial for trial in store.trials()}
    except sqlite3.DatabaseError as error:
        raise UserError("a run's trials.sqlite", f"{path} ({error})", "Check the run folder.") from error
    finally:
        store.close()
    schema = pa.schema([(name, pa.float64() if name == "value" else pa.string()) for name in names])
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
    for place, (name, found) in enumerate(_spelt_out(rows, trials, plan).items()):
        table = table.add_column(4 + place, name, pa.array(found, pa.string()))
    table = table.replace_schema_metadata({"plan_sha256": plan["sha256"]})
    _empty(to)
    pyarrow.parquet.write_table(table, to / "scores.parquet")
    pyarrow.csv.write_csv(table, to / "scores.csv")
    _write(to / "heads.json", {claim["name"]: claim["scores"] for claim in plan["claims"]})
    files = [f"claim-{number}.json" for number in range(len(plan["claims"]))]
    for name, claim in zip(files, plan["claims"], strict=True):
        _write(to / name, claim)
    return ["scores.parquet", "scores.csv", "heads.json", *files]


def _spelt_out(rows: list[Any], trials: dict[str, dict[str, Any]], plan: dict[str, Any]) -> dict[str, list[str]]:
    """What a row's trial and question are: the heads, what is read of them, the point of the grid, the question's group."""
    groups = {item["id"]: item["group"] for part in plan["items"].values() for item in part}
    specs = {
        name: (",".join(one["spec"]["location"]), one["spec"]["read"], conclude.setting(one)) for name, one in trials.items()
    }
    heads, reads, settings = ([specs[row[0]][place] for row in rows] for place in range(3))
    return {"heads": heads, "read": reads, "setting": settings, "group": [groups.get(row[6], "") for row in rows]}


def _empty(folder: Path) -> None:
    outputs.check_folder(folder, "--to")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("a new or empty folder", f"{folder}, which is neither", "Give another --to.")
    folder.mkdir(parents=True, exist_ok=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
