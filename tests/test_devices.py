"""A model that is spread over devices says, learns and is known by what it is on one: here over memory and disk of a CPU."""

import json
import sqlite3

import pytest
import torch
from safetensors.torch import load_file

import locus
from locus.audit import audit
from locus.behaviours.prompts import prompt_format
from locus.door.asked import asked
from locus.engine.checks import run_checks, standing
from locus.errors import PreconditionsError, UserError
from locus.models import devices
from locus.models.load import load
from locus.models.spread import fetching
from locus.plan.config import AuditConfig, resolve
from locus.plan.preconditions import early
from tests.families import tiny
from tests.small_run import SMALL

AROUND = {"model.embed_tokens": "disk", "model.norm": "disk", "lm_head": "disk", "model.rotary_emb": "cpu"}
LAYERS = {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"}
FEW = {**SMALL, "train": 4, "test": 4, "random": 2, "alpha": 0.4, "singles": 0, "shift_everywhere": False}
NEWTON = {**{name: value for name, value in FEW.items() if name != "epochs"}, "search": "newton", "rounds": 4, "metric": "mc2"}


def rows(out):
    """All scores of a run, in the database's own numbers."""
    with sqlite3.connect(out / "trials.sqlite") as db:
        return sorted(db.execute("SELECT * FROM scores"))


def edits(out):
    """The numbers of all edits of a run, by file and name."""
    read = {path.name: load_file(path) for path in (out / "edits").iterdir()}
    return {file: {name: one.tolist() for name, one in tensors.items()} for file, tensors in read.items()}


@pytest.fixture
def folder_of(tmp_path):
    """Saves a tiny model of a family."""

    def save(family):
        model = tiny(family)
        model.hf.save_pretrained(tmp_path / family)
        model.tokenizer.save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


@pytest.mark.parametrize("settings", [FEW, NEWTON], ids=["adamw", "newton"])
def test_an_audit_over_memory_and_disk_is_that_of_one_device_to_the_last_bit(llama_folder, tmp_path, monkeypatch, settings):
    monkeypatch.setattr("locus.report.page.write", lambda *_, **__: None)
    for name, spread in (("one", None), ("several", {**AROUND, **LAYERS})):
        audit(resolve("quick", model=llama_folder, device_map=spread, **settings), tmp_path / name, sign=False)
    assert rows(tmp_path / "one") == rows(tmp_path / "several") and len(rows(tmp_path / "one")) > 100
    assert edits(tmp_path / "one") == edits(tmp_path / "several")
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("one", "several")]
    assert [plan["config"]["device_map"] for plan in plans] == [None, {**AROUND, **LAYERS}]
    assert plans[0]["context"] == plans[1]["context"] and set(plans[1]["model"]["without"]) == {"threads"}
    one, several = (locus.open_run(tmp_path / name).verdict.special.standing for name in ("one", "several"))
    assert one == several


@pytest.mark.parametrize("family", ["llama-mqa", "gemma2", "gpt2", "gpt_neox"])
def test_every_shortcut_holds_on_what_is_fetched(folder_of, family):
    """Tied embeddings, soft caps, weights that are stored the other way round, biases: all but what must be at hand on disk."""
    folder = folder_of(family)
    whole = load(folder)
    parts = devices._parts(whole.hf)
    model = load(folder, device_map=dict.fromkeys(parts, "disk"))
    assert model.fingerprint == whole.fingerprint and model.layout == whole.layout
    assert sum(fetching(module) is not None for module in model.hf.modules()) >= 3 * 4
    found = run_checks(model, prompt_format(model.tokenizer, "qa"))
    assert standing(model, found) == "in part" and set(model.off) == {"threads"}, [str(one) for one in found]


def test_weights_that_were_fetched_are_let_go_until_the_way_back(llama_folder):
    """Else training would hold all layers that the device has no room for."""
    model, whole = load(llama_folder, device_map={**AROUND, **LAYERS}), load(llama_folder)
    tokens, sees = torch.arange(3, 9)[None], torch.ones(1, 6, 6, dtype=torch.bool).tril()
    hook, reads, gradients = fetching(model.mlps[1].down_proj), [], []
    hook.weights_map = Counting(hook.weights_map, reads)
    for one in (whole, model):
        entry = one.calls(tokens, torch.arange(6)[None], sees)
        hidden = entry.hidden.detach().requires_grad_(True)
        output = one.layer(1, hidden, entry)
        assert reads == ["weight"] * (one is model)
        output.sum().backward()
        gradients.append(hidden.grad)
    assert torch.equal(*gradients) and reads == ["weight"] * 2


