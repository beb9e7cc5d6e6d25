"""Exports are exact: an adapter or a baked bias gives the hooked model's logits, and tables give the store's scores."""

import copy
import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from locus.audit import audit
from locus.claims import given
from locus.edits import Directions, Rank1, ablate, complement, full, shift
from locus.edits.base import Edit, Terms
from locus.engine.bank import Bank
from locus.errors import UserError
from locus.models.load import load
from locus.models.model import Model
from locus.plan.config import resolve
from locus.records.store import Store
from locus.report import baked, export, lora
from locus.report.consent import Given
from locus.sites.site import Location
from tests.families import tiny

PLACES = Location.parse("0.1,2.3")
TOKENS = torch.tensor([[257, 40, 41, 90, 7, 33, 120, 64]])
NO_PEFT = "peft is not installed here; `make oracles` runs this where it is"
# In these families the output projection has no bias whatever the configuration says.
BIASLESS = ("mistral", "qwen2")


def moved(edit: Rank1, seed: int = 3, size: float = 0.3) -> Edit:
    """An edit with a and b drawn so large that logits change a good deal."""
    with torch.no_grad():
        edit.flat.normal_(0, size, generator=torch.Generator().manual_seed(seed))
    return edit.frozen({})


def edits_of(layout):
    """Every kind that is exactly an adapter."""
    return {
        "layer": moved(Rank1(layout, PLACES)),
        "heads": moved(Rank1(layout, PLACES, read="heads")),
        "full": moved(full(layout)),
        "free": moved(full(layout, form="free")),
        "complement": moved(complement(layout, PLACES)),
        "rank-3": moved(Rank1(layout, PLACES, rank=3)),
        "rank-16": moved(Rank1(layout, Location.parse("0.1,0.2,2.3"), rank=16)),
    }


def steered(layout, positions="all", alpha=2.0) -> Edit:
    generator = torch.Generator().manual_seed(8)
    unit = torch.randn(layout.n_layers, layout.n_heads, layout.d_head, generator=generator).numpy()
    sigma = torch.rand(layout.n_layers, layout.n_heads, generator=generator).numpy()
    return shift(layout, PLACES, Directions(unit, sigma), alpha, positions)


def logits(hf) -> torch.Tensor:
    with torch.no_grad():
        return hf(TOKENS).logits


def hooked(model, edit) -> torch.Tensor:
    with Bank([edit]).attach(model):
        return logits(model.hf)


@pytest.mark.parametrize("kind", ["layer", "heads", "full", "free", "complement", "rank-3", "rank-16"])
def test_adding_b_a_to_the_weight_is_the_edit(model, kind):
    """W o' = (W + B A) o: the adapter's factors merged by hand, without PEFT."""
    edit = edits_of(model.layout)[kind]
    merged = copy.deepcopy(model.hf)
    with torch.no_grad():
        for path, (down, up) in lora.lora(model, edit).items():
            projection = merged.get_submodule(path)
            change = up @ down
            projection.weight += change.T if type(projection).__name__ == "Conv1D" else change
    expected = hooked(model, edit)
    assert (expected - logits(model.hf)).abs().max() > 0.01, "the edit does something"
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["layer", "heads", "full", "free", "complement", "rank-3", "rank-16"])
def test_peft_loads_the_adapter_and_gives_the_same_logits(model, kind, tmp_path):
    peft = pytest.importorskip("peft", reason=NO_PEFT)
    edit = edits_of(model.layout)[kind]
    assert lora.save_peft(model, edit, tmp_path) == []
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(model.hf), str(tmp_path)).eval()
    torch.testing.assert_close(logits(loaded), hooked(model, edit), atol=1e-5, rtol=1e-5)


def test_a_shift_baked_as_a_bias_gives_the_same_logits(model, tmp_path):
    edit = steered(model.layout)
    if any(model.name.endswith(family) for family in BIASLESS):
        with pytest.raises(UserError, match="hook"):
            baked.baked(model, edit)
        return
    before = logits(model.hf)
    baked.baked(model, edit).save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    expected = hooked(model, edit)
    assert (expected - before).abs().max() > 0.01
    torch.testing.assert_close(logits(load(str(tmp_path), dtype="float32", device="cpu").hf), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(model.hf), before), "the model itself stays as it was"


def test_a_learned_constant_is_a_bias_too(llama):
    edit = moved(Rank1(llama.layout, PLACES, read="constant"))
    torch.testing.assert_close(logits(baked.baked(llama, edit)), hooked(llama, edit), atol=1e-5, rtol=1e-5)


