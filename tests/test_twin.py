"""The twin of a model: weights redrawn with the same spectra, in which nothing is anywhere and nothing may be found."""

import json

import pytest
import torch

import locus
from locus.cli.app import app
from locus.errors import UserError
from locus.models.twin import orthonormal, redrawn, twin_of
from locus.plan.config import AuditConfig, resolve
from locus.plan.preconditions import early
from locus.report.rerun import rerun
from locus.report.twins import twins
from locus.report.verify import verify
from tests.families import tiny

QUICK = {"claim": "1.1", "epochs": 4, "train": 36, "progress": False, "sign": False, "random": 7, "alpha": 0.125}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A planted model whose head 1.1 does the work, and the same audit of its twin."""
    folder = tmp_path_factory.mktemp("twin")
    return [
        locus.audit("planted:localized:3", out=folder / name, **QUICK, **more)
        for name, more in (("RUN", {}), ("TWIN", {"twin": True}))
    ]


def test_a_redrawn_matrix_has_the_same_singular_values_and_other_vectors():
    matrix = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.logspace(0, -3, 7))
    again, other = redrawn(matrix, "0|w|0"), redrawn(matrix, "1|w|0")
    assert torch.linalg.svdvals(again) == pytest.approx(torch.linalg.svdvals(matrix), abs=1e-5)
    assert torch.equal(again, redrawn(matrix, "0|w|0")) and not torch.allclose(again, other, atol=1e-2)
    for vectors in (torch.linalg.svd(one)[0][:, 0] for one in (again, other)):
        assert abs(float(vectors @ torch.linalg.svd(matrix)[0][:, 0])) < 0.9
    assert redrawn(matrix.bfloat16(), "0").dtype == torch.bfloat16 and redrawn(matrix.T, "0").shape == (7, 12)


def test_columns_are_orthonormal_and_no_direction_is_preferred():
    generator = torch.Generator().manual_seed(0)
    columns = orthonormal(9, 4, generator)
    assert columns.T @ columns == pytest.approx(torch.eye(4), abs=1e-5)
    entries = torch.stack([orthonormal(2, 2, generator) for _ in range(2000)])
    # Haar: every entry has mean 0 and mean square 1 / 2; QR without its signs taken out leaves the first entry's sign fixed.
    assert entries.mean(0).abs().max() < 0.06 and (entries.square().mean(0) - 0.5).abs().max() < 0.03


def test_matrices_are_redrawn_vectors_kept_ties_kept_and_the_model_untouched(model):
    before, weights = model.fingerprint, {name: one.clone() for name, one in model.hf.named_parameters()}
    twin = twin_of(model, 5)
    model.changed()
    assert model.fingerprint == before != twin.fingerprint and twin.name == f"twin of {model.name}, seed 5"
    assert twin.fingerprint == twin_of(model, 5).fingerprint != twin_of(model, 6).fingerprint
    for name, one in twin.hf.named_parameters():
        assert (one.ndim < 2) == torch.equal(one, weights[name]), name
        if one.ndim >= 2:
            assert torch.linalg.svdvals(one) == pytest.approx(torch.linalg.svdvals(weights[name]), abs=1e-4), name
    tied = [hf.get_input_embeddings().weight is hf.get_output_embeddings().weight for hf in (model.hf, twin.hf)]
    assert tied[0] == tied[1]


def test_where_there_is_nothing_nothing_is_special(both):
    run, twin = both
    assert run.verdict.special.standing == "supported"
    assert twin.verdict.special.standing != "supported" and twin.verdict.works.standing != "supported"
    for seed in (1, 2):
        other = locus.audit("planted:localized:3", **{**QUICK, "twin": seed})
        assert other.config.twin == seed and other.verdict.special.standing != "supported"


def test_plan_receipt_and_verification_know_it(both):
    plan = json.loads((both[1].folder / "plan.json").read_text())
    assert plan["model"]["name"] == "twin of planted:localized:3, seed 0" and plan["config"]["twin"] == 0
    assert plan["context"]["model"] != json.loads((both[0].folder / "plan.json").read_text())["context"]["model"]
    verify(both[1].folder)
    rerun(both[1].folder, 1, 0)  # a trial of the twin is repeated on the twin, whose fingerprint is held against the plan
    receipt = json.loads((both[1].folder / "receipt.json").read_text())
    assert receipt["body"]["model"]["name"] == "twin of planted:localized:3, seed 0"


def test_the_page_of_the_real_run_shows_the_twin_beside_it(both, tmp_path):
    run = both[0].save(tmp_path / "RUN")
    assert "What the method finds where there is nothing" not in run.report(sign=False).read_text()
    page = run.report(compare=[both[1]], sign=False).read_text()
    assert "What the method finds where there is nothing" in page and "twin of planted:localized:3, seed 0" in page
    assert "a special place where there is nothing" not in page and "It is not quite the same audit" not in page
    (beside,) = twins(run._material, [both[1]._material])
    assert beside.claims == both[1].verdict.claims and not twins(both[1]._material, [run._material])
    assert "This is the audit of a twin" in both[1].report(sign=False).read_text()


def test_a_model_in_memory_has_a_twin_and_stays_as_it_is():
    theirs = locus.load("planted:localized:3")
    before, model = theirs.fingerprint, locus.wrap(theirs.hf, theirs.tokenizer, name="mine")
    run = locus.audit(model, locus.behaviour("planted:localized:3"), twin=4, prompt="bare", text_passages=0, **QUICK)
    theirs.changed()
    assert run.verdict.model.name == "twin of memory:mine, seed 4" and theirs.fingerprint == before
    assert run.verdict.special.standing != "supported"


def test_a_twin_of_quantised_weights_is_refused_in_one_sentence_before_anything_is_loaded(tmp_path):
    from typer.testing import CliRunner

    for name in ("smollm2-135m-instruct", "some.gguf"):
        with pytest.raises(UserError, match=r"full precision.*for a twin; received .*, whose weights are quantised"):
            early(resolve("quick", model=name, twin=0), tmp_path / "RUN")
    done = CliRunner().invoke(app, ["audit", "--twin", "--out", str(tmp_path / "RUN")])
    assert isinstance(done.exception, UserError) and "whose weights are quantised" in str(done.exception)
    with pytest.raises(UserError, match="quantised"):
        twin_of(_quantised(), 0)
    with pytest.raises(UserError, match="twin"):
        resolve("quick", twin=-1)
    assert AuditConfig.recorded({}).twin is None


def _quantised():
    model = tiny("llama")
    model.quantised = True
    return model
