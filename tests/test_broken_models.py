"""Every model that is not what it seems is refused in one sentence that names the file; nothing hangs, nothing is our bug."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from locus.engine.forward import layer_inputs as forward_entry
from locus.errors import UserError, others
from locus.models.load import load
from locus.models.locate import at_hand
from locus.models.model import Model
from locus.plan.config import resolve
from locus.plan.preconditions import early
from tests.families import byte_tokenizer, tiny

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


@pytest.fixture
def folder(tmp_path, llama_folder):
    """A copy of the tiny model's folder, to be spoiled."""
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


def configure(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def drop(folder: Path, *names: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in names}))


def replace(folder: Path, name: str, content: bytes | str) -> None:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def header(folder: Path, change) -> None:
    """The weights with another header."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    told = json.loads(content[8 : 8 + length])
    change(told)
    new = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])


def overlap(told):
    first, second = sorted(name for name in told if name != "__metadata__")[:2]
    told[second]["data_offsets"] = told[first]["data_offsets"]


def shard(folder: Path, index: dict) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    replace(folder, "model.safetensors.index.json", json.dumps(index))


def cut(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    replace(folder, name, content[: int(len(content) * share)])


def pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def spoil_weight(folder: Path, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


# What can be seen without torch, with a word of the sentence that says it.
SEEN_EARLY = {
    "weights are a git-lfs pointer": (lambda f: replace(f, "model.safetensors", POINTER), "git lfs pull"),
    "the tokenizer is a git-lfs pointer": (lambda f: replace(f, "tokenizer.json", POINTER), "git lfs pull"),
    "the configuration is a git-lfs pointer": (lambda f: replace(f, "config.json", POINTER), "git lfs pull"),
    "weights cut": (lambda f: cut(f, "model.safetensors", 0.7), "model.safetensors"),
    "weights cut in the header": (lambda f: replace(f, "model.safetensors", b"\x10"), "model.safetensors"),
    "weights empty": (lambda f: replace(f, "model.safetensors", b""), "model.safetensors"),
    "wrong header length": (lambda f: replace(f, "model.safetensors", struct.pack("<Q", 1 << 60) + b"{}"), "model.safetensors"),
    "header nested": (
        lambda f: replace(f, "model.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000),
        "model.safetensors",
    ),
    "overlapping offsets": (lambda f: header(f, overlap), "model.safetensors"),
    "unknown number format": (lambda f: header(f, lambda told: told["lm_head.weight"].update(dtype="F99")), "model.safetensors"),
    "missing shards": (
        lambda f: shard(f, {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}),
        "without model-00002-of-00002.safetensors",
    ),
    "an index that leaves the folder": (lambda f: shard(f, {"weight_map": {"a": "../../x.safetensors"}}), "../../x"),
    "an index of nothing": (lambda f: shard(f, {"weight_map": []}), "weight_map"),
    "a distributed checkpoint beside": (
        lambda f: replace(f, "shard-00000-model-00000-of-00001.safetensors", b"x"),
        "distributed",
    ),
    "pickled only": (pickled, "pickled"),
    "weights are a pipe": (lambda f: pipe(f, "model.safetensors"), "regular"),
    "the configuration is a pipe": (lambda f: pipe(f, "config.json"), "regular"),
    "the tokenizer is a pipe": (lambda f: pipe(f, "tokenizer.json"), "regular"),
    "a dangling link": (lambda f: os.symlink("nowhere", f / "added.json"), "added.json"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "config.json"),
    "a configuration that is a list": (lambda f: replace(f, "config.json", "[]"), "config.json"),
    "a configuration nested 100,000 deep": (lambda f: replace(f, "config.json", "[" * 100_000), "nested"),
    "a configuration with NaN": (lambda f: configure(f, rms_norm_eps=float("nan")), "NaN"),
    "no model_type": (lambda f: drop(f, "model_type"), "model_type"),
    "zero heads": (lambda f: configure(f, num_attention_heads=0), "num_attention_heads = 0"),
    "half a head": (lambda f: configure(f, num_attention_heads=0.5), "num_attention_heads = 0.5"),
    "heads as text": (lambda f: configure(f, num_attention_heads="4"), "num_attention_heads = 4"),
    "negative layers": (lambda f: configure(f, num_hidden_layers=-3), "num_hidden_layers = -3"),
    "zero key-value heads": (lambda f: configure(f, num_key_value_heads=0), "num_key_value_heads = 0"),
    "key-value heads that do not divide": (lambda f: configure(f, num_key_value_heads=3), "3 key-value heads"),
    "a width that heads do not divide": (lambda f: (drop(f, "head_dim"), configure(f, num_attention_heads=5)), "5 heads"),
    "a vocabulary of 10^12": (lambda f: configure(f, vocab_size=10**12), "32,000,000"),
    "10^9 layers": (lambda f: configure(f, num_hidden_layers=10**9), "numbers or more"),
    "a negative rope base": (lambda f: configure(f, rope_theta=-1.0), "rope_theta"),
    "packed by bitsandbytes": (
        lambda f: configure(f, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "bitsandbytes",
    ),
    "packed by gptq": (lambda f: configure(f, quantization_config={"quant_method": "gptq", "bits": 4}), "gptq"),
    "packed by nobody": (lambda f: configure(f, quantization_config="yes"), "quantization_config"),
    "weights under another name": (lambda f: configure(f, transformers_weights="adapter_model.bin"), "transformers_weights"),
}

# What only loading shows.
SEEN_LATE = {
    "an unknown model_type": (lambda f: configure(f, model_type="perceptron9000"), "perceptron9000"),
    "a dtype that there is not": (lambda f: configure(f, dtype="float99", torch_dtype="float99"), "float99"),
    "an activation that there is not": (lambda f: configure(f, hidden_act="nonsense"), "nonsense"),
    "a rope that there is not": (lambda f: configure(f, rope_scaling={"rope_type": "nonsense", "factor": 2.0}), "nonsense"),
    "a padding token beyond the vocabulary": (lambda f: configure(f, pad_token_id=10**6), "model"),
    "weights with NaN": (lambda f: spoil_weight(f, float("nan")), "model.layers.1.mlp.up_proj.weight"),
    "weights with infinity": (lambda f: spoil_weight(f, float("-inf")), "model.layers.1.mlp.up_proj.weight"),
    "code that nobody allowed": (
        lambda f: configure(f, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}),
        "trust_remote_code",
    ),
    "no tokenizer": (
        lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json") if (f / name).exists()],
        "tokenizer",
    ),
    "a tokenizer cut": (lambda f: cut(f, "tokenizer.json", 0.5), "tokenizer"),
    "a tokenizer that is a list": (lambda f: replace(f, "tokenizer.json", "[]"), "tokenizer"),
    "a tokenizer nested 100,000 deep": (lambda f: replace(f, "tokenizer.json", "[" * 100_000), "tokenizer"),
    "a tokenizer's settings as a list": (lambda f: replace(f, "tokenizer_config.json", "[1]"), "tokenizer"),
    "a tokenizer whose code nobody allowed": (
        lambda f: replace(
            f, "tokenizer_config.json", '{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.T", null]}}'
        ),
        "tokenizer",
    ),
    "a slow tokenizer": (lambda f: slow(f), "tokenizer"),
    "a tokenizer that raises": (lambda f: raising(f), "tokenizer"),
    "a larger vocabulary": (lambda f: larger(f), "ids up to"),
}


def slow(folder: Path) -> None:
    """A byte tokenizer of transformers that has no fast form."""
    (folder / "tokenizer.json").unlink()
    replace(folder, "tokenizer_config.json", json.dumps({"tokenizer_class": "ByT5Tokenizer"}))


def raising(folder: Path) -> None:
    """A tokenizer that knows one word and has no token for any other."""
    told = json.loads((folder / "tokenizer.json").read_text())
    told["model"] = {"type": "WordLevel", "vocab": {"word": 0}, "unk_token": "[UNK]"}
    replace(folder, "tokenizer.json", json.dumps(told))


def larger(folder: Path) -> None:
    told = json.loads((folder / "tokenizer.json").read_text())
    told["model"]["vocab"] |= {f"token{number}": 300 + number for number in range(200)}
    replace(folder, "tokenizer.json", json.dumps(told))


@pytest.mark.parametrize("case", SEEN_EARLY)
def test_what_files_show_is_said_before_torch_is_needed(folder, case):
    spoil, word = SEEN_EARLY[case]
    spoil(folder)
    with pytest.raises(UserError) as refused:
        at_hand(str(folder))
    assert word in str(refused.value) and str(folder) in str(refused.value)
    with pytest.raises(UserError, match=r"to fix before|expected"):
        early(resolve(model=str(folder)))
    with pytest.raises(UserError):
        load(str(folder))


@pytest.mark.parametrize("case", SEEN_LATE)
def test_what_loading_shows_is_said_in_one_sentence(folder, case):
    spoil, word = SEEN_LATE[case]
    spoil(folder)
    with pytest.raises(UserError) as refused:
        load(str(folder))
    assert word in str(refused.value) and str(folder) in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_all_that_is_wrong_is_said_together(folder):
    replace(folder, "tokenizer.json", POINTER)
    replace(folder, "generation_config.json", POINTER)
    with pytest.raises(UserError) as refused:
        early(resolve(model=str(folder), claims=("99.99,1.1,",), device="abc"))
    said = str(refused.value)
    assert "tokenizer.json" in said and "generation_config.json" in said and "'abc'" in said and "to fix before" in said


def test_an_empty_folder_and_a_missing_one(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, word in ((tmp_path / "empty", "config.json and model.safetensors"), (tmp_path / "gone", "gone")):
        with pytest.raises(UserError, match=word):
            load(str(name))


def test_a_folder_or_a_file_that_may_not_be_read(llama_folder):
    """As a user without rights, since root may read everything; in a folder of its own, since pytest's are closed to others."""
    script = "import os, sys; from locus.models.locate import at_hand; os.geteuid() or os.setuid(65534); at_hand(sys.argv[1])"
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(shutil.copytree(llama_folder, Path(place) / "model"))
        for path in (folder / "model.safetensors", folder):
            folder.chmod(0o755)
            path.chmod(0)
            done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
            path.chmod(0o755)
            assert "UserError" in done.stderr and f"{str(path)!r} (Permission denied)" in done.stderr, done.stderr[-1000:]


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_an_architecture_of_another_shape(tmp_path, family):
    sizes = {"vocab_size": 384}
    if family == "bert":
        config = BertConfig(
            **sizes, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, is_decoder=False
        )
        BertLMHeadModel(config).save_pretrained(tmp_path)
    else:
        T5ForConditionalGeneration(T5Config(**sizes, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)).save_pretrained(
            tmp_path
        )
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="causal LM"):
        load(str(tmp_path))


