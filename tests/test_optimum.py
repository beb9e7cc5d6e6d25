"""The search for the optimum: derivatives against differences, curvature against least squares, the end against long training."""

import numpy as np
import pytest
import torch

from locus.behaviours.items import Item
from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1, full
from locus.engine.activations import base_pass
from locus.engine.descent import SETTLED, Way, descend, objective_of
from locus.engine.linear import answers_of, gradients_of, jacobian_of
from locus.engine.objective import Objective
from locus.engine.optimum import Curvature, FirstOrder
from locus.engine.train import TrainingRecipe, train, whole_gradients
from locus.engine.training_set import TrainingSet, all_pairs
from locus.engine.trie import build_trie
from locus.metrics.choice import score
from locus.sites import Location
from tests.families import QUESTIONS, tiny


def test_the_target_is_how_far_apart_the_base_model_holds_a_typical_question():
    """Two questions of one wanted and one unwanted answer, and of two by one.

    Margins by question: -6 - 2 = -8, and the mean of (4 - 0, 8 - 0) = 6; sqrt((64 + 36) / 2) = 7.07, or 7.1 with two digits. By
    the token, answers of two tokens each: half of that, 3.5 of 3.54.
    """

    class Trie:
        sequences = [type("Sequence", (), {"ids": [0] * 5, "start": 3})] * 5
        owners = np.array([0, 0, 1, 1, 1])

        def sequences_of(self, owners):
            return np.flatnonzero(np.isin(self.owners, owners))

    items = [Item("a", "?", ("w",), ("u",), "w", "a"), Item("b", "?", ("v", "w"), ("u",), "w", "b")]
    on = TrainingSet(None, Trie(), items, np.array([-6.0, 2.0, 4.0, 8.0, 0.0]))
    assert on.typical_tau("sum") == pytest.approx(1 / 14.2) and on.typical_tau("mean") == pytest.approx(1 / 7)
    same = TrainingSet(None, Trie(), items, np.zeros(5))
    assert same.typical_tau("sum") == pytest.approx(0.1) and same.typical_tau("mean") == pytest.approx(0.5), "the paper's"


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
def test_a_first_step_is_the_minimum_of_the_linear_model(kind):
    """By autograd on the quadratic model at gains of zero: the gradient of model + ridge vanishes at the step."""
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(7, 12, generator=generator)
    pairs = np.array([(0, 2), (0, 3), (1, 2), (1, 3), (4, 5), (4, 6)])
    divide = torch.tensor([1.0, 2, 1, 3, 1, 1, 2])
    tau = 0.1
    objective = Objective(pairs, divide, tau, kind)
    slope, matrix = objective.slope_and_curvature(torch.zeros(7))
    weights, basis = torch.linalg.eigh(matrix)
    root = (basis * weights.clamp(min=0).sqrt()) @ basis.T
    curvature = Curvature.of((root @ jacobian.double()).float())
    gradient = jacobian.double().T @ slope
    for ridge in (1e-3, 0.1, 1.0):
        step = (-curvature.solve(gradient, ridge)).requires_grad_(True)
        scaled = (jacobian.double() @ step) / divide
        moved = scaled[pairs[:, 0]] - scaled[pairs[:, 1]]
        # At a margin of 0: IPO's slope is -2 / (2 tau) and its curvature 2; DPO's are -tau / 2 and tau^2 / 4.
        down, curved = (-1 / tau, 2.0) if kind == "ipo" else (-tau / 2, tau**2 / 4)
        model = (down * moved + 0.5 * curved * moved**2).mean() + 0.5 * ridge * curvature.top * step.square().sum()
        (left,) = torch.autograd.grad(model, step)
        assert left.abs().max() < 1e-5 * curvature.top


def test_the_objective_is_the_mean_over_pairs_of_the_training_loss(tested):
    _, trie, _ = tested
    pairs = np.concatenate([all_pairs(QUESTIONS, trie, owner) for owner in range(len(QUESTIONS))])
    objective = Objective(pairs, torch.ones(len(trie.sequences)), 0.1, "ipo")
    assert float(objective.loss(torch.zeros(len(trie.sequences)))) == pytest.approx(25.0)
    gains = torch.zeros(len(trie.sequences)).requires_grad_(True)
    (slope,) = torch.autograd.grad(objective.loss(gains), gains)
    assert torch.allclose(objective.slope_and_curvature(gains.detach())[0].float(), slope, atol=1e-5)


PLACE = Location.parse("0.1,1.0")


def training_set(tested) -> TrainingSet:
    model, trie, base = tested
    return TrainingSet(model, trie, QUESTIONS, base.logprobs, base.residuals)


