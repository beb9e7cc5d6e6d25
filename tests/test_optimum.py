"""The Gauss-Newton search: derivatives against differences, steps against least squares, the end against long training."""

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1, full
from locus.engine.activations import base_pass
from locus.engine.linear import answers_of, gradients_of
from locus.engine.newton import Objective, jacobian_of, steps_of
from locus.engine.optimum import FirstOrder, Search
from locus.engine.train import TrainingRecipe, all_pairs, train, whole_gradients
from locus.engine.trie import build_trie
from locus.metrics.choice import score
from locus.sites import Location
from tests.families import QUESTIONS, tiny

KINDS = {
    "layer": {"read": "layer"},
    "heads": {"read": "heads"},
    "constant": {"read": "constant"},
    "free": {"read": "layer", "form": "free"},
}


def edit_of(model, kind: str) -> Rank1:
    """An edit away from the identity."""
    if kind == "free":
        edit = full(model.layout, form="free", seed=3)
    else:
        edit = Rank1(model.layout, Location.parse("0.1,1.0"), seed=3, **KINDS[kind])
    generator = torch.Generator().manual_seed(1)
    edit.flat.data += 0.1 * torch.randn(edit.flat.shape, generator=generator)
    return edit


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def tested(request):
    """A tiny model, its trie of questions and its base pass."""
    model = tiny(request.param)
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS)
    return model, trie, base_pass(model, trie)


