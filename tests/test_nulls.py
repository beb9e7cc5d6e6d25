"""Random Locations of the claim's layers beside uniform ones: drawn, concluded, shown, and never in the verdict's way."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import locus
from locus.conclude.nulls import compared, rank
from locus.conclude.rule import conclude
from locus.conclude.tests import Scores
from locus.errors import UserError
from locus.plan.config import AuditConfig, resolve
from locus.plan.preconditions import check
from locus.records.findings import ClaimVerdict, Finding, Findings
from locus.report.verify import verify

QUICK = {"epochs": 4, "train": 36, "progress": False, "sign": False}


def audited(out, claim="1.1", **settings):
    return locus.audit("planted:localized:3", claim=claim, out=out, **{**QUICK, **settings})


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The head that does the work of a planted model, against seven uniform heads, and the seven others of its layer."""
    return audited(tmp_path_factory.mktemp("both") / "RUN", null="both", random=7, alpha=0.125)


def test_the_claims_layer_is_drawn_beside_uniform_heads_and_is_in_the_plan(both):
    plan = json.loads((both.folder / "plan.json").read_text())
    drawn = {role: [one["location"] for one in plan["trials"] if one["role"] == role] for role in ("random", "random-layer")}
    assert sorted(drawn["random-layer"]) == [[f"1.{head}"] for head in range(8) if head != 1]
    assert len(drawn["random"]) == 7 and {head.split(".")[0] for (head,) in drawn["random"]} - {"1"}
    assert plan["rule"]["beside"].startswith("special by random Locations of the claim's layers")


def test_by_construction_the_head_is_special_by_both_nulls(both):
    claim = both.verdict.claims[0]
    assert claim.special.standing == claim.special_in_layers.standing == "supported"
    assert rank(claim.special) == rank(claim.special_in_layers) == "1 of 8"
    assert len(both.verdict.random) == len(both.verdict.random_in_layers) == 7 and both.verdict.unfinished == 0
    assert compared(claim, both.verdict.metric).startswith("Both nulls say the same: special is supported")
    verify(both.folder)


def test_the_headline_is_that_of_the_first_null_alone(both, tmp_path):
    alone = audited(tmp_path / "RUN", random=7, alpha=0.125)
    assert "special_in_layers" not in alone.verdict.to_json()["claims"][0] and "random_in_layers" not in alone.verdict.to_json()
    mine, theirs = ({name: one.to_json() for name, one in run.verdict.claims[0].by_question.items()} for run in (both, alone))
    assert mine.keys() == theirs.keys()
    for question, finding in mine.items():
        assert finding["standing"] == theirs[question]["standing"]
        assert finding["estimate"] == pytest.approx(theirs[question]["estimate"], abs=1e-6)


def test_page_and_terminal_show_them_side_by_side(both):
    from locus.report.terminal import verdict_table

    page = both.report(sign=False).read_text()
    assert "rank among random Locations of the claim" in page and "Both nulls say the same" in page
    assert "7 random Locations of its layers" in page
    screen = Console(record=True, width=300, file=StringIO())
    verdict_table(screen, both.verdict, both.folder)
    said = screen.export_text()
    assert "Both nulls say the same" in said and "7 random Locations of its layers" in said


def test_each_null_is_drawn_until_it_can_change_nothing(tmp_path):
    """Two idle heads: no pair in their layers works, so five say enough; one of the uniform pairs has the head that works."""
    run = audited(tmp_path / "RUN", claim="0.2,2.3", null="both", random=19)
    claim = run.verdict.claims[0]
    assert claim.special.standing == claim.special_in_layers.standing == "refuted"
    assert claim.special_in_layers.n_random == 5 and len(run.verdict.random_in_layers) < len(run.verdict.random) == 19
    assert run.verdict.unfinished == 0 and not run.verdict.drawn.stopped_early
    verify(run.folder)


def finding(estimate, standing="supported", reached=0):
    return Finding(standing=standing, estimate=estimate, margin=1.0, n_random=19, reached=reached, sentence="")


def claim_of(special, layered=None, **more):
    answers = Findings(works=finding(0.0), special=special, unique=finding(0.0), necessary=finding(0.0))
    parts = {"name": "c", "origin": "given", "location": ("1.1",), "n_sites": 1, "variance": None, "read": "layer"}
    more = {"special_in_layers": layered} if layered is not None else {}
    return ClaimVerdict(**parts, **answers.by_question, sentence="", by_metric={}, **more)


def test_where_they_differ_is_said_with_how_much_of_the_lead_is_the_layers():
    """Claim at 5, uniform places at 1 on average, those of its layers at 3: of a lead of 4, 2 are its layers'."""
    said = compared(claim_of(finding(4.0), finding(2.0, "undecided", 3)), "margin")
    assert said.startswith(
        "The two nulls differ: by uniform random Locations special is supported (lead +4.000 nats, rank 1 of 20)"
    )
    assert "it is undecided (lead +2.000 nats, rank 4 of 20)" in said
    assert said.endswith(
        "Random Locations of its layers are at +2.000 nats from uniform ones: that much of the lead is its layers'."
    )
    assert compared(claim_of(finding(4.0)), "margin") == ""
    assert "unanswered" in compared(claim_of(finding(None, "invalid"), finding(None, "invalid")), "margin")
    assert compared(claim_of(finding(4.0), finding(None, "invalid")), "margin").startswith("The two nulls differ")


def test_the_second_null_stops_where_special_alone_is_refuted():
    """A claim that five of five places match is no better than they; whether it is unique need not be asked of them."""
    rng = np.random.default_rng(0)
    base, gain = np.zeros(60), rng.normal(4.0, 0.1, 60)
    places = np.array([[gain + rng.normal(0, 0.05, 60)] for _ in range(5)])
    lone = np.concatenate([places[:1], np.repeat(places[:1] - 4.0, 4, axis=0)])  # only one of five does as well
    scores = {"base": base, "claim": gain[None], "ceiling": gain[None], "complement": gain[None] * 0.1}
    config = AuditConfig(random=20, metric="margin", search="newton", taus=(0.1,))
    asked = Scores(**scores, random=places, groups=[str(one) for one in range(60)])
    assert conclude([asked], config, drawn=("special",)).settled
    other = Scores(**scores, random=lone, groups=asked.groups)
    assert not conclude([other], config, drawn=("special",)).settled


def test_a_layer_with_too_few_other_heads_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(UserError, match=r"7 besides the claim's own among those with as many heads in each layer"):
        check(resolve("quick", model="planted:localized:3", claims=("1.1",), null="both"), tmp_path / "RUN")
    with pytest.raises(UserError, match="null"):
        resolve("quick", null="all")
