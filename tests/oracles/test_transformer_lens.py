"""Patched heads as TransformerLens patches them: `make oracles`."""

import numpy as np
import pytest

from locus.patching.sweep import Layout, heads, sweep
from tests.families import tiny
from tests.test_patching import random_pairs

pytest.importorskip("transformer_lens")
pytestmark = pytest.mark.oracle


def differences(folder, model, pairs):
    """Our and TransformerLens' logit differences of every patched head, [heads, pairs]."""
    from benchmarks.patching import bridged, lens_values

    theirs = lens_values(bridged(str(folder)), pairs, range(model.layout.n_layers))
    return sweep(model, pairs, heads(model.layout), layout=Layout(len(pairs))), theirs


@pytest.mark.parametrize("family", ["llama", "llama-mqa", "qwen2", "gpt2"])
def test_every_head_of_a_small_model(family, tmp_path):
    model = tiny(family)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    ours, theirs = differences(tmp_path, model, random_pairs(6))
    assert np.abs(ours.effects("none").values).max() > 1e-2
    np.testing.assert_allclose(ours.patched, theirs, rtol=0, atol=1e-4)


@pytest.mark.big
def test_every_head_of_smollm2(big_model):
    """All 270 heads of prompts of one length, each example's own logit difference."""
    from locus.models.locate import DEFAULT_MODEL
    from locus.patching import tasks

    drawn = tasks.indirect_object(big_model.tokenizer, 16, 0)
    pairs = [pair for pair in drawn if len(pair) == len(drawn[0])]
    ours, theirs = differences(DEFAULT_MODEL, big_model, pairs)
    assert theirs.shape == (270, len(pairs)) and len(pairs) >= 3
    np.testing.assert_allclose(ours.patched, theirs, rtol=0, atol=1e-4)
