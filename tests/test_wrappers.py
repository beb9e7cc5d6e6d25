"""Models as people have them: read images beside text, spread over devices, packed in few bits, in bfloat16."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

import locus
from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1
from locus.engine.checks import run_checks, standing
from locus.engine.cost import Sizes
from locus.errors import UserError
from locus.models.load import load
from locus.models.locate import at_hand
from locus.report.lora import save_peft
from locus.sites.site import Location
from studies.models.build import draw
from tests.families import QUESTIONS, byte_tokenizer, tiny
from tests.test_export_families import TOKENS

TEXT = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 256,
}
PICTURE = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE |= {"image_size": 28, "patch_size": 14}
PLACES = {"image_token_id": 300, "video_token_id": 301, "vision_start_token_id": 303, "vision_end_token_id": 304}
TURNED = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
# A text model beside one that reads images: of its own kind, of any, with positions of three parts.
SEEING = {
    "gemma3": {"text_config": {**TEXT, "head_dim": 24}, "vision_config": PICTURE, "image_token_index": 300},
    "llava": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **PICTURE},
        "image_token_index": 300,
    },
    "qwen2_vl": {
        "text_config": {**TEXT, **TURNED},
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14},
        **PLACES,
    },
    "idefics3": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": PICTURE,
        "image_token_id": 300,
        "scale_factor": 2,
    },
}
PREFIX = {
    "text_config": {"model_type": "gemma", **TEXT, "head_dim": 16},
    "vision_config": {"model_type": "siglip_vision_model", **PICTURE, "projection_dim": 64},
    "image_token_index": 300,
    "projection_dim": 64,
}


def seeing(family: str, settings: dict):
    """A tiny model that reads images beside text, of transformers' own class for these."""
    torch.manual_seed(1)
    hf = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[family](**settings)).float().eval()
    draw(hf, 0.3)
    return hf


def saved(hf, folder: Path) -> str:
    hf.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def logits(hf) -> torch.Tensor:
    with torch.no_grad():
        return hf(input_ids=TOKENS, use_cache=False).logits


@pytest.mark.parametrize("family", SEEING)
def test_of_a_model_that_reads_images_the_language_part_is_audited(family, tmp_path):
    """By name and in memory, as transformers' own class has it; what it does with images has no heads that are sites."""
    hf = seeing(family, SEEING[family])
    for model in (load(saved(hf, tmp_path / "model"), device="cpu"), locus.wrap(hf, byte_tokenizer())):
        assert type(model.hf) is type(hf) and model.layout.n_layers == TEXT["num_hidden_layers"] and model.context == 512
        torch.testing.assert_close(logits(model.hf), logits(hf), atol=1e-4, rtol=1e-5)
        assert standing(model, run_checks(model, prompt_format(model.tokenizer, "qa"))) == "complete"
    edit = Rank1(model.layout, Location.parse("0.1,2.3"))
    with torch.no_grad():
        edit.flat.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    (tmp_path / "adapter").mkdir()
    save_peft(load(str(tmp_path / "model"), device="cpu"), edit.frozen({}), tmp_path / "adapter")
    targets = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert all("vision" not in path for path in targets)


def test_one_that_reads_its_prompt_in_both_directions_is_refused(tmp_path):
    with pytest.raises(UserError, match="it is no decoder: what it says of a token depends on the tokens behind it"):
        load(saved(seeing("paligemma", PREFIX), tmp_path), device="cpu")


# Devices.


def test_a_model_that_was_loaded_by_device_map_onto_one_device_is_any_model(llama_folder):
    hf = AutoModelForCausalLM.from_pretrained(llama_folder, device_map="auto", dtype=torch.float32)
    assert locus.wrap(hf, byte_tokenizer()).fingerprint == tiny("llama").fingerprint


def test_a_model_that_is_spread_is_told_the_way_through(llama_folder, tmp_path):
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_module

    spread = {
        "model.embed_tokens": "cpu",
        "model.layers": "disk",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    on_disk = AutoModelForCausalLM.from_pretrained(llama_folder, device_map=spread, offload_folder=tmp_path)
    with pytest.raises(UserError, match=r"on one device.*spread by accelerate \(device_map\).*device_map='auto'"):
        locus.wrap(on_disk, byte_tokenizer())
    hf = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32)
    hf = dispatch_model(hf, {"": "cpu"}, main_device="cpu", force_hooks=True)
    with pytest.raises(UserError, match=r"accelerate.hooks.remove_hook_from_module\(model, recurse=True\)"):
        locus.wrap(hf, byte_tokenizer())
    remove_hook_from_module(hf, recurse=True)
    assert locus.wrap(hf, byte_tokenizer()).fingerprint == tiny("llama").fingerprint


