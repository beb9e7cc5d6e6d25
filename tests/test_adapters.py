"""Which model is audited is said, not guessed: the base alone, or base and adapter merged into one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from locus.errors import UserError
from locus.judges import kind
from locus.models.adapter import check_installed
from locus.models.load import load
from locus.models.locate import at_hand
from locus.plan.config import SINCE_FIRST, AuditConfig, resolve
from locus.plan.preconditions import early
from tests.families import tiny

SCALE, RANK = 8, 2


def write_adapter(folder: Path, **settings) -> dict[str, torch.Tensor]:
    """A LoRA adapter for the second layer's output projection, in PEFT's layout."""
    draw = torch.Generator().manual_seed(3)
    name = "base_model.model.model.layers.1.self_attn.o_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.randn(RANK, 48, generator=draw),
        f"{name}.lora_B.weight": torch.randn(32, RANK, generator=draw),
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "someone/else",
        "target_modules": ["model.layers.1.self_attn.o_proj"],
        "r": RANK,
        "lora_alpha": SCALE,
        "lora_dropout": 0.0,
        "bias": "none",
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return tensors


@pytest.fixture
def both(tmp_path, llama_folder):
    """A model's folder with an adapter beside the weights."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "both"))
    write_adapter(folder)
    return str(folder)


def test_without_a_choice_it_is_refused_before_anything_loads(both):
    for ask in (at_hand, load, lambda name: early(resolve(model=name)), lambda name: kind.check_judge(f"lm:{name}")):
        with pytest.raises(UserError, match="--adapter none"):
            ask(both)


def test_none_is_the_base_alone(both, monkeypatch):
    """Also where PEFT is installed, in whose presence the loader would merge the adapter unasked."""
    model = load(both, dtype="float32", adapter="none")
    assert model.fingerprint == tiny("llama").fingerprint and model.name == both and not model.merged
    early(resolve(model=both, adapter="none"))


def test_an_adapter_alone_says_how(tmp_path):
    write_adapter(tmp_path / "alone")
    with pytest.raises(UserError, match=r"an adapter alone.*--model BASE --adapter"):
        load(str(tmp_path / "alone"))


def test_an_adapter_that_is_not_there_or_not_whole_is_refused(tmp_path, llama_folder):
    for adapter, word in (("merged", "without one"), (str(tmp_path / "gone"), "without adapter_config.json"), ("", "adapter")):
        with pytest.raises(UserError, match=word):
            at_hand(llama_folder, adapter)
    folder = tmp_path / "adapter"
    write_adapter(folder, peft_type="PREFIX_TUNING")
    with pytest.raises(UserError, match="PREFIX_TUNING"):
        at_hand(llama_folder, str(folder))
    write_adapter(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="Pickled"):
        at_hand(llama_folder, str(folder))
    (folder / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"adapter_model.safetensors"):
        at_hand(llama_folder, str(folder))
    with pytest.raises(UserError, match="planted model without an adapter"):
        load("planted:localized:0", adapter=str(folder))


def test_merging_without_peft_says_what_to_install(both, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        check_installed()


def test_the_setting_is_new_and_old_plans_go_on_without_it():
    assert SINCE_FIRST["adapter"] is None and AuditConfig().adapter is None


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_merged_is_base_plus_adapter(peft, tmp_path, llama_folder, both, where):
    tensors = write_adapter(tmp_path / "adapter")
    if where == "beside":
        model, name = load(both, dtype="float32", adapter="merged"), f"{both} + adapter"
    else:
        adapter = str(tmp_path / "adapter")
        model, name = load(llama_folder, dtype="float32", adapter=adapter), f"{llama_folder} + adapter {adapter}"
    base = tiny("llama")
    down, up = tensors.values()
    assert torch.allclose(model.weight(1), base.weight(1) + SCALE / RANK * up @ down, atol=1e-5)
    assert torch.equal(model.weight(0), base.weight(0)) and model.fingerprint != base.fingerprint
    assert model.name == name and model.merged and set(model.hf.state_dict()) == set(base.hf.state_dict())


def test_peft_at_hand_changes_nothing_that_was_not_asked_for(peft, both):
    assert load(both, dtype="float32", adapter="none").fingerprint == tiny("llama").fingerprint


def test_an_adapter_of_another_model_is_refused(peft, tmp_path, llama_folder):
    folder = tmp_path / "adapter"
    tensors = write_adapter(folder)
    cases = {
        "another name": {name.replace("layers.1", "layers.2"): tensor for name, tensor in tensors.items()},
        "half of it": dict(list(tensors.items())[:1]),
        "another width": {name: tensor[:, :1].contiguous() for name, tensor in tensors.items()},
        "not finite": {name: tensor * float("nan") for name, tensor in tensors.items()},
    }
    for changed in cases.values():
        save_file(changed, folder / "adapter_model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match="adapter"):
            load(llama_folder, adapter=str(folder))
    write_adapter(folder, target_modules=["nonsense"])
    with pytest.raises(UserError, match="nonsense"):
        load(llama_folder, adapter=str(folder))


def test_an_edit_of_a_merged_model_is_exported_with_the_model_it_was_trained_on(peft, tmp_path, both):
    from locus.audit import audit
    from locus.report.export import export_edit
    from tests.small_run import SMALL

    audit(resolve("quick", model=both, adapter="merged", **SMALL), tmp_path / "RUN", sign=False)
    notes = export_edit(tmp_path / "RUN", "claim", tmp_path / "OUT", "peft")
    base = json.loads((tmp_path / "OUT" / "adapter_config.json").read_text())["base_model_name_or_path"]
    exported = load_file(Path(base) / "model.safetensors")
    merged = load(both, dtype="float32", adapter="merged")
    assert torch.equal(exported["model.layers.1.self_attn.o_proj.weight"], merged.weight(1))
    assert any("base" in note for note in notes)
