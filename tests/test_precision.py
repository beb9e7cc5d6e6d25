"""bfloat16 compute with float32 edits: what CUDA uses by default, run here on the CPU; and drift from cached layers."""

import copy

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1, full
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.checks import run_checks
from locus.engine.forward import edited, prepare_row, sequence_logprobs
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.metrics.choice import measures, score
from locus.metrics.drift import DriftText, drift, text_trie
from locus.models.model import Model
from locus.sites.site import Location
from locus.sites.space import SiteSpace

TEXT = DriftText(
    "test", ("The cat sat on the mat and the dog lay by the door.", "The cat sat on the roof.", "Rain fell all day.")
)


@pytest.fixture(scope="module")
def half(request):
    """The tiny model in bfloat16."""
    from tests.families import tiny

    plain = tiny("llama")
    return Model(copy.deepcopy(plain.hf).bfloat16(), plain.tokenizer, "tiny-half")


def gradient(model, items) -> torch.Tensor:
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items[:3])
    edit = Rank1(model.layout, Location.parse("1.0,2.1"), seed=3)
    with torch.no_grad():
        edit.flat.add_(torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    row = trie.row(range(len(trie.sequences)))
    prepared = prepare_row(model, row, trie.targets(row, range(len(trie.sequences))))
    bank = Bank([edit])
    with bank.attach(model) as bank_state:
        sequence_logprobs(model, edited(model, prepared, bank, bank_state), prepared.targets).sum().backward()
    assert edit.flat.dtype == edit.flat.grad.dtype == torch.float32
    return edit.flat.grad


def test_gradients_point_where_those_of_float32_point(half, llama, items):
    mine, exact = gradient(half, items), gradient(llama, items)
    assert torch.nn.functional.cosine_similarity(mine, exact, dim=0) > 0.99
    assert float(mine.norm()) == pytest.approx(float(exact.norm()), rel=0.05)


def test_training_in_bfloat16_keeps_float32_edits_and_gains_as_much(half, llama, items):
    """A bfloat16 parameter could not even take the last steps of a decaying rate; float32 edits end where float32 runs end."""
    gains, recipes = [], [TrainingRecipe(tau=0.25, lr=0.02, epochs=12)] * 2
    for model in (half, llama):
        trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items)
        found = base_pass(model, trie, layers=[0, 1, 2])
        assert all(held.dtype == model.dtype for held in found.residuals.layers.values())
        edits = [full(model.layout, seed=1), Rank1(model.layout, Location.parse("2.2"), "constant", seed=2)]
        fits = train(TrainingSet(model, trie, items, found.logprobs, found.residuals), edits, recipes)
        assert all(edit.flat.dtype == torch.float32 for edit in edits)
        logprobs = score(model, found.prepared, [fit.edit for fit in fits], len(trie.sequences), residual_cache=found.residuals)
        gains.append([measures(items, trie, one, found.logprobs)["margin"].mean() for one in logprobs])
    np.testing.assert_allclose(gains[0], gains[1], rtol=0.15, atol=0.1)
    assert gains[0][0] > 1.0


def test_the_self_check_allows_bfloat16(half):
    for one in run_checks(half, prompt_format(half.tokenizer)):
        assert one.passed, str(one)


def test_features_and_drift_in_bfloat16(half, llama):
    edit = Rank1(half.layout, Location.parse("1.0"), seed=1)
    with torch.no_grad():
        edit.flat.fill_(0.2)
    found = []
    for model in (half, llama):
        trie = text_trie(model, TEXT, 24)
        held = base_pass(model, trie, layers=[1, 3], features=SiteSpace.of("head", model.layout))
        assert held.features.dtype == np.float32 and held.logprobs.dtype == np.float64
        found.append(drift(model, held.prepared, [edit.frozen({})], residual_cache=held.residuals))
    np.testing.assert_allclose(found[0].base["ce"], found[1].base["ce"], rtol=0.03)
    np.testing.assert_allclose(found[0].values["kl"], found[1].values["kl"], rtol=0.2, atol=0.01)


def test_drift_from_cached_layers_is_drift_from_the_start(model):
    """Texts that begin alike share nodes; edits that begin in different layers share the forward."""
    trie = text_trie(model, TEXT, 40)
    held = base_pass(model, trie, layers=[0, 1, 2, 3], tokens=60)
    edits = []
    for number, place in enumerate(("0.0,2.1", "1.3", "2.2")):
        edit = Rank1(model.layout, Location.parse(place), seed=number)
        with torch.no_grad():
            edit.flat.add_(torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(number)) * 0.2)
        edits.append(edit.frozen({}))
    fast, plain = drift(model, held.prepared, edits, residual_cache=held.residuals), drift(model, held.prepared, edits)
    for name in ("kl", "ce"):
        np.testing.assert_allclose(fast.values[name], plain.values[name], rtol=1e-4, atol=1e-6)
    assert fast.values["kl"].shape == (3, 3) and (fast.values["kl"] > 1e-4).all()


def test_a_quota_bounds_the_threads(tmp_path):
    """150 of 100 ms are one and a half cores: two threads. Version 1 names quota and period in two files."""
    from locus.machine.threads import granted

    many = granted((tmp_path / "absent", tmp_path / "absent too"))
    assert many >= 1
    new, old = tmp_path / "cpu.max", tmp_path / "cpu.cfs_quota_us"
    for text, cores in (("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", many), ("garbage", many)):
        new.write_text(text)
        assert granted((new, old)) == min(cores, many), text
    new.unlink()
    (tmp_path / "cpu.cfs_period_us").write_text("50000\n")
    for text, cores in (("50000\n", 1), ("-1\n", many)):
        old.write_text(text)
        assert granted((new, old)) == min(cores, many), text
