"""Exports of edits of every kind of site are exact in the reader that is to load them, or refused with the reason."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from locus.claims import given
from locus.edits import Rank1
from locus.edits.base import Edit, Terms
from locus.edits.stream import Stream, added, projected_out
from locus.engine.bank import Bank
from locus.errors import UserError
from locus.report import baked, lora, steering
from locus.sites import Location, Site
from tests.families import tiny
from tests.test_export import logits, moved

PLACES = {"neuron": "n0.1,n2.5-7", "attn": "attn.0,attn.2", "mlp": "mlp.0,mlp.2", "resid": "resid.2"}
FAMILIES = ["llama", "gpt2", "gpt_neox", "gemma3"]


def hooked(model, edit):
    with Bank([edit]).attach(model):
        return logits(model.hf)


def loaded(model, folder):
    """The logits of an adapter's folder: by PEFT where it is installed, else with B A added to the weights that it names."""
    hf = copy.deepcopy(model.hf)
    try:
        import peft
    except ImportError:
        tensors = load_file(folder / "adapter_model.safetensors")
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["lora_alpha"] == settings["r"] and settings["peft_type"] == "LORA"
        with torch.no_grad():
            for name in [name for name in tensors if name.endswith("lora_A.weight")]:
                stem = name.removesuffix("lora_A.weight")
                module = hf.get_submodule(stem.removeprefix("base_model.model.").rstrip("."))
                change = tensors[f"{stem}lora_B.weight"] @ tensors[name]
                module.weight += change.T if isinstance(module, Conv1D) else change
                assert isinstance(module, Conv1D) == settings["fan_in_fan_out"]
                if (more := tensors.get(f"{stem}lora_B.bias")) is not None:
                    assert settings["lora_bias"]
                    module.bias += more
        return logits(hf)
    return logits(peft.PeftModel.from_pretrained(hf, str(folder)).eval())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["neuron", "attn", "mlp"])
@pytest.mark.parametrize("rank", [1, 3])
def test_an_edit_that_reads_is_a_lora_adapter(family, kind, rank, tmp_path):
    model = tiny(family)
    edit = moved(Rank1(model.layout, Location.parse(PLACES[kind]), rank=rank), size=0.05)
    assert lora.save_peft(model, edit, tmp_path) == []
    wanted = hooked(model, edit)
    assert float((wanted - logits(model.hf)).abs().max()) > 1e-3
    torch.testing.assert_close(loaded(model, tmp_path), wanted, atol=1e-4, rtol=1e-4)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    paths = [name for name, _ in model.hf.named_modules() if name.endswith(tuple(settings["target_modules"]))]
    biased = kind != "neuron" and any(model.hf.get_submodule(path).bias is not None for path in paths)
    assert paths and settings.get("lora_bias", False) == biased


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PLACES)
def test_a_constant_is_a_bias(family, kind):
    model = tiny(family)
    edit = moved(Rank1(model.layout, Location.parse(PLACES[kind]), read="constant"), size=0.05)
    if family == "gemma3" and kind != "attn":  # its MLP has no bias, and its stream is given by a norm
        with pytest.raises(UserError, match="bias"):
            baked.baked(model, edit)
        return
    torch.testing.assert_close(logits(baked.baked(model, edit)), hooked(model, edit), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_of_the_stream_is_a_file_of_control_vectors(family, tmp_path):
    """Written, read by gguf's own reader and by our importer, and added as repeng adds it: behind the layers."""
    model = tiny(family)
    edit = moved(Rank1(model.layout, Location.parse("resid.2"), read="constant"))
    found = steering.vectors(model, edit)
    steering.write(model, found, tmp_path)
    back = steering.read(tmp_path / steering.FILE)
    assert back.keys() == {1} and torch.equal(back[1], edit.layers[2].shift)
    with pytest.warns(UserWarning, match="unit length"):
        claimed = given(str(tmp_path / steering.FILE))
    assert claimed.location.layers == (2,)

    def after(_, __, output):
        return (output[0] + back[1], *output[1:]) if isinstance(output, tuple) else output + back[1]

    handle = model.layers[1].register_forward_hook(after)
    try:
        said = logits(model.hf)
    finally:
        handle.remove()
    torch.testing.assert_close(said, hooked(model, edit), atol=1e-4, rtol=1e-4)


def test_what_is_added_along_a_direction_is_a_vector_and_what_reads_it_is_none(tmp_path):
    model = tiny("llama")
    unit = torch.nn.functional.normalize(torch.arange(1.0, model.layout.d_model + 1), dim=0)
    place = Location.of([Site("direction", 2, 7)])

    def vectors(layer, index):
        return unit

    plus = added(model.layout, place, vectors, {2: 3.0}, "all")
    assert torch.allclose(steering.vectors(model, plus)[1], 3 * unit)
    learned = Stream(model.layout, place, vectors, read="constant")
    learned.flat.data += 2.0
    assert torch.allclose(steering.vectors(model, learned.frozen({}))[1], 2 * unit)
    reading = Stream(model.layout, place, vectors)
    reading.flat.data += 0.1
    for wrong in (reading.frozen({}), projected_out(model.layout, place, vectors)):
        for export in (lora.lora, steering.vectors, baked.baked):
            with pytest.raises(UserError):
                export(model, wrong)
    with pytest.raises(UserError, match="reads the residual stream entering the layer"):
        lora.save_peft(model, projected_out(model.layout, place, vectors), tmp_path)


def test_what_cannot_be_held_is_refused_with_the_reason(tmp_path):
    model = tiny("llama")
    width = model.layout.d_model
    first = moved(Rank1(model.layout, Location.parse("resid.0"), read="constant"))
    with pytest.raises(UserError, match="which no MLP comes before"):
        baked.baked(model, first)
    with pytest.raises(UserError, match="layer 0, behind which"):
        steering.vectors(model, first)
    with pytest.raises(UserError, match="an edit of the stream"):
        steering.vectors(model, moved(Rank1(model.layout, Location.parse("mlp.1"), read="constant")))
    at_last = moved(Rank1(model.layout, Location.parse("mlp.1@last")))
    with pytest.raises(UserError, match="one at the last prompt token"):
        lora.save_peft(model, at_last, tmp_path)
    mixed = Edit("own", Location.parse("mlp.1"), model.layout, {1: Terms(shift=torch.ones(width), read=torch.ones(width))})
    for export in (lora.lora, baked.baked):
        with pytest.raises(UserError):
            export(model, mixed)
    assert not list(tmp_path.iterdir())
