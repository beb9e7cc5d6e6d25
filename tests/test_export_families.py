"""Of every kind of architecture an export is exact: plain transformers, with PEFT or without, says what the edited model says."""

import copy
import json
from functools import cache

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from locus.edits import Directions, Rank1, full, shift
from locus.edits.base import Edit
from locus.engine.bank import Bank
from locus.errors import UserError
from locus.models.model import Model
from locus.report.baked import baked, save_baked
from locus.report.faithful import compare
from locus.report.lora import adapter, save_peft
from locus.sites.site import Location
from studies.models.build import build
from tests.families import byte_tokenizer, configuration

NO_PEFT = "peft is not installed here; `make oracles` runs this where it is"
TOKENS = torch.tensor([[257, 40, 41, 90, 7, 33, 120, 64]])
# Rotary; learned positions and Conv1D; ALiBi, twice; blocks in parallel, and q, k, v in one matrix, also with one key for all;
# mixers of other kinds between layers with heads, or beside them; experts, with sinks or without; latent attention; soft caps and
# windows; a text model inside a configuration of several parts; tensors that are single numbers.
KINDS = (
    "llama gpt2 bloom mpt falcon gpt_neox phi3 gpt_bigcode qwen3_next lfm2 falcon_h1 jamba mixtral qwen3_moe gpt_oss deepseek_v3 "
    "gemma2 gemma3 apertus"
).split()
# What a configuration must say of each so that there is a bias: by itself, by a setting of one of several names, not at all.
BIAS = {
    **dict.fromkeys("gpt2 bloom gpt_neox gpt_bigcode gpt_oss".split(), "has one"),
    **dict.fromkeys("mpt phi3 lfm2 jamba mixtral".split(), "can have none"),
}


@cache
def _built(family: str):
    return build(family)


def fresh(family: str):
    """A tiny model of a family, as transformers has it."""
    return copy.deepcopy(_built(family))


@cache
def base(family: str) -> Model:
    """The same, as locus has it."""
    return Model(fresh(family), byte_tokenizer(), f"tiny-{family}")


def edits(layout) -> dict[str, Edit]:
    """Rank-1 edits so large that logits change a good deal: reading the layer, reading the heads, everywhere."""
    place = Location.parse(f"{layout.headed[0]}.1,{layout.headed[-1]}.0")
    made = {"layer": Rank1(layout, place), "heads": Rank1(layout, place, read="heads"), "everywhere": full(layout)}
    for one in made.values():
        with torch.no_grad():
            one.flat.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    return {name: one.frozen({}) for name, one in made.items()}


def steered(layout, alpha=2.0) -> Edit:
    draw = torch.Generator().manual_seed(8)
    place = Location.parse(f"{layout.headed[0]}.1,{layout.headed[-1]}.0")
    unit = torch.randn(layout.n_layers, layout.n_heads, layout.d_head, generator=draw).numpy()
    sigma = torch.rand(layout.n_layers, layout.n_heads, generator=draw).numpy()
    return shift(layout, place, Directions(unit, sigma), alpha, "all")


def logits(hf) -> torch.Tensor:
    with torch.no_grad():
        return hf(input_ids=TOKENS, use_cache=False).logits.float()


def held(said: torch.Tensor, model: Model, edit: Edit) -> None:
    """Logits are those of the edited model, which are not those of the model."""
    before = logits(model.hf)
    with Bank([edit]).attach(model):
        wanted = logits(model.hf)
    scale = wanted.abs().max()
    assert (wanted - before).abs().max() > 0.001 * scale, "the edit does something"
    torch.testing.assert_close(said / scale, wanted / scale, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", KINDS)
def test_adding_b_a_to_the_weights_is_the_edit(family):
    """The adapter's factors merged by hand into a model of transformers, without PEFT."""
    model = base(family)
    for edit in edits(model.layout).values():
        merged = fresh(family)
        with torch.no_grad():
            for path, (down, up) in adapter(model, edit)[0].items():
                projection = merged.get_submodule(path)
                change = up @ down
                projection.weight += change.T if type(projection).__name__ == "Conv1D" else change
        held(logits(merged), model, edit)


@pytest.mark.parametrize("family", KINDS)
def test_peft_loads_the_adapter_onto_a_plain_model(family, tmp_path):
    peft = pytest.importorskip("peft", reason=NO_PEFT)
    model = base(family)
    for name, edit in edits(model.layout).items():
        (tmp_path / name).mkdir()
        save_peft(model, edit, tmp_path / name)
        held(logits(peft.PeftModel.from_pretrained(fresh(family), str(tmp_path / name)).eval()), model, edit)


@pytest.mark.parametrize("family", KINDS)
def test_a_shift_is_a_bias_of_a_plain_model_or_refused(family, tmp_path):
    model, kind = base(family), BIAS.get(family, "by a setting")
    edit, stays = steered(model.layout), model.fingerprint
    assert all(model.has_bias(layer) == (kind == "has one") for layer in model.layout.headed)
    if kind == "can have none":
        with pytest.raises(UserError, match=f"{type(model.hf).__name__}, which has none whatever its configuration says"):
            baked(model, edit)
        return
    save_baked(model, edit, baked(model, edit), tmp_path)
    way = _built(family).config._attn_implementation  # what transformers takes by itself, but where logits are soft-capped
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation=way).eval()
    held(logits(plain), model, edit)
    model.changed()
    assert model.fingerprint == stays, "the model itself stays as it was"


