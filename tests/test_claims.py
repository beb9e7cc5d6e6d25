"""Claims: probes against scikit-learn, attributions against differences, random Locations, lists and files that others wrote."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from locus.behaviours.prompts import prompt_format
from locus.claims import given, mass_mean, null, probe
from locus.claims.attribution import effects
from locus.claims.probe import Features
from locus.engine.activations import rows_of
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.sites.kind import default, kind_of
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

SPACE = SiteSpace(kind_of("head"), (4,) * 3)


def test_probes_equal_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 150, 9)) * rng.uniform(0.1, 3, size=(12, 1, 1))
    y = rng.random(150) < 0.4
    x[:, y, 0] += 0.7
    weights, intercepts = probe.fit_probes(x, y)
    for head in range(12):
        theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x[head], y)
        np.testing.assert_allclose(weights[head], theirs.coef_[0], atol=1e-4)
        np.testing.assert_allclose(intercepts[head], theirs.intercept_[0], atol=1e-4)


def test_separable_and_constant_features_still_have_a_probe():
    x = np.zeros((2, 10, 3))
    x[0, 5:, 1] = 10.0
    weights, _ = probe.fit_probes(x, np.arange(10) >= 5)
    assert np.isfinite(weights).all() and weights[0, 1] > 0 and np.allclose(weights[1], 0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_probes_equal_scikit_learn_at_any_scale(scale):
    rng = np.random.default_rng(2)
    x = (scale * rng.normal(size=(3, 400, 16)) * rng.uniform(0.1, 3, size=(3, 1, 16))).astype(np.float32)
    y = rng.random(400) < 1 / (1 + np.exp(-3 * x[0, :, 0] / scale))
    weights, intercepts = probe.fit_probes(x, y)
    for head in range(3):
        theirs = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x[head].astype(np.float64), y)
        np.testing.assert_allclose(weights[head], theirs.coef_[0], atol=1e-4 * max(1, np.abs(theirs.coef_).max()))
        np.testing.assert_allclose(intercepts[head], theirs.intercept_[0], atol=1e-4)


def test_a_probe_that_newton_alone_would_lose_is_found():
    # From 0 every Newton step of this regression overshoots: one answer far out, 2,000 near 0, next to no penalty.
    x = np.concatenate([np.full((1, 2000, 1), 1.0), np.full((1, 1, 1), 3000.0)], axis=1)
    y = np.concatenate([np.arange(2000) % 20 == 0, [True]])
    weights, intercepts = probe.fit_probes(x, y, c=1e6)
    p = 1 / (1 + np.exp(-(x[0] @ weights[0] + intercepts[0])))
    assert abs((p - y).sum()) < 1e-3 and abs(1e6 * ((p - y) @ x[0]) + weights[0]).max() < 1


def test_separable_probes_with_next_to_no_penalty_end():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 40, 64))
    weights, intercepts = probe.fit_probes(x, x[0, :, 0] > 0, c=1e4)
    assert ((x[0] @ weights[0] + intercepts[0] > 0) == (x[0, :, 0] > 0)).all()


def features(rng, planted, n=80):
    truth = np.arange(n) % 2 == 0
    bank = rng.normal(size=(n, 3, 4, 5)).astype(np.float32)
    for layer, head in planted:
        bank[truth, layer, head, 2] += 4
    return Features(bank, bank, truth, np.arange(n) // 4)


def test_the_probe_finds_the_heads_that_carry_the_label():
    rng = np.random.default_rng(1)
    found = probe.claim(features(rng, [(1, 2), (2, 0)]), features(rng, [(1, 2), (2, 0)]), 2)
    assert found.location == Location.parse("1.2,2.0")
    assert list(found.scores)[:2] in (["1.2", "2.0"], ["2.0", "1.2"]) and found.scores["1.2"] > 0.9
    assert len(found.scores) == 12


def test_ties_rank_the_earlier_head_first():
    rng = np.random.default_rng(1)
    blank = features(rng, [])
    zero = Features(np.zeros_like(blank.bank), blank.spread, blank.truth, blank.owner)
    assert probe.claim(zero, zero, 3).location == Location.parse("0.0,0.1,0.2")


def test_random_locations():
    claim = Location.parse("0.1,2.3")
    drawn = null.draw_locations(claim, SPACE, 40, seed=7)
    places = [one.location for one in drawn]
    assert len(set(places)) == 40 and claim not in places and all(len(place) == 2 for place in places)
    assert [one.location for one in null.draw_locations(claim, SPACE, 10, seed=7)] == places[:10]  # more draws keep the first
    assert [one.location for one in null.draw_locations(claim, SPACE, 10, seed=8)] != places[:10]


def test_random_locations_matched_by_layer():
    claim = Location.parse("0.1,0.2,2.3")
    for one in null.draw_locations(claim, SPACE, 20, seed=0, match="layer"):
        assert [len(one.location.indices(layer)) for layer in range(3)] == [2, 0, 1]


def test_more_random_locations_than_there_are():
    # 4 heads, one named: 3 others
    small = SiteSpace(kind_of("head"), (4,))
    for count in (3, 4, 19):
        drawn = null.draw_locations(Location.parse("0.1"), small, count, seed=0)
        assert sorted(str(one.location) for one in drawn) == ["0.0", "0.2", "0.3"]  # all that there are


def test_random_heads_are_uniform():
    counts = np.zeros((3, 4))
    for seed in range(300):
        for site in null.draw_locations(Location.parse("1.1"), SPACE, 1, seed=seed)[0].location.sites:
            counts[site.layer, site.index] += 1
    assert counts[1, 1] == 0  # the claim itself is never drawn
    rest = np.delete(counts.reshape(-1), 5)  # 11 heads, 300 draws: 27.3 each, standard deviation 5
    assert rest.min() > 10 and rest.max() < 48


def test_given_lists_and_files(tmp_path):
    assert given("2.3,0.1").location == Location.parse("0.1,2.3")
    files = {
        "list.json": ["9.6", "a10.h0"],
        "circuit.json": {"nodes": {"a9.h6": True, "a10.h0": True, "m3": True, "a1.h1": False}},
        "hooks.json": {"edges": ["blocks.9.attn.hook_z[6]", "blocks.10.attn.hook_z[0]", "blocks.3.mlp"]},
        "pairs.json": [[9, 6], [10, 0]],
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
        assert given(str(tmp_path / name)).location == Location.parse("9.6,10.0"), name
    np.save(tmp_path / "heads.npy", np.array([[9, 6], [10, 0]]))
    assert given(str(tmp_path / "heads.npy")).location == Location.parse("9.6,10.0")


def test_a_claim_survives_its_file(tmp_path):
    rng = np.random.default_rng(1)
    found = probe.claim(features(rng, [(1, 2)]), features(rng, [(1, 2)]), 1)
    found.save(tmp_path / "claim.json")
    again = given(str(tmp_path / "claim.json"))
    assert (again.location, again.scores, again.origin) == (found.location, found.scores, "probe")


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "heads.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not pickled"):
        given(str(tmp_path / "heads.npy"))


def test_what_is_no_claim_is_refused(tmp_path):
    with pytest.raises(UserError, match="a claim: probe"):
        given("somewhere")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="without any"):
        given(str(tmp_path / "x.json"))


def test_a_text_file_with_a_head_a_line_is_a_claim(tmp_path):
    (tmp_path / "mine.txt").write_text("1.2\n0.3\n")
    found = given(str(tmp_path / "mine.txt"))
    assert (found.name, found.location.names) == ("mine", ["0.3", "1.2"])


def test_no_two_claims_of_an_audit_have_one_name():
    """Their trials are found by it: two texts of heads were once taken for one claim with two seeds."""
    from locus.claims.claim import named_apart

    made = named_apart([given("1.1"), given("0.2"), given("1.1,0.2")])
    assert [claim.name for claim in made] == ["given", "given-2", "given-3"]
    assert [claim.location.names for claim in made] == [["1.1"], ["0.2"], ["0.2", "1.1"]]


def test_attribution_is_the_derivative_of_the_margin_by_what_a_head_says(llama, items):
    text = prompt_format(llama.tokenizer, name="bare")
    trie = build_trie(llama.tokenizer, text, items)
    space, rows = SiteSpace.of(default(), llama.layout), rows_of(llama, trie, range(len(items)))
    found = effects(llama, items, trie, rows, space)
    step = 0.002

    def margin(layer: int, head: int, scale: float) -> float:
        """Of all questions, with what a head says scaled, by a hook on the Hugging Face model, text by text."""
        wide = llama.layout.d_in(layer)
        scaled = torch.ones(wide)
        scaled[space.columns(Site("head", layer, head))] = scale
        handle = llama.projections[layer].register_forward_pre_hook(lambda _, args: (args[0] * scaled, *args[1:]))
        sums = []
        for one in trie.sequences:
            with torch.no_grad():
                logits = llama.hf(torch.tensor([one.ids])).logits[0].double().log_softmax(-1)
            sums.append(sum(float(logits[at - 1, one.ids[at]]) for at in range(one.start, len(one.ids))))
        handle.remove()
        total = 0.0
        for owner, item in enumerate(items):
            own = [sums[index] for index in trie.sequences_of([owner])]
            cut = len(item.wanted)
            total += np.mean(own[:cut]) - np.mean(own[cut:])
        return total / len(items)

    for layer, head in ((0, 1), (1, 2)):
        slope = (margin(layer, head, 1 + step) - margin(layer, head, 1 - step)) / (2 * step)
        assert found[layer, head] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_the_mass_mean_is_a_nearest_mean_along_their_difference():
    rng = np.random.default_rng(0)
    truth = np.tile([True, False], 20)
    bank = rng.normal(size=(40, 2, 3, 4)).astype(np.float32)
    bank[:, 1, 2] += 2.0 * truth[:, None]
    bank[:, 0, 0] = 0.0  # says nothing: no direction, no score
    half = np.arange(40) < 20
    train, held = (Features(bank[part], bank[part], truth[part], np.arange(40)[part]) for part in (half, ~half))
    table = mass_mean.accuracies(train, held)
    assert np.isnan(table[0, 0]) and np.nanargmax(table) == 5
    means = [train.bank[train.truth == side, 1, 1].mean(axis=0) for side in (True, False)]
    nearer = np.linalg.norm(held.bank[:, 1, 1] - means[0], axis=1) < np.linalg.norm(held.bank[:, 1, 1] - means[1], axis=1)
    assert table[1, 1] == pytest.approx((nearer == held.truth).mean())
