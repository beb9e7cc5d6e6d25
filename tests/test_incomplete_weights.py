"""A model is what its checkpoint says, tensor by tensor: gaps, leftovers and other shapes are refused, however it is loaded."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from locus.cli import doctor
from locus.errors import UserError
from locus.judges import kind
from locus.models import planted
from locus.models.load import load
from locus.models.planted.named import planted_named
from tests.families import FAMILIES, tiny


@pytest.fixture
def saved(tmp_path):
    """Saves a tiny model of a family, its tensors changed by a function."""

    def save(family, change=lambda tensors: None, **settings):
        model, folder = tiny(family), tmp_path / family
        model.hf.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return str(folder)

    return save


def renamed(old, new):
    def change(tensors):
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_as_it_was_saved(saved, family):
    assert load(saved(family), dtype="float32").fingerprint == tiny(family).fingerprint


def test_a_missing_head_is_named(saved):
    with pytest.raises(UserError, match=r"1 missing \(lm_head.weight\)"):
        load(saved("llama", lambda tensors: tensors.pop("lm_head.weight")))


def test_a_layers_attention_under_other_names_is_named_both_ways(saved):
    with pytest.raises(UserError) as refused:
        load(saved("llama", renamed("layers.1.self_attn.", "layers.1.attention.")))
    said = str(refused.value)
    assert "8 missing (model.layers.1.self_attn.k_proj.bias" in said and "and 4 more" in said
    assert "8 unexpected (model.layers.1.attention.k_proj.bias" in said


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "llama-mqa"])
def test_one_tensor_less_is_refused_in_every_shape(saved, family):
    name = next(name for name in tiny(family).hf.state_dict() if ".1." in name)
    with pytest.raises(UserError, match=name):
        load(saved(family, lambda tensors: tensors.pop(name)))


def test_tied_weights_need_one_of_their_two_names(saved):
    """Under either name; with neither, both are missing; two that differ are no tied weights."""
    embed, head = "model.embed_tokens.weight", "lm_head.weight"

    def other_name(tensors):
        tensors[head] = tensors.pop(embed)

    assert load(saved("llama-mqa", other_name), dtype="float32").fingerprint == tiny("llama-mqa").fingerprint
    with pytest.raises(UserError, match=r"embed_tokens.weight"):
        load(saved("llama-mqa", lambda tensors: tensors.pop(embed)))
    with pytest.raises(UserError, match="tie_word_embeddings"):
        load(saved("llama-mqa", lambda tensors: tensors.update({head: tensors[embed] + 1})))
    both = saved("llama-mqa", lambda tensors: tensors.update({head: tensors[embed].clone()}))
    assert load(both, dtype="float32").fingerprint == tiny("llama-mqa").fingerprint


def test_a_configuration_that_ties_what_is_not_tied_and_the_other_way_round(saved):
    with pytest.raises(UserError, match="tie_word_embeddings"):
        load(saved("llama", tie_word_embeddings=True))
    with pytest.raises(UserError, match=r"missing \(lm_head.weight\)"):
        load(saved("llama-mqa", tie_word_embeddings=False))


def test_biases_that_the_configuration_leaves_out_are_refused(saved):
    with pytest.raises(UserError, match="unexpected"):
        load(saved("llama", attention_bias=False))


def test_other_shapes_are_refused_with_both(saved):
    with pytest.raises(UserError, match=r"another shape \(model.norm.weight \(16,\) for \(32,\)\)"):
        load(saved("llama", lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"][:16].clone()})))
    with pytest.raises(UserError, match=r"lm_head.weight"):
        load(saved("llama", vocab_size=400))


def frequencies(model):
    return model.hf.model.rotary_emb.inv_freq


def test_leftovers_that_say_what_the_model_makes_itself_are_harmless(saved):
    """The files that older versions of transformers wrote: rotary tables, causal masks, a number that masks."""

    def llama(tensors):
        tensors |= {
            f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": frequencies(tiny("llama")).clone() for layer in range(3)
        }

    def half(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = frequencies(tiny("llama")).half()

    def masks(prefix):
        def change(tensors):
            for layer in range(3):
                tensors[f"{prefix}.{layer}.attn.bias"] = torch.ones(1, 1, 512, 512).tril()
                tensors[f"{prefix}.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

        return change

    def neox(tensors):
        tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 512, 512, dtype=torch.bool).tril()
        tensors["gpt_neox.layers.0.attention.masked_bias"] = torch.tensor(-1e9)
        tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = tiny("gpt_neox").hf.gpt_neox.rotary_emb.inv_freq.clone()

    for family, change in (("llama", llama), ("llama", half), ("gpt2", masks("transformer.h")), ("gpt_neox", neox)):
        assert load(saved(family, change), dtype="float32").fingerprint == tiny(family).fingerprint


def test_leftovers_of_the_same_names_with_other_content_are_refused(saved):
    def faster(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = frequencies(tiny("llama")) * 2

    def window(tensors):
        tensors["model.layers.0.self_attn.mask"] = torch.ones(8, 8).tril().triu(-3)

    def scale(tensors):
        tensors["model.layers.0.self_attn.masked_bias"] = torch.tensor(0.5)

    for change, name in ((faster, "inv_freq"), (window, "mask"), (scale, "masked_bias")):
        with pytest.raises(UserError, match=rf"unexpected \(model.layers.0.self_attn.*{name}"):
            load(saved("llama", change))


def test_a_checkpoint_of_the_bare_body_loads_where_the_head_is_tied(saved):
    """GPT-2 as it was published: names without the prefix, no head, masks in between."""

    def bare(tensors):
        renamed("transformer.", "")(tensors)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 512, 512).tril()

    assert load(saved("gpt2", bare), dtype="float32").fingerprint == tiny("gpt2").fingerprint


def test_shards_are_held_to_the_same(saved):
    folder = Path(saved("llama"))
    model = tiny("llama")
    shutil.rmtree(folder)
    model.hf.save_pretrained(folder, max_shard_size="20KB")
    model.tokenizer.save_pretrained(folder)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2 and load(str(folder), dtype="float32").fingerprint == model.fingerprint
    tensors = load_file(files[1])
    gone = sorted(tensors)[0]
    del tensors[gone]
    save_file(tensors, files[1], {"format": "pt"})
    with pytest.raises(UserError, match=gone):
        load(str(folder))


def test_judges_doctor_and_planted_folders_are_held_to_the_same(saved, tmp_path, capfd):
    folder = saved("llama", lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(UserError, match=r"lm_head.weight"):
        kind.open_judge(f"lm:{folder}")
    shown = io.StringIO()
    assert not doctor.examine(Console(file=shown, width=1000), folder) and "lm_head.weight" in shown.getvalue()
    assert "LOAD REPORT" not in capfd.readouterr().err
    planted.save_planted(planted_named("planted:localized:1"), tmp_path / "planted")
    file = tmp_path / "planted" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("model.layers.0.self_attn.o_proj.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"self_attn.o_proj.weight"):
        planted.load_planted(tmp_path / "planted")