def test_models_that_are_handed_over_are_watched_before_anything_else():
    source = tiny("llama")
    for spoil, word in (
        (lambda hf: delattr(hf.model, "norm"), "cannot read a few tokens"),
        (lambda hf: delattr(hf.model.layers[1], "mlp"), "cannot read a few tokens"),
        (lambda hf: setattr(hf.model, "layers", torch.nn.ModuleList()), "attention"),
        (lambda hf: setattr(hf, "lm_head", torch.nn.Identity()), "its logits are neither"),
        (lambda hf: setattr(hf.model.layers[2].self_attn, "o_proj", Narrowed()), "a linear map from what the 4 heads"),
    ):
        hf = type(source.hf)(source.hf.config.__class__(**source.hf.config.to_dict()))
        spoil(hf)
        with pytest.raises(UserError) as refused:
            Model(hf, source.tokenizer, "odd")
        assert word in str(refused.value)


class Narrowed(torch.nn.Module):
    """What the heads say, cut to the stream's width by no matrix."""

    def forward(self, outputs):
        return outputs[..., :32]


@pytest.mark.parametrize("device", ["abc", "cuda:99", "cuda:x", "", "meta"])
def test_a_device_that_there_is_not(llama_folder, device):
    with pytest.raises(UserError, match="device"):
        load(llama_folder, device=device)


