"""Training: losses by hand, trajectories of a bank against training alone, and what is said of a run that did not settle."""

import math

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1, full
from locus.engine.activations import base_pass
from locus.engine.train import TrainingRecipe, chunks, pair_loss, schedule, train, unsettled
from locus.engine.training_set import TrainingSet, all_pairs
from locus.engine.trie import build_trie
from locus.metrics.choice import measures, score
from locus.sites.site import Location
from locus.sites.space import SiteSpace
from tests.families import QUESTIONS, tiny


@pytest.fixture(scope="module")
def ground():
    return prepared(tiny("llama"))


def prepared(model):
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS)
    found = base_pass(model, trie, layers=[0, 1, 2])
    return model, QUESTIONS, trie, found


def fit(ground, edits, recipes, tokens=512, **more):
    model, items, trie, found = ground
    return train(TrainingSet(model, trie, items, found.logprobs, found.residuals, tokens), edits, recipes, **more)


def test_losses_by_hand():
    h, tau = torch.tensor([[0.0, 2.0]]), torch.tensor([0.25])  # IPO's target is 1 / (2 * 0.25) = 2
    assert pair_loss(h, tau, "ipo").tolist() == [[4.0, 0.0]]
    # DPO: -log sigmoid(0.25 * h): log 2 at 0, log(1 + exp(-1/2)) at 2
    torch.testing.assert_close(pair_loss(h, tau, "dpo")[0], torch.tensor([math.log(2), math.log1p(math.exp(-0.5))]))
    assert pair_loss(h, tau, "logit").tolist() == [[0.0, -2.0]]


def test_the_first_loss_is_the_squared_target(ground):
    """b = 0 is the reference itself, so every h is 0 and the first loss is exactly 1 / (2 tau)^2."""
    recipe = TrainingRecipe(tau=0.1, epochs=1)
    (one,) = fit(ground, [Rank1(ground[0].layout, Location.parse("1.0"))], [recipe])
    assert one.losses[0] == pytest.approx(25.0, abs=1e-3)


@pytest.mark.parametrize("objective", ["ipo", "dpo", "logit"])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_training_raises_the_margin(ground, objective, reduce):
    model, items, trie, found = ground
    recipe = TrainingRecipe(tau=0.5, lr=0.02, objective=objective, reduce=reduce, epochs=6)
    (one,) = fit(ground, [full(model.layout)], [recipe])
    logprobs = score(model, found.prepared, [one.edit], len(trie.sequences))
    assert measures(items, trie, logprobs[0], found.logprobs)["margin"].mean() > 0.2


def test_ipo_reaches_its_target_and_stays(ground):
    model, items, trie, found = ground
    (one,) = fit(ground, [full(model.layout)], [TrainingRecipe(tau=0.25, lr=0.02, epochs=40)])
    margin = measures(items, trie, score(model, found.prepared, [one.edit], len(trie.sequences))[0], found.logprobs)["margin"]
    assert margin.mean() == pytest.approx(2.0, abs=0.3)  # 1 / (2 tau)


def in_threads(count, work):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def test_threads_share_the_work_and_change_nothing(model, monkeypatch):
    """Three threads, each with its own part of a step, find what one finds; the same parts give the same bits."""
    assert in_threads(3, lambda: model.n_threads) == 1, "a tiny model's products take less than Python"
    monkeypatch.setattr("locus.models.model.SMALL", 0)
    assert in_threads(3, lambda: model.n_threads) == 3

    def made():
        ground = prepared(model)
        recipe = TrainingRecipe(tau=0.3, lr=3e-3, epochs=13)
        edits = [Rank1(model.layout, Location.parse("1.0"), seed=1), full(model.layout, form="free", seed=2)]
        fits = fit(ground, edits, [recipe] * 2)
        found = base_pass(model, ground[2], layers=[1], features=SiteSpace.of("head", model.layout))
        logprobs = score(model, ground[3].prepared, [one.edit for one in fits], len(ground[2].sequences))
        return found.logprobs, found.features, found.residuals.layers[1].numpy(), logprobs, np.stack([one.losses for one in fits])

    one, three, again = in_threads(1, made), in_threads(3, made), in_threads(3, made)
    for alone, shared, repeated in zip(one, three, again, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=2e-4, atol=2e-4)
        assert np.array_equal(shared, repeated)


def test_a_step_is_dealt_to_all_hands(ground):
    _, items, trie, _ = ground
    pairs = np.concatenate([all_pairs(items, trie, owner) for owner in range(4)])
    parts = chunks(pairs, trie, 512, n_threads=3)
    assert len(parts) == 3
    assert sorted(map(tuple, np.concatenate(parts).tolist())) == sorted(map(tuple, pairs.tolist()))
    owners = [set(trie.owners[part].reshape(-1).tolist()) for part in parts]
    assert sum(map(len, owners)) == 4, "a question stays with one"
    sizes = sorted(trie.size(sorted(own)) for own in owners)
    assert sizes[-1] <= sizes[0] + max(trie.size([owner]) for owner in range(4))


