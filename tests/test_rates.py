"""How often answers are wrong: the package counts what draws say, and says it beside answers under the same settings alone."""

import json

import pytest

from locus.plan.config import AuditConfig, resolve
from locus.records.calibration import GradedDraw
from locus.records.findings import QUESTIONS, ClaimVerdict, Finding
from locus.report import rates
from studies.graded.rates import FOLDERS, HERE, counted

NEWTON = resolve("quick")


def claimed(works: str, kind: str = "") -> ClaimVerdict:
    """A verdict on a claim of which one question and another are answered alike."""
    found = {question: Finding(standing="undecided", sentence="x") for question in QUESTIONS}
    found |= dict.fromkeys(("works", "special"), Finding(standing=works, sentence="x"))
    told = {
        "name": "c",
        "origin": "",
        "location": (),
        "n_sites": 1,
        "read": "layer",
        "sentence": "",
        "by_metric": {},
        "kind": kind,
    }
    return ClaimVerdict(**told, **found, variance=None)


def test_the_package_has_what_the_draws_say():
    assert json.loads(rates.PATH.read_text()) == counted().to_json(), "run: python -m studies.graded.rates"


@pytest.mark.parametrize("name", [name for name in FOLDERS if (HERE / name / "draws.jsonl").is_file()])
def test_the_counts_are_those_of_the_draws_themselves(name):
    """Counted once more, a line a draw: yes where no is right in every draw of that share, and the other way about."""
    draws = [GradedDraw.parse(json.loads(line)) for line in (HERE / name / "draws.jsonl").read_text().splitlines()]
    (kind,) = (one for one in rates.measured().kinds if one.source == f"studies/graded/{name}")
    claims = [(draw.percent, claim) for draw in draws for claim in draw.claims if claim.random == kind.settings.random]
    right = {(percent, claim.name): set() for percent, claim in claims}
    for percent, claim in claims:
        right[percent, claim.name].add(claim.expected["special"])
    known = [claim for percent, claim in claims if right[percent, claim.name] == {"refuted"}]
    said = sum(claim.standings["special"] == "supported" for claim in known)
    assert (kind.false["special"].count, kind.false["special"].n) == (said, len(known)) and known


def test_it_stands_beside_answers_under_the_same_settings_alone():
    said = rates.error_rate("special", "supported", NEWTON)
    assert said.startswith("In ") and "where the answer is no, this was said in" in said and "at most" in said
    for other in ({"alpha": 0.1}, {"tolerance": 0.3}, {"metric": "mc1"}, {"search": "adamw"}, {"rule": 3}):
        assert rates.error_rate("works", "supported", AuditConfig(**{**NEWTON.model_dump(), **other})) == ""
    fewer = AuditConfig(**{**NEWTON.model_dump(), "random": 18, "alpha": NEWTON.alpha})
    assert rates.error_rate("special", "supported", fewer) == "" != rates.error_rate("works", "supported", fewer)
    for standing in ("undecided", "invalid"):
        assert rates.error_rate("special", standing, NEWTON) == ""


def test_where_nothing_was_measured_that_is_said_once():
    nothing, other = dict.fromkeys(QUESTIONS, ""), NEWTON.model_copy(update={"alpha": 0.1})
    assert rates.error_rates(claimed("supported"), other) == (nothing, rates.NOT_MEASURED)
    assert rates.error_rates(claimed("undecided"), other) == (nothing, "")


def test_a_rate_is_of_its_own_kind_of_site():
    """Heads were audited otherwise than neurons: neither's rates stand beside the other's answers."""
    kinds = {one.kind: one.false["special"].n for one in rates.measured().kinds}
    assert kinds["neuron"] == 480, "80 models: of a distributed and a decoy's claim, and of four idle neurons"
    said = {kind: rates.error_rates(claimed("supported", kind), NEWTON)[0]["special"] for kind in ("", "neuron", "neuron@last")}
    assert f"In {kinds['neuron']:,} audits" in said["neuron"] != said[""] and said["neuron@last"] == ""
    assert said[""].startswith("In ")