def searched(tested, edits, rounds: int, shared=None, **more):
    """The fits of some edits, and the loss of all pairs that each has by the scorer, which the search does not use."""
    model, trie, _ = tested
    recipe = TrainingRecipe(search="newton", rounds=rounds)
    shared = shared or FirstOrder(model, trie, form=edits[0].form)
    recipes = [recipe] * len(edits)
    fits = [fit[rounds] for fit in descend(training_set(tested), edits, recipes, shared, **more)]
    return fits, losses_of(tested, [fit.edit for fit in fits])


def losses_of(tested, edits) -> list[float]:
    model, trie, base = tested
    objective = objective_of(training_set(tested), TrainingRecipe())
    scores = score(model, base.prepared, edits, len(trie.sequences), residual_cache=base.residuals)
    return [float(one) for one in objective.loss(torch.from_numpy(scores - base.logprobs))]


def test_a_few_rounds_end_below_long_training(tested):
    """Against 60 epochs of the training loop at three rates, from its own start: the same loss of all pairs, measured alike."""
    model, _, _ = tested
    [fit], [loss] = searched(tested, [Rank1(model.layout, PLACE)], rounds=30)
    recipes = [TrainingRecipe(lr=lr, epochs=60) for lr in (3e-2, 0.1, 0.3)]
    edits = [Rank1(model.layout, PLACE) for _ in recipes]
    fits = train(training_set(tested), edits, recipes)
    trained = min(losses_of(tested, [one.edit for one in fits]))
    assert fit.certificate.start == pytest.approx(25.0)
    assert fit.certificate.loss == pytest.approx(loss, abs=1e-3)
    assert loss < trained + 0.01 * 25.0
    assert fit.converged == fit.certificate.settled and fit.certificate.rounds <= 30


def test_a_settled_search_gains_nothing_to_speak_of_when_it_goes_on(tested):
    """From where one ended by itself, another search with as many rounds again: within what settled allows, and noise."""
    model, _, _ = tested
    first = Rank1(model.layout, PLACE)
    [fit], [loss] = searched(tested, [first], rounds=60)
    assert fit.certificate.settled and not fit.reason
    [_], [longer] = searched(tested, [first], rounds=60)
    assert loss - longer < 5 * SETTLED * 25.0


def test_no_round_raises_the_loss_and_a_short_search_says_that_it_is_short(tested):
    model, _, _ = tested
    [fit], [loss] = searched(tested, [Rank1(model.layout, PLACE)], rounds=2)
    assert (np.diff(fit.losses) <= 0).all() and loss < 25
    assert not fit.converged and "too few to tell" in fit.reason
    [longer], [lower] = searched(tested, [Rank1(model.layout, PLACE)], rounds=8)
    assert (np.diff(longer.losses) <= 0).all() and lower < loss


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_searched(tested, kind):
    model, _, _ = tested
    edit = full(model.layout, form="free") if kind == "free" else Rank1(model.layout, PLACE, **KINDS[kind])
    [fit], [loss] = searched(tested, [edit], rounds=6)
    assert loss < 15
    for layer in edit.layers if kind != "free" else ():
        written = fit.edit.layers[layer].shift if kind == "constant" else fit.edit.layers[layer].write
        assert not written[..., edit.written(layer) == 0].any()


@pytest.mark.parametrize("objective", ["ipo", "dpo"])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_every_objective_is_searched(tested, objective, reduce):
    model, trie, _ = tested
    tau = 0.1 if objective == "ipo" else 1.0
    recipe = TrainingRecipe(search="newton", rounds=10, objective=objective, reduce=reduce, tau=tau)
    edit = Rank1(model.layout, PLACE)
    fit = descend(training_set(tested), [edit], [recipe], FirstOrder(model, trie))[0][10]
    assert fit.losses[0] == pytest.approx(25.0 if objective == "ipo" else np.log(2))
    assert fit.losses[-1] < (0.7 if reduce == "sum" else 0.9) * fit.losses[0]  # 5 nats a token is far


def test_a_bank_gives_each_edit_what_it_would_have_alone(tested):
    model, _, _ = tested
    places = [Location.parse("1.0"), PLACE]
    _, together = searched(tested, [Rank1(model.layout, place) for place in places], rounds=4)
    alone = [searched(tested, [Rank1(model.layout, place)], rounds=4)[1][0] for place in places]
    assert together == pytest.approx(alone, rel=1e-2)