def test_what_has_no_exact_form_is_refused(llama, tmp_path):
    rank1 = moved(Rank1(llama.layout, PLACES))
    for wrong in (steered(llama.layout), ablate(llama.layout, PLACES)):
        with pytest.raises(UserError, match="rank-1 edit"):
            lora.save_peft(llama, wrong, tmp_path)
    for wrong in (rank1, ablate(llama.layout, PLACES)):
        with pytest.raises(UserError, match="shift or a constant"):
            baked.baked(llama, wrong)
    with pytest.raises(UserError, match="an edit of a model with"):
        lora.save_peft(tiny("gpt2"), rank1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_answer_only_edits_are_exported_with_a_warning(llama, tmp_path):
    terms = Terms(read=torch.ones(llama.layout.d_in(0)), write=torch.ones(llama.layout.d_in(0)))
    edit = Edit("rank1", PLACES, llama.layout, {0: terms}, "answer")
    assert lora.save_peft(llama, edit, tmp_path) == [lora.EVERYWHERE]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, llama_folder):
    """A small finished run of the tiny model."""
    out = tmp_path_factory.mktemp("run") / "RUN"
    small = {"train": 8, "validation": 3, "test": 6, "epochs": 1, "text_passages": 0, "iti_strengths": (5.0,), "shift_random": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCUS_CONFIG", str(tmp_path_factory.mktemp("config")))
        audit(resolve("quick", model=llama_folder, claims=("0.1,2.3",), random=4, alpha=0.25, **small), out)
    return out


def test_trials_of_a_run_are_exported_by_id(finished, llama_folder, tmp_path):
    plan = json.loads((finished / "plan.json").read_text())
    ids = {trial["role"]: trial["id"] for trial in plan["trials"]}
    # One epoch of training settles nothing, and who loads the adapter is told.
    given = Given(model=llama_folder)
    lies = lora.LIES.format(place=llama_folder)
    assert export.export_edit(finished, ids["claim"], tmp_path / "claim", given=given) == [lies, export.UNSETTLED]
    assert (tmp_path / "claim" / "adapter_model.safetensors").is_file()
    assert export.export_edit(finished, ids["shift"], tmp_path / "shift", given=given) == [lora.EVERYWHERE]
    assert json.loads((tmp_path / "shift" / "export.json").read_text())["notes"] == [lora.EVERYWHERE]
    assert load(str(tmp_path / "shift"), device="cpu").has_bias(0)
    with pytest.raises(UserError, match="none of that name"):
        export.export_edit(finished, ids["base"], tmp_path / "base", given=given)
    with pytest.raises(UserError, match="new or empty folder"):
        export.export_edit(finished, ids["claim"], tmp_path / "claim", given=given)


def test_edits_are_found_by_what_they_are_called(finished):
    plan = json.loads((finished / "plan.json").read_text())
    trials_of_name = {
        name: export.find_trial(finished, name) for name in ("claim", "given", "ceiling", "shift", "random-02", "complement")
    }
    told = {trial["id"]: trial for trial in plan["trials"]}
    assert {name: told[identity]["role"] for name, identity in trials_of_name.items()} == {
        "claim": "claim",
        "given": "claim",
        "ceiling": "ceiling",
        "shift": "shift",
        "random-02": "random",
        "complement": "complement",
    }
    assert told[trials_of_name["random-02"]]["arm"] == "random-02"
    with pytest.raises(
        UserError, match=r"'random': several of that name\. Finished edits: random/random-00/given/layer, "
    ) as caught:
        export.find_trial(finished, "random")
    assert export.find_trial(finished, "random/random-00/given/layer") in told and "random-03" in str(caught.value)
    with pytest.raises(UserError, match=r"none of that name.*claim/given/layer"):
        export.find_trial(finished, "nobody")


def test_the_adapter_of_a_planted_model_brings_its_model(tmp_path):
    from locus.models.planted.named import load_named

    model = load_named("planted:localized:0")
    edit = moved(Rank1(model.layout, Location.parse("1.2")))
    assert lora.save_peft(model, edit, tmp_path) == [lora.LIES.format(place=tmp_path / "base")]
    named = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert torch.equal(logits(load(named, device="cpu").hf), logits(model.hf))
    peft = pytest.importorskip("peft")
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path)).eval()
    torch.testing.assert_close(logits(loaded), hooked(model, edit), atol=1e-5, rtol=1e-5)


def test_an_adapter_names_its_base_by_its_whole_path_and_its_fingerprint(finished, llama_folder, tmp_path, monkeypatch):
    """A relative path would be looked for wherever the user of the adapter happens to be."""
    monkeypatch.chdir(Path(llama_folder).parent)
    near = Path(llama_folder).name
    export.export_edit(finished, "claim", tmp_path / "out", given=Given(model=near))
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(Path(llama_folder).resolve()) and settings["revision"] is None
    about, fingerprint = json.loads((tmp_path / "out" / "export.json").read_text()), load(near, device="cpu").fingerprint
    assert about["base"] == {"name": near, "revision": None, "dtype": "torch.float32"} and about["model_sha256"] == fingerprint
    assert fingerprint in (tmp_path / "out" / "README.md").read_text()
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["base_model_sha256"] == fingerprint


