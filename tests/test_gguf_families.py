"""GGUF files of whatever architecture transformers reads: locus has no list of its own, and takes what it gives, whole."""

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM
from transformers import modeling_gguf_pytorch_utils as ways
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from locus.models.load import load
from studies.models.build import build

# Rotary; with biases; parallel in part; with linear layers that have all their biases; linear positions and a fused q, k, v.
READ = ("llama", "qwen2", "stablelm", "starcoder2", "bloom")


def written(family, path):
    """A tiny model of a family as a GGUF file, under the names that transformers' own tables have."""
    hf = build(family)
    writer, config = gguf.GGUFWriter(str(path), family), hf.config
    for key, name in GGUF_CONFIG_MAPPING[family].items():
        value = getattr(config, name, None) if isinstance(name, str) and key != "vocab_size" else None
        if name == "rope_theta":
            value = float(config.rope_parameters["rope_theta"])
        if isinstance(value, int):
            writer.add_uint32(f"{family}.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{family}.{key}", value)
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", "<unk>", "BC"]
    further = config.vocab_size - len(alphabet)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*alphabet, *(f"<extra{number}>" for number in range(further))])
    writer.add_token_types([1] * 256 + [3, 3, 3, 1] + [4] * further)
    writer.add_token_merges(["B C"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    processor = ways.TENSOR_PROCESSORS.get(family, ways.TensorProcessor)
    state = hf.state_dict()
    for name, own in ways.get_gguf_hf_weights_map(hf, processor(config=config.to_dict())).items():
        if own in state and not (name == "output.weight" and config.tie_word_embeddings):
            writer.add_tensor(name, np.ascontiguousarray(state[own].numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("family", READ)
def test_a_gguf_file_gives_what_transformers_reads_of_it(family, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    written(family, tmp_path / "model.gguf")
    model = load(str(tmp_path / "model.gguf"), device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    tokens = torch.arange(1, 20)[None]
    with torch.no_grad():
        ours, theirs = (hf(input_ids=tokens, use_cache=False).logits for hf in (model.hf, plain))
    assert model.quantised and model.layout.n_layers == 4
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