# Numbers.


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_in_half_are_computed_in_float32_on_a_cpu(stored, tmp_path):
    """Whatever the configuration says; in bfloat16 where that is asked for."""
    hf = AutoModelForCausalLM.from_config(tiny("llama").hf.config).to(stored)
    place = saved(hf, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")
    model = load(place, device="cpu")
    assert model.dtype == torch.float32 and {one.dtype for one in model.hf.parameters()} == {torch.float32}
    assert torch.equal(model.weight(0), hf.model.layers[0].self_attn.o_proj.weight.float())
    assert load(place, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


PACKED = {
    "gptq": {"bits": 4, "group_size": 128},
    "awq": {"bits": 4, "group_size": 128, "zero_point": True},
    "fp8": {"activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "mxfp4": {"modules_to_not_convert": ["lm_head"]},
    "bitsandbytes": {"load_in_8bit": True},
    "compressed-tensors": {"format": "pack-quantized"},
}


@pytest.mark.parametrize("method", PACKED)
@pytest.mark.parametrize("inner", [False, True])
def test_packed_weights_are_refused_in_one_sentence_before_they_are_read(method, inner, llama_folder, tmp_path):
    """Whether the package that reads them is here or not; also where the text part alone says so."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    packed = {"quantization_config": {"quant_method": method, **PACKED[method]}}
    told = {"model_type": "llava", "text_config": {**config, **packed}, "vision_config": {}} if inner else {**config, **packed}
    (folder / "config.json").write_text(json.dumps(told))
    for ask in (at_hand, load):
        with pytest.raises(
            UserError, match=rf"quantization_config \({method}\).*give locus.wrap the model, or what its dequantize"
        ) as refused:
            ask(str(folder))
        assert "\n" not in str(refused.value)


class Packed(torch.nn.Linear):
    """A linear map with one byte a number, which it unpacks whenever it is called; in eight bits it rounds its inputs, too."""

    def __init__(self, linear, rounds):
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.scale, self.rounds = linear.weight.detach().abs().amax() / 127, rounds
        self.bias = linear.bias
        self.weight = torch.nn.Parameter((linear.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, inputs):
        if self.rounds:
            step = inputs.detach().abs().amax() / 127
            inputs = inputs + ((inputs / step).round() * step - inputs).detach()
        return torch.nn.functional.linear(inputs, self.weight.to(inputs.dtype) * self.scale.to(inputs.dtype), self.bias)


def packed_llama(rounds):
    hf = tiny("llama").hf
    hf = type(hf)(hf.config).eval()
    draw(hf, 0.3)
    for layer in hf.model.layers:
        for path in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"):
            layer.set_submodule(path, Packed(layer.get_submodule(path), rounds))
    return hf


def test_an_edit_acts_beside_a_packed_matrix_exactly_against_what_the_packed_model_says():
    hf = packed_llama(rounds=False)
    before = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    model = locus.wrap(hf, byte_tokenizer())
    assert model.quantised and model.layout.heads == (4, 4, 4)
    checks = run_checks(model, prompt_format(model.tokenizer, "qa"))
    assert all(one.passed for one in checks) and not model.off, model.off
    packed = model.projection(1)
    torch.testing.assert_close(model.weight(1), packed.weight.float() * packed.scale, atol=1e-6, rtol=1e-5)
    assert Sizes.of(model) == Sizes.of(tiny("llama"))
    assert all(torch.equal(before[name], tensor) for name, tensor in hf.state_dict().items())


def test_an_audit_of_a_packed_model_says_that_it_is_quantised(tmp_path):
    rows = [
        {"question": f"{turn}. {one.question}", "true": list(one.wanted), "false": list(one.unwanted)}
        for turn in range(3)
        for one in QUESTIONS
    ]
    few = {"random": 3, "alpha": 0.3, "text_passages": 0, "search": "newton", "rounds": 3, "lengths": ()}
    hf = packed_llama(rounds=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = locus.audit(locus.wrap(hf, byte_tokenizer()), locus.behaviour(rows), "0.1", out=tmp_path / "RUN", **few)
    assert run.verdict.model.quantised and "quantised" in (tmp_path / "RUN" / "report.html").read_text()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_that_round_their_inputs_are_refused_in_whatever_numbers(dtype):
    model = locus.wrap(packed_llama(rounds=False).to(dtype), byte_tokenizer())
    assert model.quantised and model.dtype == dtype
    with pytest.raises(UserError, match=r"the inputs of model.layers.0.self_attn.q_proj are rounded, too.*dequantize"):
        locus.wrap(packed_llama(rounds=True).to(dtype), byte_tokenizer())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_model_packed_by_bitsandbytes(bits, llama_folder):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed here")
    from transformers import BitsAndBytesConfig

    packed = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    hf = AutoModelForCausalLM.from_pretrained(llama_folder, quantization_config=packed, device_map="cpu", dtype=torch.float32)
    said = logits(hf)
    if bits == 4:
        model = locus.wrap(hf, byte_tokenizer())
        torch.testing.assert_close(logits(model.hf), said, atol=1e-4, rtol=1e-5)
        assert all(one.passed for one in run_checks(model, prompt_format(model.tokenizer, "qa"))) and not model.off
        assert torch.equal(logits(hf), said), "the model itself is as it was"
        return
    with pytest.raises(UserError, match=r"quantised.*dequantize\(dtype=torch.float32\)"):
        locus.wrap(hf, byte_tokenizer())
    plain = hf.dequantize(dtype=torch.float32)
    torch.testing.assert_close(logits(locus.wrap(plain, byte_tokenizer()).hf), logits(plain), atol=1e-4, rtol=1e-5)
