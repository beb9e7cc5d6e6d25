"""Claims of every kind of site: probed with the statistics and the selection of heads, from the library and the command line."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import locus
from locus.behaviours.prompts import encode, prompt_format
from locus.claims.probe import accuracies, claim, collect
from locus.cli.app import app
from locus.errors import UserError
from locus.models.points import POINTS
from locus.sites import Location, SiteSpace, kind_of
from tests.families import QUESTIONS, tiny

KINDS = ("head", "neuron", "attn", "mlp", "resid")
PLANTED = "planted:localized:3"
SMALL = {"train": 8, "validation": 4, "test": 8, "text_passages": 0, "shift_random": 0, "iti_strengths": (5.0,), "judge": "none"}
SMALL |= {"search": "newton", "rounds": 3, "lengths": (), "alpha": 0.34, "least_gain": 0.001, "random": 2}


def seen_by_hooks(model, point, layer, sequences):
    """[answers, width], what is at a point of a layer at each text's last token, each read in a row of its own."""
    own, side, found = model.hf.get_submodule(POINTS[point].path(model.parts.layers[layer])), POINTS[point].side, []

    def look(_, args, *rest):
        value = rest[-1] if side == "output" else args[0] if args else rest[0][model.parts.stream]
        found.append((value[0] if isinstance(value, tuple) else value)[0, -1].clone())

    put = own.register_forward_hook if side == "output" else own.register_forward_pre_hook
    handle = put(look, with_kwargs=side == "stream") if side != "output" else put(look)
    try:
        with torch.no_grad():
            for sequence in sequences:
                model.hf(input_ids=torch.tensor([sequence.ids]))
    finally:
        handle.remove()
    return torch.stack(found).double().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_is_a_logistic_regression_of_what_is_at_the_site(kind):
    model, text = tiny("llama"), prompt_format(tiny("llama").tokenizer, "qa")
    space = SiteSpace.of(kind, model.layout)
    bank = collect(model, QUESTIONS, text, "answer", 0, space=space)
    train, validation = bank.first(5), bank.rest(5)
    table = accuracies(train, validation)
    sequences = [encode(model.tokenizer, text, item.question, answer) for item in QUESTIONS for answer in item.answers]
    for site in (space.everywhere.sites[0], space.everywhere.sites[-1]):
        x = seen_by_hooks(model, space.kind.point, site.layer, sequences)[:, space.columns(site)]
        fitted = LogisticRegression(C=1.0, tol=1e-9, max_iter=10_000).fit(x[bank.owner < 5], bank.truth[bank.owner < 5])
        score = fitted.score(x[bank.owner >= 5], bank.truth[bank.owner >= 5])
        assert table[site.layer, site.index] == pytest.approx(score), site
    found = claim(train, validation, 2)
    assert found.location.kind == kind and len(found.location) == 2 and len(found.scores) == len(space.everywhere)
    best = sorted(space.everywhere.sites, key=lambda site: -table[site.layer, site.index])[:2]
    assert found.location == Location.of(best)
    assert (
        list(found.scores.values()) == sorted(found.scores.values(), reverse=True) and np.isfinite([*found.scores.values()]).all()
    )


@pytest.mark.parametrize("kind", ["neuron", "mlp@last"])
def test_an_audit_finds_a_claim_of_the_kind_that_it_is_asked_for(kind, tmp_path):
    run = locus.audit(PLANTED, claim="probe", site_kind=kind, claim_size=1, out=tmp_path / "RUN", progress=False, **SMALL)
    mine = run.verdict.claims[0]
    assert mine.kind == kind and len(mine.location) == 1 and mine.special.n_random == 2
    found = locus.probe(PLANTED, kind=kind, size=1, progress=False, train=8, validation=4, judge="none")
    assert found.location.names == list(mine.location) and locus.verify(run.folder).claims


def test_a_kind_beside_claims_of_another_is_refused(tmp_path):
    for kind, match in (
        ("mlp", "a claim of one kind of site"),
        ("mpl", "Did you mean 'mlp'|one of head"),
        ("mlp@9", "positions"),
    ):
        with pytest.raises(UserError, match=match):
            locus.audit(PLANTED, claim=["probe", "1.1"], site_kind=kind, out=tmp_path / "RUN", progress=False, **SMALL)


@pytest.mark.parametrize("command", ["probe", "claims"])
def test_commands_rank_sites_of_a_kind(command, tmp_path):
    asked = [command, "--model", PLANTED, "--kind", "mlp", "--size", "1", "--save", str(tmp_path / "claim.json")]
    result = CliRunner().invoke(app, [*asked, "--set", "train=8", "--set", "validation=4"])
    assert result.exit_code == 0, result.output
    saved = locus.claim(str(tmp_path / "claim.json"))
    assert saved.location.kind == "mlp" and set(saved.scores) == {"mlp.0", "mlp.1", "mlp.2"}
    assert kind_of("mlp").nouns in result.output
