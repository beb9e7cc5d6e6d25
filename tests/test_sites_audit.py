"""Audits of claims of every kind: numbers without standings where nobody has measured errors, small populations, a toy kind."""

import json

import pytest
import torch

import locus
from locus import registry
from locus.conclude.sentences import WITHHELD
from locus.engine.bank import Bank
from locus.errors import UserError
from locus.plan import preconditions
from locus.plan.config import resolve
from locus.plan.population import bounded, check, kind_asked
from locus.sites import Location, SiteSpace, kind_of
from tests.toys.site import HALF

SMALL = {"train": 8, "validation": 4, "test": 8, "text_passages": 0, "shift_random": 0, "iti_strengths": (5.0,)}
SMALL |= {"search": "newton", "rounds": 3, "lengths": ()}
LOOSE = {**SMALL, "alpha": 0.34, "least_gain": 0.001}
PLANTED = "planted:localized:3"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A finished audit of a claim, once for all tests."""
    made = {}

    def audit(claim, **settings):
        if claim not in made:
            out = tmp_path_factory.mktemp("audits") / "RUN"
            made[claim] = locus.audit(PLANTED, claim=claim, out=out, progress=False, **{**LOOSE, **settings})
        return made[claim]

    return audit


CLAIMS = {"attn.1": 2, "mlp.1": 2, "resid.1": 2, "n1.3,n2.4": 3}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_kind_comes_to_numbers_and_to_standings_where_its_errors_were_measured(audited, claim):
    run = audited(claim, random=3)
    mine, kind = run.verdict.claims[0], Location.parse(claim).kind
    assert mine.kind == kind and mine.location == tuple(Location.parse(claim).names)
    withheld, nouns = not kind_of(kind).calibrated, kind_of(kind).nouns
    assert mine.sentence.startswith("No verdict") or not withheld
    for finding in mine.by_question.values():
        assert withheld or finding.standing != "withheld"
        assert not withheld or finding.standing in ("withheld", "invalid")
        assert finding.estimate is not None
    assert mine.special.n_random == CLAIMS[claim]
    plan = json.loads((run.folder / "plan.json").read_text())
    assert plan["rule"].get("withheld") == (WITHHELD.format(nouns=nouns) if withheld else None)
    assert plan["claims"][0]["sites"] == list(mine.location)
    assert plan["model"]["anatomy"]["points"] and all("points" not in one for one in plan["trials"])
    page = (run.folder / "report.html").read_text()
    assert nouns in page and (WITHHELD.format(nouns=nouns) in page) == withheld
    assert run.plot("head-map").axes  # a map, a strip, or what is named
    assert [one.special for one in locus.verify(run.folder).claims] == [mine.special.standing]


def test_all_places_there_are_give_an_exact_rank(audited):
    special = audited("attn.1", random=3).verdict.claims[0].special
    assert "all 2 other Locations" in special.sentence and "exact: no p is under 0.333" in special.sentence


def test_a_run_goes_on_and_its_edits_speak(audited):
    run = audited("resid.1", random=3)
    before = run.verdict.to_json()
    again = locus.audit(PLANTED, claim="resid.1", out=run.folder, progress=False, **{**LOOSE, "random": 3})
    after = again.verdict.to_json()
    assert {**before, "seconds": 0} == {**after, "seconds": 0}
    model = locus.load(PLANTED)
    tokens = torch.arange(1, 9)[None]
    plain = model.hf(input_ids=tokens).logits
    with Bank([run.edit("claim").edit]).attach(model):
        banked = model.hf(input_ids=tokens).logits
    with run.edit("claim").attach(model):
        edited = model.hf(input_ids=tokens).logits
    assert (edited - plain).abs().max() > 1e-3
    torch.testing.assert_close(edited, banked, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="the residual stream entering the layer"):
        locus.export(run, run.folder.parent / "adapter", trial="claim", model=model)


def test_a_level_that_no_rank_can_reach_is_refused(tmp_path):
    with pytest.raises(UserError, match="2 besides the claim's own among 3 layers of 1 MLP"):
        preconditions.check(resolve("quick", model=PLANTED, claims=("mlp.1",)), tmp_path / "RUN")
    space, place = SiteSpace(kind_of("mlp"), (1,) * 30), [Location.parse("mlp.12")]
    config = resolve("quick", claims=("mlp.12",), random=39)
    check(config, space, place)  # 29 others are enough
    assert bounded(config, space, place).random == 29 and bounded(config, space, place).looks[-1] == 29
    with pytest.raises(UserError, match=r"A layer has one MLP: use --set null=uniform"):
        check(resolve("quick", claims=("mlp.12",), null="layer"), space, place)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"claims": ("mlp.1", "attn.1")}, "a claim of one kind of site"),
        ({"claims": ("1.1,mlp.1",)}, "a claim of one kind of site"),
        ({"claims": ("mlp.7",)}, "mlp.7"),
        ({"claims": ("n0.24",)}, r"n0\.24"),
    ],
)
def test_what_cannot_be_a_claim_is_refused_before_anything_is_loaded(settings, words, tmp_path):
    config = resolve("quick", model=PLANTED, alpha=0.4, random=2, **settings)
    with pytest.raises(UserError, match=words):
        preconditions.check(config, tmp_path / "RUN")


def test_free_is_no_form_of_what_is_free_anyway(tmp_path):
    asked = {"claim": "mlp.1", "alpha": 0.4, "random": 2, "full_forms": ("heads", "free"), "out": tmp_path / "RUN"}
    with pytest.raises(UserError, match="where every edit is free"):
        locus.audit(PLANTED, **asked, progress=False)


def test_a_heuristic_looks_among_the_sites_that_others_name():
    assert kind_asked(resolve("quick")).name == "head"
    assert kind_asked(resolve("quick", claims=("probe", "mlp.3"))).name == "mlp"


def test_a_toy_kind_is_one_file(tmp_path, monkeypatch):
    """Two halves of a head are the head: their edit is the same edit, and an audit of them asks the same."""
    monkeypatch.setitem(registry._registered, "sites", {})
    registry.register("sites", "half", HALF)
    halves, whole = (
        locus.audit(PLANTED, claim=claim, out=tmp_path / name, progress=False, **{**SMALL, "random": 3, "alpha": 0.26})
        for name, claim in (("halves", "half.1.2,half.1.3"), ("head", "1.1"))
    )
    one, other = halves.verdict.claims[0], whole.verdict.claims[0]
    assert one.kind == "half" and one.n_sites == 2 and other.kind == ""
    assert one.works.standing in ("supported", "refuted", "undecided") and one.special.n_random == other.special.n_random == 3
    mine, theirs = (run.verdict.claimed[0].measures["margin"].mean for run in (halves, whole))
    assert mine == pytest.approx(theirs, abs=1e-4)
    assert "halves of heads" in (tmp_path / "halves" / "report.html").read_text()