def test_the_base_models_log_probs_are_those_of_the_trees(tested):
    model, trie, base = tested
    count = len(trie.sequences)
    layers = range(model.layout.n_layers)
    found = [gradients_of(model, part, layers) for part in answers_of(trie, range(count), tokens=40)]
    assert sorted(index for part in found for index in part.answers.sequences) == list(range(count))
    for part in found:
        assert np.allclose(part.logprobs.double().numpy(), base.logprobs[list(part.answers.sequences)], atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_small_differences(tested, kind):
    """Along random directions of all its numbers: (f(z + e d) - f(z - e d)) / 2 e against J d."""
    model, trie, base = tested
    edit, count = edit_of(model, kind), len(trie.sequences)
    parts = [gradients_of(model, part, list(edit.layers), edit) for part in answers_of(trie, range(count))]
    jacobian, logprobs = jacobian_of(edit, parts, count)

    def scored() -> np.ndarray:
        return score(model, base.prepared, [edit.frozen({})], count)[0]

    assert np.allclose(logprobs.numpy(), scored(), atol=5e-4)
    generator, where = torch.Generator().manual_seed(2), edit.flat.data.clone()
    for _ in range(3):
        direction = torch.randn(where.shape, generator=generator)
        direction /= direction.norm()
        ends = []
        for sign in (1, -1):
            edit.flat.data = where + sign * 1e-2 * direction
            ends.append(scored())
        edit.flat.data = where
        differences = (ends[0] - ends[1]) / 2e-2
        assert np.allclose((jacobian @ direction).numpy(), differences, atol=0.02 * np.abs(differences).max() + 2e-3)


@pytest.mark.parametrize("kind", ["ipo", "dpo"])
def test_a_step_is_the_minimum_of_the_linear_model(kind):
    """By autograd on the quadratic model: the gradient of model + ridge vanishes at the step, and the promise is its fall."""
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(7, 12, generator=generator)
    gains = torch.randn(7, generator=generator)
    pairs = np.array([(0, 2), (0, 3), (1, 2), (1, 3), (4, 5), (4, 6)])
    divide = torch.tensor([1.0, 2, 1, 3, 1, 1, 2])
    objective = Objective(pairs, divide, 0.1, kind)
    steps = steps_of(jacobian, objective, gains)
    margins = objective.margins(gains.double())
    tau = 0.1
    share = torch.sigmoid(-tau * margins)
    slope = 2 * (margins - 5) if kind == "ipo" else -tau * share
    curvature = torch.full_like(margins, 2.0) if kind == "ipo" else tau**2 * share * (1 - share)
    for ridge in (1e-3, 0.1, 1.0):
        step = steps.step(ridge).double().requires_grad_(True)
        scaled = (jacobian.double() @ step) / divide
        moved = scaled[pairs[:, 0]] - scaled[pairs[:, 1]]
        model = (slope * moved + 0.5 * curvature * moved**2).mean()
        (gradient,) = torch.autograd.grad(model + 0.5 * ridge * steps.top * step.square().sum(), step)
        assert gradient.abs().max() < 1e-5 * steps.top
        assert steps.promised(ridge) == pytest.approx(-float(model.detach()), rel=1e-4)


def test_the_objective_is_the_mean_over_pairs_of_the_training_loss(tested):
    _, trie, _ = tested
    pairs = np.concatenate([all_pairs(QUESTIONS, trie, owner) for owner in range(len(QUESTIONS))])
    objective = Objective(pairs, torch.ones(len(trie.sequences)), 0.1, "ipo")
    assert float(objective.loss(torch.zeros(len(trie.sequences)))) == pytest.approx(25.0)
    gains = torch.zeros(len(trie.sequences)).requires_grad_(True)
    (slope,) = torch.autograd.grad(objective.loss(gains), gains)
    assert torch.allclose(objective.slope_and_curvature(gains.detach())[0].float(), slope, atol=1e-5)


def search_of(tested, steps: int) -> Search:
    model, trie, base = tested
    count = len(trie.sequences)
    pairs = np.concatenate([all_pairs(QUESTIONS, trie, owner) for owner in range(len(QUESTIONS))])
    objective = Objective(pairs, torch.ones(count), 0.1, "ipo")

    def scored(edits) -> np.ndarray:
        return score(model, base.prepared, edits, count, residual_cache=base.residuals)

    return Search(model, answers_of(trie, range(count)), objective, scored, base.logprobs, steps)


def test_a_few_steps_end_below_long_training(tested):
    """Against 60 epochs of the training loop at three rates, from its own start: the same loss of all pairs, measured alike."""
    model, trie, base = tested
    search = search_of(tested, steps=6)
    edit = Rank1(model.layout, Location.parse("0.1,1.0"))
    certificate = search.run(edit, FirstOrder(model, trie, search.objective))
    recipes = [TrainingRecipe(lr=lr, epochs=60) for lr in (3e-2, 0.1, 0.3)]
    edits = [Rank1(model.layout, Location.parse("0.1,1.0")) for _ in recipes]
    fits = train(model, trie, QUESTIONS, edits, recipes, base.logprobs, residual_cache=base.residuals)
    gains = torch.from_numpy(search.score([fit.edit for fit in fits]) - base.logprobs)
    trained = search.objective.loss(gains).min()
    assert certificate.start == pytest.approx(25.0)
    assert certificate.loss < trained + 0.01 * certificate.start
    again = torch.from_numpy(search.score([edit.frozen({})]) - base.logprobs)
    assert float(search.objective.loss(again)[0]) == pytest.approx(certificate.loss, abs=1e-3)


def test_no_step_raises_the_loss_and_more_steps_go_lower(tested):
    model, trie, _ = tested
    losses = []
    for steps in (1, 2, 4):
        search = search_of(tested, steps)
        edit = Rank1(model.layout, Location.parse("0.1,1.0"))
        certificate = search.run(edit, FirstOrder(model, trie, search.objective))
        assert certificate.steps <= steps
        losses.append(certificate.loss)
    assert 25.0 > losses[0] >= losses[1] >= losses[2]
    assert losses[0] > losses[2]


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_searched(tested, kind):
    model, trie, _ = tested
    search = search_of(tested, steps=3)
    place = Location.parse("0.1,1.0")
    edit = full(model.layout, form="free") if kind == "free" else Rank1(model.layout, place, **KINDS[kind])
    shared = None if kind == "free" else FirstOrder(model, trie, search.objective)
    assert search.run(edit, shared).loss < 15
    for layer in edit.layers if kind != "free" else ():
        written = edit.terms(layer).shift if kind == "constant" else edit.terms(layer).write
        assert not written[edit.written(layer) == 0].any()


def test_a_place_that_contains_another_goes_on_below_it(tested):
    """Padded with zeros, the inner edit is an edit of the outer place; from there no step can end above it."""
    model, trie, _ = tested
    search = search_of(tested, steps=2)
    inner = Rank1(model.layout, Location.parse("1.0"))
    within = search.run(inner, FirstOrder(model, trie, search.objective))
    outer = full(model.layout)
    outer.pad(inner)
    assert search.run(outer).loss <= within.loss + 1e-4


def test_with_little_memory_the_start_is_made_from_some_of_the_questions(tested):
    model, trie, _ = tested
    search = search_of(tested, steps=1)
    part = FirstOrder(model, trie, search.objective, nbytes=1)
    assert 0 < len(part.used.pairs) < len(search.objective.pairs)
    assert search.run(Rank1(model.layout, Location.parse("0.1")), part).loss < 25


@pytest.mark.parametrize("kind", ["ipo", "dpo"])
def test_a_step_by_the_gradient_is_that_by_the_slope_where_all_answers_are_there(kind):
    generator = torch.Generator().manual_seed(0)
    jacobian, gains = torch.randn(7, 12, generator=generator), torch.randn(7, generator=generator)
    pairs = np.array([(0, 2), (0, 3), (1, 2), (1, 3), (4, 5), (4, 6)])
    objective = Objective(pairs, torch.ones(7), 0.1, kind)
    slope, _ = objective.slope_and_curvature(gains)
    one, other = steps_of(jacobian, objective, gains), steps_of(jacobian, objective, gains, jacobian.T @ slope.float())
    for ridge in (1e-2, 0.3):
        assert torch.allclose(one.step(ridge), other.step(ridge), rtol=1e-3, atol=1e-4)
        assert one.promised(ridge) == pytest.approx(other.promised(ridge), rel=1e-3)


def test_the_whole_gradient_is_the_jacobians(tested):
    model, trie, base = tested
    search = search_of(tested, 1)
    edits = [edit_of(model, kind) for kind in ("layer", "constant")]
    both = whole_gradients(model, trie, QUESTIONS, edits, [TrainingRecipe()] * 2, base.logprobs, residual_cache=base.residuals)
    for edit, (loss, gradient) in zip(edits, both, strict=True):
        parts = [gradients_of(model, part, list(edit.layers), edit) for part in search.answers]
        jacobian, logprobs = jacobian_of(edit, parts, len(trie.sequences))
        gains = logprobs - torch.from_numpy(base.logprobs)
        slope, _ = search.objective.slope_and_curvature(gains)
        assert loss == pytest.approx(float(search.objective.loss(gains)), rel=1e-3)
        assert torch.allclose(gradient, jacobian.T @ slope.float(), rtol=0.02, atol=1e-3 * float(gradient.abs().max()))


def test_curvature_of_a_third_of_the_questions_and_the_whole_gradient_still_end_below_the_start(tested):
    model, trie, base = tested
    whole = search_of(tested, steps=4)
    sample = trie.sequences_of(range(0, len(QUESTIONS), 3))

    def gradient(edit: Rank1) -> torch.Tensor:
        recipes = [TrainingRecipe()]
        return whole_gradients(model, trie, QUESTIONS, [edit], recipes, base.logprobs, residual_cache=base.residuals)[0][1]

    edit = Rank1(model.layout, Location.parse("0.1,1.0"))
    first = search_of(tested, 1).run(edit, FirstOrder(model, trie, whole.objective))
    sampled = Search(model, answers_of(trie, sample), whole.objective, whole.score, base.logprobs, 3, gradient)
    assert sampled.run(edit).loss < first.loss