class Louder(LlamaForCausalLM):
    """A model in which the setting that brings a bias does something else as well."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * (1.5 if self.config.attention_bias else 1.0)
        return output


def test_a_copy_that_says_something_else_is_refused_before_it_is_written():
    config = configuration("llama-mha")
    torch.manual_seed(0)
    model = Model(Louder(config), byte_tokenizer(), "louder")
    with pytest.raises(
        UserError, match=r"a copy with biases of Louder, whose logits differ by .* where the edit changes them by"
    ):
        baked(model, steered(model.layout))
    torch.manual_seed(0)
    quiet = Model(LlamaForCausalLM(config), byte_tokenizer(), "quiet")
    baked(quiet, steered(quiet.layout))


class Forgetful(LlamaForCausalLM):
    """A model that comes back from its folder without what is in its biases."""

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        back = super().from_pretrained(*args, **kwargs)
        for name, parameter in back.named_parameters():
            if name.endswith("o_proj.bias"):
                parameter.data.zero_()
        return back


def test_a_copy_that_comes_back_as_another_is_refused_and_leaves_nothing(tmp_path):
    torch.manual_seed(0)
    model, out = Model(Forgetful(configuration("llama-mha")), byte_tokenizer(), "forgetful"), tmp_path / "out"
    edit = steered(model.layout)
    copied = baked(model, edit)
    with pytest.raises(UserError, match="a saved copy with biases of Forgetful"):
        save_baked(model, edit, copied, out)
    assert not out.exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_a_little_edit_that_is_lost_is_noticed(kept):
    """Rounding is no excuse for an edit that moves logits by little more than rounding does."""
    model = base("llama")

    def said(tokens):
        with Bank([steered(model.layout, alpha=0.01 * kept)]).attach(model):
            return model.hf(input_ids=tokens, use_cache=False).logits

    if kept == 1.0:
        compare(model, steered(model.layout, alpha=0.01), said, "all of it")
    else:
        with pytest.raises(UserError, match="a part of it"):
            compare(model, steered(model.layout, alpha=0.01), said, "a part of it")


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt_oss"])
def test_in_bfloat16_rounding_passes_and_an_edit_that_is_lost_does_not(family):
    """Rounding alone sends tokens to other experts, after which everything is another."""
    model = Model(fresh(family).bfloat16(), byte_tokenizer(), "half")
    for name, edit in edits(model.layout).items():
        adapter(model, edit)
        with pytest.raises(UserError, match="nothing of it"):
            compare(model, edit, lambda tokens: model.hf(input_ids=tokens, use_cache=False).logits, f"nothing of it: {name}")
    if family != "mixtral":
        baked(model, steered(model.layout))


class Woven(nn.Module):
    """A linear map that is no Linear."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, o):
        return o @ self.weight.T


def test_an_adapter_beside_a_map_that_peft_does_not_know_is_refused(tmp_path):
    hf = fresh("llama")
    for layer in hf.model.layers:
        layer.self_attn.o_proj = Woven(layer.self_attn.o_proj.weight.detach())
    model = Model(hf, byte_tokenizer(), "woven")
    with pytest.raises(UserError, match=r"PEFT can put an adapter beside.*Woven at model.layers.0.self_attn.o_proj"):
        save_peft(model, edits(model.layout)["layer"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_modules_whose_paths_end_alike_are_told_apart(tmp_path):
    """PEFT takes every module whose path ends in one that it is given, such as those of another tower."""
    hf = fresh("llama")
    hf.tower = nn.ModuleDict({"model": copy.deepcopy(hf.model)})
    model = Model(hf, byte_tokenizer(), "towers")
    edit = edits(model.layout)["layer"]
    save_peft(model, edit, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert isinstance(settings["target_modules"], str)
    peft = pytest.importorskip("peft", reason=NO_PEFT)
    plain = fresh("llama")
    plain.tower = nn.ModuleDict({"model": copy.deepcopy(plain.model)})
    loaded = peft.PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    assert {name.split(".")[2] for name, _ in loaded.named_modules() if "lora_A" in name} == {"model"}
    held(logits(loaded), model, edit)
