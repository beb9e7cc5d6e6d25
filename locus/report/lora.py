"""An edit of rank k as a LoRA adapter of rank k in PEFT's layout.

W (o + <a, o> b) = W o + (W b) a^T o, so A = a^T and B = W b, in float32 and with scale 1; B has what the
free form writes added to it. Where the edit is of what W gives, o = W x + c, it is A = a^T W and B = b; where there is a bias c,
B has a bias, too, <a, c> b (PEFT's `lora_bias`). Of higher rank the rows of A are the edit's reading vectors, the columns of B
what each writes; a layer with fewer pairs than others, as at sites that are narrower than the rank, is filled with zeros.

The base is named so that nobody can take another for it: by hub id and revision where it came from there, by its whole path
where it lies here (a relative one would be looked for wherever the user of the adapter happens to be), and by the fingerprint
of its weights always.
Source: PEFT's file layout (adapter_config.json, adapter_model.safetensors); nothing of PEFT is imported.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from locus.edits.base import Edit
from locus.errors import UserError
from locus.models.locate import locate, on_hub
from locus.models.model import Model
from locus.models.points import POINTS
from locus.registry import MEMORY
from locus.report.faithful import compare, fits, hooked
from locus.report.maps import REMEDY, map_of
from locus.shown import visible

Factors = dict[str, tuple[Tensor, Tensor]]  # path of a linear map -> A [k, features], B [width, k]
Biases = dict[str, Tensor]  # path of a linear map -> [width], added to what B gives
LIES = "The base model is in {place}: where there is no such folder, load the adapter onto a copy of it, as README.md says."
EVERYWHERE = "The edit acted from the last prompt token on; exported, it acts at every position."


def lora(model: Model, edit: Edit) -> Factors:
    """The factors A [k, features] and B [width, k] of every layer's linear map beside the edit, float32.

    Raises:
        UserError: if the edit is no sum of reading and writing pairs (a shift, a constant, an ablation), or of the stream.
    """
    fits(model, edit)
    rank = max((len(terms.read) for terms in edit.layers.values() if terms.read is not None), default=1)
    factors: Factors = {}
    for layer, terms in sorted(edit.layers.items()):
        if terms.read is None or terms.keep is not None or terms.shift is not None:
            raise UserError("a rank-1 edit that reads", f"{edit.kind!r}", "Export a shift or a constant with --as bias.")
        if POINTS[edit.point].side == "stream":
            wanted = "an edit at the input or the output of a linear map, which an adapter can hold"
            raise UserError(wanted, f"one that reads {POINTS[edit.point].words}", REMEDY)
        beside = map_of(model, edit, layer)
        out = torch.zeros(len(terms.read), model.layout.d_model) if terms.out is None else terms.out.float()
        if terms.write is not None:
            out = out + torch.stack([beside.weight @ one if beside.within else one for one in terms.write.float()])
        read = terms.read.float() if beside.within else terms.read.float() @ beside.weight
        more = (0, 0, 0, rank - len(terms.read))
        factors[beside.path] = pad(read, more).contiguous(), pad(out, more).T.contiguous()
    return factors


def biases(model: Model, edit: Edit) -> Biases:
    """What an edit of what maps give adds at every token, since they have biases that it reads; by path, [d_model], float32."""
    found: dict[str, Tensor] = {}
    for layer, terms in sorted(edit.layers.items()) if not POINTS[edit.point].has_map else ():
        beside = map_of(model, edit, layer)
        if beside.bias is not None and terms.read is not None and terms.write is not None:
            found[beside.path] = (terms.read.float() @ beside.bias) @ terms.write.float()
    return found if any(one.any() for one in found.values()) else {}


def adapter(model: Model, edit: Edit) -> tuple[Factors, Biases]:
    """The factors of every layer and biases of what they give, after they were tried beside the maps, as PEFT puts them.

    Raises:
        UserError: if the edit is no sum of reading and writing pairs, PEFT knows no adapter of such a projection, or it says
            something else.
    """
    from transformers.pytorch_utils import Conv1D  # slow to import

    factors, added = lora(model, edit), biases(model, edit)
    for path in factors:
        kind = type(model.hf.get_submodule(path))
        if not issubclass(kind, nn.Linear | Conv1D):
            raise UserError(
                "an output projection that PEFT can put an adapter beside, a Linear or Conv1D",
                f"{kind.__name__} at {path}",
                "Use the saved edit with locus, or add W b <a, o> in a hook on the projection's output.",
            )
    compare(model, edit, lambda tokens: _beside(model, factors, added, tokens), "an adapter")
    return factors, added


def _beside(model: Model, factors: Factors, added: Biases, tokens: Tensor) -> Tensor:
    """Logits of the model with B A o, and biases, added to what its projections give, in float32."""

    def hook(down: Tensor, up: Tensor, bias: Tensor | None) -> Any:
        def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            o = args[0].float()
            new = o @ down.to(o.device).T @ up.to(o.device).T
            return (output.float() + (new if bias is None else new + bias.to(o.device))).to(output.dtype)

        return after

    return hooked(model, tokens, {model.hf.get_submodule(path): hook(*one, added.get(path)) for path, one in factors.items()})


def _targets(model: Model, paths: list[str]) -> list[str] | str:
    """How PEFT is told which modules: by their paths, or by a pattern where the paths of others end in one of these."""
    ends = tuple(f".{path}" for path in paths)
    clash = any(name.endswith(ends) for name, _ in model.hf.named_modules())
    return "|".join(map(re.escape, paths)) if clash else paths


def save_peft(model: Model, edit: Edit, folder: Path, revision: str | None = None) -> list[str]:
    """Write an edit as a PEFT LoRA adapter and return what its user should know.

    Args:
        model: the base.
        edit: the edit.
        folder: where to write.
        revision: of the base, if it is a hub's.

    Raises:
        UserError: if the edit is no sum of reading and writing pairs, not of this model, or cannot be an adapter of it.
    """
    notes = write_peft(model, *adapter(model, edit), folder, revision)
    return notes + ([EVERYWHERE] if edit.positions == "answer" else [])


def write_peft(model: Model, factors: Factors, added: Biases, folder: Path, revision: str | None = None) -> list[str]:
    """Write factors and biases that were tried as a PEFT LoRA adapter and return what its user should know of its base."""
    tensors: dict[str, Tensor] = {}
    for path, (down, up) in factors.items():
        name = f"base_model.model.{path}"
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        if added:
            tensors[f"{name}.lora_B.bias"] = added.get(path, torch.zeros(len(up))).contiguous()
    turned = {path for one in model.parts.layers for path, so in ((one.output, one.transposed), (one.down, one.turned)) if so}
    place = _place(model, folder)
    rank = max(len(down) for down, _ in factors.values())
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": place,
        "revision": revision if on_hub(place) else None,
        "target_modules": _targets(model, [*factors]),
        "r": rank,
        "lora_alpha": rank,  # a scale of 1
        "lora_dropout": 0.0,
        "bias": "none",
        **({"lora_bias": True} if added else {}),
        "fan_in_fan_out": any(path in turned for path in factors),
        "inference_mode": True,
    }
    save_file(tensors, str(folder / "adapter_model.safetensors"), {"format": "pt", "base_model_sha256": model.fingerprint})
    write_json(folder / "adapter_config.json", settings)
    (folder / "README.md").write_text(_card(model, place, revision, rank), encoding="utf-8")
    return [] if on_hub(place) else [LIES.format(place=visible(place, 1000))]


def _place(model: Model, folder: Path) -> str:
    """Where PEFT finds the base: a hub id, or the whole path of a folder; a planted or merged one's is written beside it."""
    if model.name.startswith(("planted:", MEMORY)) or model.merged:
        source: Any = model.hf
        source.save_pretrained(folder / "base")
        model.tokenizer.save_pretrained(folder / "base")
        return str((folder / "base").resolve())
    place = locate(model.name)[0]  # a package's or a GGUF file's is a folder of what it was converted to
    return place if on_hub(place) else str(Path(place).resolve())


def _card(model: Model, place: str, revision: str | None, rank: int) -> str:
    """The adapter's README: its base by name and by fingerprint, and how to load it on a base that lies elsewhere."""
    hub = on_hub(place)
    head = f"base_model: {json.dumps(place)}\n" if hub else ""
    named = f"`{visible(place)}`" + (f", revision `{visible(revision)}`" if hub and revision else "")
    return (
        f"---\n{head}library_name: peft\n---\n\n# An edit found by locus, as a LoRA adapter of rank {rank}\n\n"
        f"Its base model is {named}.\n"
        f"It fits weights in {str(model.dtype).removeprefix('torch.')} with this fingerprint (SHA-256, as `locus` takes it), "
        f"and no others:\n\n    {model.fingerprint}\n\n"
        "Where the base lies elsewhere: `PeftModel.from_pretrained(base, ADAPTER)`, with `base` loaded from there.\n"
        "`export.json` says of which run and trial the edit is.\n"
    )


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a file of an export."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
