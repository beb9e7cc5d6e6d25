"""Patching on real models: SmolLM2-135M against hooks written by hand, GPT-2 small against the published IOI heads."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from locus.models.load import load
from locus.patching import tasks
from locus.patching.component import Component
from locus.patching.sweep import Batching, heads, sweep

# Zhang & Nanda 2023, table 5: S2 replaced, logit difference, beyond two standard deviations.
PUBLISHED = {"5.5": 1, "7.9": 1, "8.6": 1, "8.10": 1, "9.9": 1, "10.7": -1, "11.10": -1}


@pytest.mark.big
def test_smollm2_equals_hooks_written_by_hand(big_model):
    """Whole forwards of the Hugging Face model, one prompt and one head at a time, against batches from the stored runs."""
    model = big_model
    pairs = tasks.indirect_object(model.tokenizer, 2, 0)
    chosen = [(3, 1), (18, 4), (29, 8)]
    patch_map = sweep(model, pairs, [(Component("head", layer, head),) for layer, head in chosen], batching=Batching(2))
    for column, pair in enumerate(pairs):
        for row, (layer, head) in enumerate(chosen):
            module, features, held = model.layers[layer].self_attn.o_proj, slice(64 * head, 64 * head + 64), []

            def before(_, args, held=held, features=features):
                if not held:
                    held.append(args[0].clone())
                    return None
                new = args[0].clone()
                new[..., features] = held[0][..., features]
                return (new,)

            handle = module.register_forward_pre_hook(before)
            with torch.no_grad():
                clean = model.hf(input_ids=torch.tensor([pair.clean])).logits[0, -1]
                patched = model.hf(input_ids=torch.tensor([pair.corrupted])).logits[0, -1]
            handle.remove()
            (answer,), (other,) = pair.answer, pair.other
            assert patch_map.clean[column] == pytest.approx(float(clean[answer] - clean[other]), abs=1e-3)
            assert patch_map.patched[row, column] == pytest.approx(float(patched[answer] - patched[other]), abs=1e-3)


@pytest.mark.slow
def test_gpt2_small_has_the_published_heads():
    """Needs a folder with GPT-2 small: LOCUS_GPT2."""
    folder = os.environ.get("LOCUS_GPT2")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no GPT-2 small; set LOCUS_GPT2 to its folder")
    model = load(folder, dtype="float32")
    patch_map = sweep(model, tasks.indirect_object(model.tokenizer, 100, 0), heads(model.layout), batching=Batching(50))
    assert patch_map.clean.mean() > 2.0  # Wang et al. 2022: 3.56 on their templates
    means = patch_map.effects().values.mean(axis=1)
    far = {
        name: np.sign(mean)
        for name, mean in zip(patch_map.names, means, strict=True)
        if abs(mean - means.mean()) > 2 * means.std()
    }
    # Own templates and names: most of the published heads, and none with the other sign.
    assert sum(far.get(name) == sign for name, sign in PUBLISHED.items()) >= 5
    assert all(far.get(name, sign) == sign for name, sign in PUBLISHED.items())