def test_a_place_that_contains_another_ends_below_it(tested):
    """Padded with zeros, the inner edit is an edit of the outer place; from there no search can end above it."""
    model, _, _ = tested
    inner = Rank1(model.layout, Location.parse("1.0"))
    _, [within] = searched(tested, [inner], rounds=12)
    padded = full(model.layout)
    padded.pad(inner.frozen({}), model.weight)
    [fit], [loss] = searched(tested, [full(model.layout)], rounds=1, starts=[[padded]])
    assert loss <= within + 1e-4 and fit.certificate.loss <= within + 1e-4


def test_where_a_place_moves_nothing_the_search_is_over_at_once(tested):
    """An edit whose gradient is zero everywhere has nowhere to go."""
    model, trie, _ = tested
    shared = FirstOrder(model, trie)
    for part in shared.parts:
        for gradient in part.gradients.values():
            gradient.zero_()
    way = Way(Rank1(model.layout, PLACE), objective_of(training_set(tested), TrainingRecipe()), shared)
    for _ in range(5):
        way.tell(25.0, torch.zeros_like(way.flat))
    assert way.settled and way.end().loss == 25.0


def test_refused_steps_are_no_sign_of_an_optimum(tested):
    """Where every step goes up, what was learned of them makes the next promise little; that is not to have arrived."""
    model, trie, _ = tested
    way = Way(Rank1(model.layout, PLACE), objective_of(training_set(tested), TrainingRecipe()), FirstOrder(model, trie))
    slope = way.gradient.clone()
    for _ in range(8):
        step = way.edit.flat.data.double() - way.flat
        way.tell(25.0 + float(step.norm()), slope + 1e6 * step)  # a wall, wherever it turns
    assert way.promised < SETTLED and not way.over
    assert "only 0 steps were taken in 8 rounds" in way.end().reason


def test_a_point_that_is_not_a_number_is_stepped_back_from(tested):
    model, trie, _ = tested
    way = Way(Rank1(model.layout, PLACE), objective_of(training_set(tested), TrainingRecipe()), FirstOrder(model, trie))
    far = way.edit.flat.data.double() - way.flat
    way.tell(float("nan"), torch.full_like(way.flat, torch.nan))
    near = way.edit.flat.data.double() - way.flat
    assert way.loss == pytest.approx(25.0) and 0 < near.norm() < far.norm()


def test_with_little_memory_the_start_is_made_from_some_of_the_questions(tested):
    model, trie, _ = tested
    part = FirstOrder(model, trie, nbytes=1)
    assert 0 < len(part.kept) < len(trie.sequences)
    _, [loss] = searched(tested, [Rank1(model.layout, Location.parse("0.1"))], rounds=4, shared=part)
    assert loss < 25


def test_the_whole_gradient_is_the_jacobians(tested):
    model, trie, base = tested
    objective = objective_of(training_set(tested), TrainingRecipe())
    edits = [edit_of(model, kind) for kind in ("layer", "constant")]
    both = whole_gradients(training_set(tested), edits, [TrainingRecipe()] * 2)
    for edit, (loss, gradient) in zip(edits, both, strict=True):
        parts = [gradients_of(model, part, list(edit.layers), edit) for part in answers_of(trie, range(len(trie.sequences)))]
        jacobian, logprobs = jacobian_of(edit, parts, len(trie.sequences))
        gains = logprobs - torch.from_numpy(base.logprobs)
        slope, _ = objective.slope_and_curvature(gains)
        assert loss == pytest.approx(float(objective.loss(gains)), rel=1e-3)
        assert torch.allclose(gradient, jacobian.T @ slope.float(), rtol=0.02, atol=1e-3 * float(gradient.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shared_gradient_is_that_of_the_base_model(tested, kind):
    """What `begin` says of an edit at the identity, against the training loop's own gradient there; within bfloat16."""
    model, trie, _ = tested
    edit = full(model.layout, form="free") if kind == "free" else Rank1(model.layout, PLACE, **KINDS[kind])
    shared = FirstOrder(model, trie, form=edit.form)
    _, gradient = shared.begin(edit, objective_of(training_set(tested), TrainingRecipe()))
    [(_, exact)] = whole_gradients(training_set(tested), [edit], [TrainingRecipe()])
    assert float((gradient - exact.double()).norm()) < 0.02 * float(exact.norm())


def test_a_balanced_edit_does_what_it_did(tested):
    model, _, _ = tested
    edit = edit_of(model, "layer")
    before, flat = losses_of(tested, [edit.frozen({})]), edit.flat.data.clone()
    scale = edit.balance()
    assert torch.allclose(flat * scale, edit.flat.data)
    assert losses_of(tested, [edit.frozen({})]) == pytest.approx(before, rel=1e-4)
    for layer in edit.layers:
        terms = edit.terms(layer)
        assert float(edit._part(layer, write=True).norm()) == pytest.approx(float(terms.read.detach().norm()), rel=1e-4)
