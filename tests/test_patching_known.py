"""Planted models: detection finds the head that does the work, rejects what only looks like it, and knows a dormant direction."""

import numpy as np
import pytest
import torch

from locus import claims
from locus.errors import UserError
from locus.models.model import Model
from locus.models.planted import COMPACT, build
from locus.models.planted.named import planted_named
from locus.patch import find
from locus.patching.component import Component
from locus.patching.corruptions import Ablation, Replacement
from locus.patching.detect import detect
from locus.patching.direction import dormancy
from locus.patching.known import planted_pairs
from locus.patching.material import pairs_of
from locus.patching.settings import resolve
from locus.patching.sweep import Batching, heads, sweep


def detected(planted, direction, corruption, seed=0):
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    patches = heads(model.layout)
    effects = sweep(model, planted_pairs(planted, 40, seed), patches, direction, corruption, batching=Batching(64)).effects(
        "none"
    )
    detection = detect(effects.values, least=0.05, draws=1000)
    return {(patch[0].layer, patch[0].head) for patch, here in zip(patches, detection.detected, strict=True) if here}, detection


@pytest.mark.parametrize("kind", ["localized", "decoy", "redundant", "negative", "dormant"])
@pytest.mark.parametrize("seed", [0, 1])
def test_taking_heads_away_finds_the_planted_ones_and_no_other(kind, seed):
    planted = build(kind, seed, **COMPACT)
    heads_found, _ = detected(planted, "noise", Ablation("zero"))
    assert heads_found == set(planted.truth)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_replaced_tokens_find_the_head_that_reads_what_was_replaced(seed):
    """The planted head reads truth, which differs between question and true answer; nothing else has an effect."""
    planted = build("localized", seed, **COMPACT)
    heads_found, tested = detected(planted, "denoise", Replacement())
    assert heads_found == set(planted.truth)
    others = [mean for mean, here in zip(tested.mean, tested.detected, strict=True) if not here]
    assert np.abs(others).max() < 0.1 * np.abs(tested.mean).max()


def test_the_command_claims_the_planted_head(tmp_path):
    record = find(resolve(model="planted:localized:3", task="planted", pairs=40, flips=500), tmp_path / "run")
    planted = planted_named("planted:localized:3")
    claim = claims.given(f"patch:{tmp_path / 'run'}")
    assert tuple((site.layer, site.index) for site in claim.location.sites) == planted.truth
    assert record.shortcut and record.right == {"": 1.0}
    with pytest.raises(UserError, match="planted model"):
        pairs_of(resolve(task="planted"), planted.tokenizer, "", 2)


def test_nothing_is_found_where_a_coin_decides_what_is_right():
    """30 draws at level 0.05: more than 6 false detections would have chance 0.0003."""
    hits = 0
    for seed in range(30):
        planted = build("localized", 100 + seed, **COMPACT)
        model = Model(planted.model, planted.tokenizer, planted.dataset.name)
        pairs = planted_pairs(planted, 30, seed, shuffled=True)
        effects = sweep(model, pairs, heads(model.layout), batching=Batching(64)).effects("none").values
        assert np.abs(effects).max() > 0.1  # single examples do have effects
        hits += bool(detect(effects, draws=400, seed=seed).detected.any())
    assert hits <= 6


def test_a_dormant_direction_is_told_from_one_that_is_used():
    planted = build("dormant", 3, **COMPACT)
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    (layer, head), pairs = planted.plan.decoys[0], planted_pairs(planted, 40)
    site = Component("head", layer, head)
    # What the sleeper carries and writes nowhere, and what it can write the polarity from and never moves.
    size = model.layout.d_head
    with torch.no_grad():
        value = planted.model.model.layers[layer].self_attn.v_proj.weight[model.layout.slice(layer, head)]
        output = planted.model.model.layers[layer].self_attn.o_proj.weight[:, model.layout.slice(layer, head)]
    carries = value @ torch.from_numpy(planted.directions["truth"]).float()
    writes = torch.from_numpy(planted.directions.polarities[0]).float() @ output
    carries, writes = carries / carries.norm(), writes / writes.norm()
    assert abs(float(carries @ writes)) < 1e-3 and carries.shape == (size,)
    joined = [dormancy(model, pairs, site, carries + sign * writes) for sign in (1.0, -1.0)]
    assert all(one.dormant for one in joined)
    # Opposite signs of what is written push opposite ways; the whole head does neither.
    assert np.sign(joined[0].along.mean()) == -np.sign(joined[1].along.mean())
    assert all(abs(one.along.mean()) > 5 * abs(one.whole.mean()) for one in joined)
    used = build("localized", 3, **COMPACT)
    working = Model(used.model, used.tokenizer, used.dataset.name)
    (layer, head) = used.truth[0]
    with torch.no_grad():
        value = used.model.model.layers[layer].self_attn.v_proj.weight[working.layout.slice(layer, head)]
    direction = value @ torch.from_numpy(used.directions["truth"]).float()
    dormancy_measured = dormancy(working, planted_pairs(used, 40), Component("head", layer, head), direction)
    assert not dormancy_measured.dormant and dormancy_measured.along.mean() == pytest.approx(
        dormancy_measured.whole.mean(), rel=0.1
    )
    with pytest.raises(UserError, match="not zero"):
        dormancy(working, planted_pairs(used, 4), Component("head", layer, head), torch.zeros(3))
