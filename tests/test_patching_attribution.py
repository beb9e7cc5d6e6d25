"""Attribution patching is a first-order estimate: exact where the model is linear, bounded where it is not."""

import numpy as np
import pytest
import torch

from locus.errors import UserError
from locus.patching.attribution import Budget, attribute, screen
from locus.patching.component import Component
from locus.patching.metrics import Divergence, LogitDifference
from locus.patching.runs import batch_of, patched, run_batch
from locus.patching.sweep import Batching, How, heads, outputs, sweep
from tests.test_patching import everywhere, random_pairs


def test_the_gradient_is_that_of_a_small_step(model):
    """Against finite differences: replace 1 % of the way from base to source, and scale up."""
    pairs, layout = random_pairs(3), model.layout
    patches = [patch for patch in everywhere(layout) if patch[0].layer == 1] + [(Component("head", 0, 2, "key"),)]
    guessed = attribute(model, pairs, patches, How())[0]
    kinds = ("head", "query", "key", "value", "attention", "mlp")
    clean = run_batch(model, batch_of(model, [pair.clean for pair in pairs], [dict(pair.spans) for pair in pairs]), kinds)
    corrupted = run_batch(model, batch_of(model, [pair.corrupted for pair in pairs], [dict(pair.spans) for pair in pairs]), kinds)
    step = 0.01
    near = lambda a, b: a + step * (b - a)  # noqa: E731
    values = {site: near(value, clean.values[site]) for site, value in corrupted.values.items()}
    residual = [near(a, b) for a, b in zip(corrupted.residual, clean.residual, strict=True)]
    small = type(clean)(corrupted.batch, residual, values, None)
    metric = LogitDifference()
    moved = patched(model, corrupted, small, patches, lambda z: metric(z, pairs, clean.logits)).double().numpy()
    expected = (moved - guessed.corrupted) / step
    size = np.abs(expected).max()
    assert size > 1e-2
    np.testing.assert_allclose(guessed.patched - guessed.corrupted, expected, atol=0.05 * size)


def test_estimates_do_not_depend_on_batch_or_padding(llama):
    pairs = random_pairs(8, uneven=True)
    patches = [*everywhere(llama.layout), (Component("head", 1, 2, "key"),)]
    estimates = [
        attribute(llama, pairs, patches, How(batching=batching), 2)[0]
        for batching in (Batching(1), Batching(8, "left"), Batching(8))
    ]
    for other in estimates[1:]:
        np.testing.assert_allclose(other.patched, estimates[0].patched, atol=3e-4)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_integrated_gradients_at_the_embeddings_add_up_to_the_whole_difference(llama, direction):
    """Completeness (Sundararajan et al. 2017): the integral of the gradient along a line is the difference of its ends."""
    pairs = random_pairs(4)
    estimate = attribute(llama, pairs, [(Component("residual", 0),)], How(direction), 100)[0]
    np.testing.assert_allclose(estimate.effects("none").values[0], estimate.clean - estimate.corrupted, atol=2e-2)
    plain = attribute(llama, pairs, [(Component("residual", 0),)], How(direction))[0]
    assert np.abs(plain.effects("none").values[0] - (estimate.clean - estimate.corrupted)).max() > 0.1


def test_kl_has_no_slope_at_the_clean_run(llama):
    with pytest.raises(UserError, match="slope"):
        attribute(llama, random_pairs(2), heads(llama.layout), How("noise", metrics=(Divergence(),)))


def test_a_screen_verifies_its_top_and_bounds_the_rest(llama):
    pairs, patches = random_pairs(6), heads(llama.layout) + outputs(llama.layout, "mlp")
    whole = sweep(llama, pairs, patches)
    effects = whole.effects().values.mean(axis=1)
    screened, exact = screen(llama, pairs, patches, How(), Budget(top=4, sample=100, least=0.02))
    assert sorted((*screened.top, *screened.sample)) == list(range(len(patches)))  # a sample of all the rest
    np.testing.assert_allclose(exact.patched, whole.patched[[*screened.top, *screened.sample]], atol=1e-5)
    missed = sum(abs(effects[index]) >= 0.02 for index in range(len(patches)) if index not in screened.top)
    assert screened.missed.value == pytest.approx(missed / 11) and screened.bound >= missed
    few, _ = screen(llama, pairs, patches, How(), Budget(top=4, sample=0))
    assert few.bound == 11 and np.isnan(few.missed.value)


def test_a_linear_readout_is_attributed_exactly(llama):
    """At the last layer's output only the final norm is left; with equal norms the metric is linear there."""
    pairs = random_pairs(4)
    norm = llama.norm
    last = (Component("residual", llama.layout.n_layers),)
    original = norm.forward
    norm.forward = lambda hidden: hidden
    try:
        guessed = attribute(llama, pairs, [last], How())[0]
        np.testing.assert_allclose(guessed.patched[0], guessed.clean, atol=1e-4)
    finally:
        norm.forward = original
    assert torch.isfinite(torch.from_numpy(guessed.patched)).all()