def test_a_token_without_an_embedding_is_named(llama):
    from locus.engine.trie import PackedRow

    places = np.arange(3)
    row = PackedRow(places, np.array([1, 2, 999]), places, np.tril(np.ones((3, 3), dtype=bool)), places > 1)
    with pytest.raises(UserError, match="token 999"):
        forward_entry(llama, row)


def written(path: Path, architecture: str = "llama", **changes) -> Path:
    """A tiny GGUF file of the Llama architecture, complete but for what is changed."""
    import gguf

    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(changes.get("layers", 1))
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(changes.get("heads", 4))
    writer.add_head_count_kv(4)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(260)
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", "<unk>", "BC"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(alphabet)
    writer.add_token_types([1] * 256 + [3, 3, 3, 1])
    writer.add_token_merges(["B C"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    draw = np.random.default_rng(0).standard_normal
    shapes = {
        "token_embd": (260, 32),
        "output_norm": (32,),
        "output": (260, 32),
        "blk.0.attn_norm": (32,),
        "blk.0.ffn_norm": (32,),
    }
    shapes |= {f"blk.0.attn_{name}": (32, 32) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (32, 32) for name in ("gate", "up", "down")}
    shapes |= changes.get("more", {})
    for name, shape in shapes.items():
        if name not in changes.get("without", ()):
            scale = changes.get("scale", {}).get(name)
            content = draw(shape) if scale is None else np.full(shape, scale)
            writer.add_tensor(f"{name}.weight", content.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))


def test_a_whole_gguf_loads(tmp_path, cache):
    """So that the refusals below are for what was spoiled; factors of the rotary frequencies that are all one are no change."""
    one = load(str(written(tmp_path / "a.gguf")))
    again = load(str(written(tmp_path / "b.gguf", more={"rope_freqs": (4,)}, scale={"rope_freqs": 1.0})))
    assert one.fingerprint == again.fingerprint and one.quantised and one.layout.n_layers == 1


GGUF = {
    "an unknown architecture": ({"architecture": "perceptron"}, None, "perceptron"),
    "no head and an empty space": ({"without": ("blk.0.attn_output",)}, None, "model.layers.0.self_attn.o_proj.weight"),
    "factors that are not one": ({"more": {"rope_freqs": (4,)}, "scale": {"rope_freqs": 2.0}}, None, "rope_freqs.weight"),
    "a tensor that goes nowhere": ({"more": {"blk.0.attn_sinks": (4,)}}, None, "attn_sinks"),
    "10^9 layers": ({"layers": 10**9}, None, "numbers or more"),
    "zero heads": ({"heads": 0}, None, "head_count = 0"),
    "NaN": ({"scale": {"blk.0.ffn_up": float("nan")}}, None, "up_proj"),
    "wrong magic": ({}, lambda content: b"GGML" + content[4:], "begin"),
    "an array of 2^40 tokens": ({}, lambda content: longer(content), "beyond its"),
    "version 9": ({}, lambda content: content[:4] + struct.pack("<I", 9) + content[8:], "version 9"),
    "2^60 tensors": ({}, lambda content: content[:8] + struct.pack("<Q", 1 << 60) + content[16:], "beyond its"),
    "cut in its data": ({}, lambda content: content[:-40_000], "it is cut"),
    "cut in its tables": ({}, lambda content: content[:2000], "beyond its"),
    "nothing": ({}, lambda content: b"", "begin"),
    "a git-lfs pointer": ({}, lambda content: POINTER.encode(), "git lfs pull"),
    "an unknown packing": ({}, lambda content: repacked(content), "unknown way 250"),
}


def longer(content: bytes) -> bytes:
    """The content with another length of the array of tokens' types, which a reader would go through one by one."""
    at = content.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8
    return content[:at] + struct.pack("<Q", 1 << 40) + content[at + 8 :]


def repacked(content: bytes) -> bytes:
    """The content with a number format for the first tensor that there is not."""
    at = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    return content[:at] + struct.pack("<I", 250) + content[at + 4 :]


@pytest.mark.parametrize("case", GGUF)
def test_a_gguf_that_is_not_what_it_seems(tmp_path, cache, case):
    changes, spoil, word = GGUF[case]
    path = written(tmp_path / "spoiled.gguf", **changes)
    if spoil is not None:
        path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError) as refused:
        load(str(path))
    assert word in str(refused.value) and str(path) in str(refused.value)
    assert not list((tmp_path / "cache").rglob("config.json"))