def test_an_adapter_of_a_hub_model_names_its_id_and_revision(llama, tmp_path):
    hub = Model(copy.deepcopy(llama.hf), llama.tokenizer, "somebody/some-model")
    assert lora.save_peft(hub, moved(Rank1(llama.layout, PLACES)), tmp_path, "a" * 40) == []
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("somebody/some-model", "a" * 40)
    assert (tmp_path / "README.md").read_text().startswith('---\nbase_model: "somebody/some-model"\nlibrary_name: peft\n---\n')


def test_a_baked_bias_keeps_what_the_base_had_beside_its_weights(llama_folder, tmp_path):
    """Where to stop and how to draw are not in the model's configuration; nor is the template of its chat."""
    home = shutil.copytree(llama_folder, tmp_path / "model")
    generation = {"eos_token_id": [258, 10], "temperature": 0.7, "top_p": 0.9, "do_sample": True}
    (home / "generation_config.json").write_text(json.dumps(generation))
    (home / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    base, out = load(str(home), device="cpu"), tmp_path / "out"
    baked.baked(base, steered(base.layout)).save_pretrained(out)
    base.tokenizer.save_pretrained(out)
    kept = json.loads((out / "generation_config.json").read_text())
    assert {name: kept[name] for name in generation} == generation
    assert load(str(out), device="cpu").hf.generation_config.eos_token_id == [258, 10]
    assert (out / "chat_template.jinja").read_text() == (home / "chat_template.jinja").read_text()


def test_tables_hold_the_stores_scores(finished, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export.export_scores(finished, tmp_path / "out")[:2] == ["scores.parquet", "scores.csv"]
    store = Store(finished / "trials.sqlite")
    expected = store.dump()
    store.close()
    rows = parquet.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    names = ("trial", "split", "measure", "item", "value", "reason")
    assert [tuple(row[name] for name in names) for row in rows] == expected and len(rows) > 50
    plan = json.loads((finished / "plan.json").read_text())
    specs = {trial["id"]: trial for trial in plan["trials"]}
    groups = {item["id"]: item["group"] for part in plan["items"].values() for item in part}
    for row in rows:
        assert row["heads"].split(",") == (specs[row["trial"]]["location"] or [""]) and row["read"] == specs[row["trial"]]["read"]
        assert row["group"] == groups.get(row["item"], "")
    assert {row["setting"][:4] for row in rows if row["role"] == "claim"} == {"tau="}
    with (tmp_path / "out" / "scores.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [float(row["value"]) if row["value"] else None for row in read] == [row["value"] for row in rows]
    assert given(str(tmp_path / "out" / "claim-0.json")).location == PLACES


@pytest.mark.big
def test_a_baked_bias_gives_the_same_logits_on_the_packaged_model(big_model):
    """A shift and a learned constant; what float32 can tell is relative to the largest logit."""
    before = logits(big_model.hf)
    for edit in (steered(big_model.layout, alpha=0.2), moved(Rank1(big_model.layout, PLACES, read="constant"), size=0.03)):
        expected = hooked(big_model, edit)
        assert (expected - before).abs().max() > 0.1, "the edit does something"
        scale = float(expected.abs().max())
        torch.testing.assert_close(logits(baked.baked(big_model, edit)) / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.big
def test_peft_gives_the_same_logits_on_the_packaged_model(big_model, tmp_path):
    """Every read mode of a rank-1 edit, full alignment and the complement, loaded by PEFT as a stranger would."""
    peft = pytest.importorskip("peft", reason=NO_PEFT)
    place = Location.parse("3.1,14.0,27.8")
    with torch.no_grad():
        before = logits(big_model.hf)
    layout = big_model.layout
    kinds = {"layer": Rank1(layout, place), "heads": Rank1(layout, place, read="heads")}
    kinds |= {"full": full(layout), "complement": complement(layout, place)}
    for name, trainable in kinds.items():
        edit = moved(trainable)
        expected = hooked(big_model, edit)
        assert (expected - before).abs().max() > 0.1, "the edit does something"
        (tmp_path / name).mkdir()
        lora.save_peft(big_model, edit, tmp_path / name)
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(big_model.hf), str(tmp_path / name)).eval()
        scale = float(expected.abs().max())
        torch.testing.assert_close(logits(loaded) / scale, expected / scale, atol=1e-5, rtol=0)