def test_a_bank_trains_each_edit_as_if_alone(model):
    """52 steps, different Locations, read modes, rates and targets: every parameter equal to training alone to 1e-5 relative."""
    ground = prepared(model)
    settings = [
        (lambda: Rank1(model.layout, Location.parse("0.1,2.3"), "layer", seed=1), TrainingRecipe(tau=0.1, lr=3e-3, epochs=26)),
        (lambda: Rank1(model.layout, Location.parse("1.0"), "heads", seed=2), TrainingRecipe(tau=0.5, lr=1e-3, epochs=26)),
        (lambda: Rank1(model.layout, Location.parse("2.2"), "constant", seed=3), TrainingRecipe(tau=0.2, lr=2e-3, epochs=26)),
        (lambda: full(model.layout, seed=4), TrainingRecipe(tau=0.3, lr=5e-4, epochs=26)),
        (lambda: full(model.layout, form="free", seed=5), TrainingRecipe(tau=0.3, lr=5e-4, epochs=26)),
    ]
    together = fit(ground, [make() for make, _ in settings], [recipe for _, recipe in settings])
    for (make, recipe), joint in zip(settings, together, strict=True):
        (alone,) = fit(ground, [make()], [recipe])
        assert len(alone.losses) == 52
        # A loss (h - target)^2 near its minimum magnifies the relative error of h.
        np.testing.assert_allclose(joint.losses, alone.losses, rtol=5e-5)
        for layer, terms in alone.edit.layers.items():
            for name in ("read", "write", "shift", "out"):
                mine, theirs = getattr(terms, name), getattr(joint.edit.layers[layer], name)
                if mine is not None:
                    assert (mine - theirs).norm() <= 1e-5 * mine.norm()


def test_cutting_a_step_changes_nothing(ground):
    model = ground[0]
    recipe = TrainingRecipe(tau=0.2, lr=3e-3, epochs=3)
    whole, cut = (fit(ground, [full(model.layout)], [recipe], tokens=tokens)[0] for tokens in (4096, 20))
    np.testing.assert_allclose(whole.losses, cut.losses, rtol=1e-4)


def test_the_trunk_changes_nothing(ground):
    model, items, trie, found = ground
    recipe = TrainingRecipe(tau=0.2, lr=3e-3, epochs=3)
    make = lambda: Rank1(model.layout, Location.parse("1.1,2.0"))  # noqa: E731
    (with_trunk,) = fit(ground, [make()], [recipe])
    (without,) = train(TrainingSet(model, trie, items, found.logprobs), [make()], [recipe])
    np.testing.assert_allclose(with_trunk.losses, without.losses, rtol=1e-4)


def test_the_same_seed_trains_the_same_edit(ground):
    model = ground[0]
    first, second, other = (
        fit(ground, [Rank1(model.layout, Location.parse("1.1"), seed=seed)], [TrainingRecipe(lr=1e-2, epochs=2, seed=seed)])[0]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.losses, second.losses)
    assert not np.array_equal(first.losses, other.losses)


def test_every_pair_is_seen_once_an_epoch(ground):
    _, items, trie, _ = ground
    every = sorted(map(tuple, np.concatenate([all_pairs(items, trie, owner) for owner in range(len(items))]).tolist()))
    assert len(every) == sum(item.n_pairs for item in items)
    for batching in ("questions", "pairs"):
        for epoch in schedule(items, trie, TrainingRecipe(batching=batching, epochs=2)):
            assert sorted(map(tuple, np.concatenate(epoch).tolist())) == every
    sizes = [len(step) for step in schedule(items, trie, TrainingRecipe(batching="pairs", batch=4))[0]]
    assert max(sizes) == 4


def test_a_blown_up_edit_is_stopped_and_says_so(ground):
    model = ground[0]
    wild, calm = fit(
        ground,
        [full(model.layout, seed=1), full(model.layout, seed=1)],
        [TrainingRecipe(tau=1e-320, epochs=12), TrainingRecipe(lr=1e-3, epochs=12)],
    )
    assert wild.diverged and not wild.converged and "step" in wild.reason
    assert not calm.diverged
    for terms in wild.edit.layers.values():
        assert torch.isfinite(terms.read).all() and torch.isfinite(terms.write).all()


def test_what_counts_as_settled():
    flat = np.concatenate([np.linspace(25, 1, 20), np.full(20, 1.0)])
    assert unsettled(flat) == ""
    assert "above where it began" in unsettled(np.linspace(25, 39, 40))
    assert "rose" in unsettled(np.concatenate([np.linspace(25, 1, 30), np.full(10, 8.0)]))
    assert "still brought" in unsettled(np.linspace(25, 1, 400))  # of 40 steps the fall within a quarter counts as noise
    assert "too few" in unsettled(np.array([25.0, 20.0, 10.0]))


def test_multiple_choice_by_hand(ground):
    from locus.behaviours.items import Item
    from locus.behaviours.prompts import TokenSequence
    from locus.engine.trie import TokenTrie

    item = Item("x", "?", ("a", "b"), ("c",), "b", "x")
    trie = TokenTrie([TokenSequence((1, k), 1) for k in (2, 3, 4)])
    # p(a) = 0.1, p(b) = 0.5, p(c) = 0.2: the best answer b beats c; mass 0.6 / 0.8; of a and b only b beats c
    found = measures([item], trie, np.log([0.1, 0.5, 0.2]), np.log([0.1, 0.25, 0.4]))
    assert found["mc1"][0] == 1 and found["mc2"][0] == pytest.approx(0.75) and found["mc3"][0] == 0.5
    # gains: a 0, b log 2, c -log 2; mean over pairs (log 2) / 2 + log 2
    assert found["margin"][0] == pytest.approx(1.5 * math.log(2))
    assert measures([item], trie, np.array([-2000.0, -2001.0, -2000.0]))["mc2"][0] == pytest.approx(1 - 1 / (2 + math.exp(-1)))