def test_a_pipe_as_gguf_and_as_judge(tmp_path):
    os.mkfifo(tmp_path / "a.gguf")
    with pytest.raises(UserError, match="regular"):
        load(str(tmp_path / "a.gguf"))
    from locus.judges import kind

    with pytest.raises(UserError, match="regular"):
        kind.check_judge(f"lm:{tmp_path / 'a.gguf'}")


def test_the_command_line_ends_with_status_2_and_one_sentence(folder, monkeypatch, capsys):
    from locus.cli import app as cli

    cut(folder, "tokenizer.json", 0.5)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # restored afterwards: main sets its own
    monkeypatch.setattr(sys, "argv", ["locus", "patch", "--out", str(folder.parent / "OUT"), "--model", str(folder)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == 2 and "bug in locus" not in said and "Traceback" not in said and str(folder) in said


def test_our_own_mistakes_stay_ours():
    """Only what other packages raise over a file is the user's; an interrupt is nobody's mistake."""
    for error in (KeyError("x"), MemoryError(), RecursionError(), AttributeError("dtype"), ValueError("")):
        with pytest.raises(UserError, match=type(error).__name__), others("a", "b", "c"):
            raise error
    with pytest.raises(KeyboardInterrupt), others("a", "b", "c"):
        raise KeyboardInterrupt