class Counting(dict):
    """Notes what is asked of a mapping."""

    def __init__(self, inner, reads):
        super().__init__()
        self.inner, self.reads = inner, reads

    def __getitem__(self, name):
        self.reads.append(name)
        return self.inner[name]


def test_what_is_opened_so_is_known_so(llama_folder):
    model = locus.load(llama_folder, device_map={**AROUND, **LAYERS})
    assert "and elsewhere" in repr(model)
    config, opened = asked(model, None, "0.1", "quick", None, {})
    assert config.device_map == {**AROUND, **LAYERS} and opened.model is model
    with pytest.raises(UserError, match=r"spread by accelerate.*locus.load\(FOLDER, device_map='auto'\)"):
        locus.wrap(model.hf, model.tokenizer)


def test_ways_to_spread_fit_a_machine_without_a_gpu(llama_folder):
    model = load(llama_folder, device_map="auto")  # all of it fits in memory, so nothing is spread
    assert not model.spread and not model.off and model.fingerprint == load(llama_folder).fingerprint


def test_a_map_is_a_word_a_table_or_a_file(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"model": 0, "lm_head": "disk"}))
    table = {"model": "cuda:0", "lm_head": "disk"}
    assert resolve("quick", device_map=str(tmp_path / "map.json")).device_map == table
    assert resolve("quick", device_map={"model": 0, "lm_head": "disk"}).device_map == table
    assert resolve("quick", device_map="balanced").device_map == "balanced"
    again = AuditConfig.recorded(resolve("quick", device_map=table).model_dump(mode="json"))
    assert again.device_map == table
    (tmp_path / "list.json").write_text("[1]")
    for wrong in ("tensor", {}, {"model": "mps"}, {"model": True}, {"model": -1}, {"model": "cuda:x"}, tmp_path / "list.json"):
        with pytest.raises(UserError, match="device_map"):
            resolve("quick", device_map=wrong)


def test_all_that_a_spread_model_cannot_be_is_said_before_weights_load(llama_folder, monkeypatch):
    def wanted(**settings):
        return resolve("quick", model=llama_folder, claims=("0.1",), random=9, alpha=0.2, **settings)

    with pytest.raises(PreconditionsError) as refused:
        early(wanted(device_map="auto", device="cpu", executor="ray"))
    assert {one.expected for one in refused.value.errors} >= {
        "either a device or a device_map",
        "executor auto, serial or fork with a device_map",
    }
    with pytest.raises(UserError, match="not redrawn"):
        early(wanted(device_map="auto", twin=1))
    with pytest.raises(UserError, match="without an adapter"):
        early(wanted(device_map="auto", adapter="merged"))
    with pytest.raises(UserError, match="model in files"):
        early(resolve("quick", model="planted:localized:3", device_map="auto"))
    with pytest.raises(UserError, match="which has 0 GPUs"):
        load(llama_folder, device_map={"": "cuda:0"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    early(wanted())  # a cluster's word for itself
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match=r"one process.*tp_plan=auto.*--set device_map=auto"):
        early(wanted())


def test_a_table_that_does_not_fit_a_model_is_refused_before_weights_are_read(llama_folder, monkeypatch):
    monkeypatch.setattr("locus.models.weights.fill", lambda *_, **__: pytest.fail("weights are read"))
    whole = {**AROUND, **LAYERS}
    unknown, short = {**whole, "model.layers.7": "cpu"}, {name: whole[name] for name in whole if name != "model.layers.1"}
    cut = {**short, "model.layers.1.mlp": "disk", "model.layers.1": "cpu"}
    for table, said in (
        (unknown, "'model.layers.7'"),
        (short, "none for model.layers.1.self_attn"),
        (cut, "whole on one device"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            load(llama_folder, device_map=table)
        assert "model.layers.2" in refused.value.remedy and "lm_head" in refused.value.remedy


def test_slices_of_weights_are_refused(llama_folder):
    """As transformers leaves them under a tp_plan, in a real process group of one."""
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    model = load(llama_folder)
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        weight = distribute_tensor(model.mlps[0].up_proj.weight.data, init_device_mesh("cpu", (1,)), [Shard(0)])
        model.mlps[0].up_proj.weight = torch.nn.Parameter(weight, requires_grad=False)
        with pytest.raises(UserError, match=r"slices in several processes \(tp_plan\).*device_map='auto'"):
            locus.wrap(model.hf, model.tokenizer)
    finally:
        destroy_process_group()
