"""How far edits take activations from where the unedited model's lie: by hand, on a planted model, and on the page."""

import numpy as np
import pytest
import torch

import locus
from locus.behaviours.prompts import prompt_format
from locus.conclude.manifold import noted
from locus.engine.activations import base_pass
from locus.engine.cost import Tally
from locus.engine.manifold import Manifold, fit, leaving, own_departures
from locus.engine.trie import build_trie
from locus.plan.config import AuditConfig
from locus.records.beside import Departure
from locus.records.store import Store
from locus.report.verify import verify

QUICK = {"claim": "1.1", "epochs": 4, "train": 36, "progress": False, "sign": False, "random": 7, "alpha": 0.125}
STRENGTHS = [1e-3, 1e4]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A planted model under a shift that does nothing and one that drowns all else."""
    out = tmp_path_factory.mktemp("manifold") / "RUN"
    return locus.audit("planted:localized:3", out=out, iti_strengths=STRENGTHS, **QUICK)


def test_distances_by_hand():
    """Standard deviations 2 and 1 about (1, 0): (5, 0) is 2 out, (1, 3) is 3 out, and (3, 1) is the root of 2 out."""
    manifold = Manifold(torch.tensor([1.0, 0.0]), torch.diag(torch.tensor([0.5, 1.0])), bound=2.5)
    states = torch.tensor([[5.0, 0.0], [1.0, 3.0], [3.0, 1.0], [float("nan"), 0.0]])
    assert manifold.distances(states)[:3].tolist() == pytest.approx([2.0, 3.0, 2**0.5])
    assert manifold.beyond(states).tolist() == [False, True, False, True], "what is no number is not where the model is"


def test_what_leaves_the_last_layer_is_what_the_plain_model_has_there_in_every_family(model, items):
    """The input of the final norm, text by text, at the token before each token of an answer."""
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, name="bare"), items[:3])
    held = base_pass(model, trie, layers=[model.layout.n_layers - 1])
    for batch in held.prepared:
        found, targets = leaving(model, batch, held.residuals), batch.targets
        alone = base_pass(model, trie)
        assert torch.allclose(found, leaving(model, batch, alone.residuals), atol=1e-4), "held or not, the same"
        logits = model.logits(found).log_softmax(-1)
        by_token = logits[torch.from_numpy(targets.predictor), torch.from_numpy(targets.token)].double().numpy()
        sums = np.bincount(targets.sequence, weights=by_token)
        assert sums == pytest.approx(held.logprobs[targets.sequences], abs=1e-3)


def test_the_base_model_is_beyond_its_own_bound_at_one_percent_of_positions(llama, items):
    tries = [build_trie(llama.tokenizer, prompt_format(llama.tokenizer, name="bare"), part) for part in (items[:4], items[4:])]
    known, asked = (base_pass(llama, trie, layers=[2]) for trie in tries)
    tally = Tally()
    manifold = fit(llama, [known], asked, tally)
    states = torch.cat([leaving(llama, batch, asked.residuals) for batch in asked.prepared])
    far = manifold.distances(states)
    assert int(manifold.beyond(states).sum()) == int(np.ceil(0.01 * (len(states) - 1))) and manifold.bound < float(far.max())
    assert manifold.beyond(states + 1e3 * torch.ones(states.shape[-1])).all()
    assert own_departures(llama, manifold, asked).sum() >= 1
    assert tally.by_edit[0]["read"].layers == sum(len(batch.row) for one in (known, asked) for batch in one.prepared)


def test_a_huge_shift_is_off_the_manifold_and_a_tiny_one_is_where_the_model_is(run):
    """24 test questions of one token each: of the base model's positions the outermost alone lies beyond 99 %."""
    means = run.scores("off_manifold").groupby(["role", "setting"])["value"].mean()
    assert means["base", ""] == pytest.approx(1 / 24)
    assert means["shift", "alpha=10000"] == 1.0 and means["shift", "alpha=0.001"] == means["base", ""]


def test_it_is_recorded_shown_and_follows_from_the_scores(run):
    verdict = run.verdict
    (one,) = verdict.departures
    assert one.claim == verdict.claimed[0].mean("off_manifold") and one.ceiling == verdict.ceiling[0].mean("off_manifold")
    assert one.more == pytest.approx(one.claim - one.ceiling) and one.interval[0] <= one.more <= one.interval[1]
    verify(run.folder)
    page = run.report(sign=False).read_text()
    assert "Off-manifold" in page and ("leaves the unedited model" in page) == bool(noted(one))


def test_the_note_is_of_a_difference_that_is_shown():
    one = {"name": "c", "read": "layer", "claim": 0.5, "ceiling": 0.2, "more": 0.3}
    said = noted(Departure(**one, interval=(0.1, 0.5)))
    assert "50.0 % of answer tokens" in said and "20.0 % under the ceiling" in said and "+10.0 to +50.0 points" in said
    assert noted(Departure(**one, interval=(-0.1, 0.7))) == noted(Departure(**one, interval=(None, None))) == ""


def test_without_it_every_other_number_is_the_same(run, tmp_path):
    other = locus.audit("planted:localized:3", out=tmp_path / "RUN", iti_strengths=STRENGTHS, off_manifold=False, **QUICK)
    rows = [Store(one.folder / "trials.sqlite").dump() for one in (run, other)]
    assert [row for row in rows[0] if row[2] != "off_manifold"] == rows[1] and len(rows[0]) > len(rows[1])
    assert "departures" not in other.verdict.to_json() and "off_manifold" not in other.verdict.claimed[0].measures
    assert not AuditConfig.recorded({}).off_manifold, "a plan that does not speak of it did not ask for it"
