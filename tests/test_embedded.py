"""Behaviours that come with the package are made as their cards say: sizes, balance, groups, lengths, nothing twice."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from locus import behaviours, registry
from locus.behaviours import figures
from locus.behaviours.blind import logistic_baseline, negation_then_length
from locus.behaviours.embedded import LICENCE
from locus.behaviours.items import contradicted, problems, repeats
from locus.cli.app import app
from locus.errors import UserError
from studies.behaviours import ceilings

ROOT = Path(__file__).parents[1]

CONTENT = ["antonym", "agreement", "shutdown", "sentiment", "sycophancy"]
FORM = ["language", "refusal", "bias", "formality", "hedging"]
ALL = CONTENT + FORM
EMBEDDED = [name for name, entry in registry.entries("behaviours").items() if entry.embedded]


def test_all_that_come_with_the_package_are_held_to_these_rules():
    assert sorted(EMBEDDED) == sorted([*ALL, "misconceptions"])  # whose own tests are in test_datasets


@pytest.fixture(scope="module", params=ALL)
def data(request):
    return behaviours.load(request.param)


def test_it_is_large_well_formed_and_free(data):
    assert 200 <= len(data.items) <= 400 and data.licence == LICENCE and data.name in registry.entries("behaviours")
    seen = {}
    for item in data.items:
        assert not problems(item) and not repeats(item) and not contradicted(item, seen), item.id
        assert item.question.isprintable() and all(answer.isprintable() and answer == answer.strip() for answer in item.answers)
    assert len({item.id for item in data.items}) == len({item.question.casefold() for item in data.items}) == len(data.items)


def test_siblings_share_a_group_and_groups_are_many_and_even(data):
    sizes = Counter(item.group for item in data.items)
    assert len(sizes) >= 50 and max(sizes.values()) <= 6 and max(sizes.values()) == min(sizes.values())


def test_sides_are_of_equal_length(data):
    sides = [[answer for item in data.items for answer in getattr(item, side)] for side in ("wanted", "unwanted")]
    wanted, unwanted = (sum(map(len, answers)) / len(answers) for answers in sides)
    assert abs(wanted / unwanted - 1) < 0.1


@pytest.mark.parametrize("name", CONTENT)
def test_content_cannot_be_told_without_the_question(name):
    data = behaviours.load(name)
    assert not data.form
    assert abs(negation_then_length(data.items).pair_accuracy - 0.5) < 0.06
    assert abs(logistic_baseline(data.items).pair_accuracy - 0.5) < 0.06


@pytest.mark.parametrize("name", CONTENT)
def test_in_a_group_each_text_is_as_often_wanted_as_not(name):
    balance = Counter()
    for item in behaviours.load(name).items:
        balance.update({(item.group, answer): 1 for answer in item.wanted})
        balance.subtract({(item.group, answer): 1 for answer in item.unwanted})
    assert not any(balance.values())


@pytest.mark.parametrize("name", FORM)
def test_form_is_declared(name):
    assert behaviours.load(name).form


def test_no_word_is_in_two_sets_of_antonyms():
    groups = {}
    for item in behaviours.load("antonym").items:
        for answer in item.answers:
            assert groups.setdefault(answer, item.group) == item.group


def test_a_blind_rule_says_nothing_against_a_form(run_copy):
    """What it reaches counts against a verdict on content, and only stands beside one on a form."""
    from locus.conclude.derive import recorded
    from locus.conclude.scores import scores_of

    def seen():
        with recorded(run_copy) as record:
            claim = record.plan.claims[0].name
            return scores_of(record, claim, record.config.reads[0], "mc1").blind, len(record.plan.dataset.blind)

    blind, rules = seen()
    assert blind is not None and 0 <= blind <= 1
    plan = json.loads((run_copy / "plan.json").read_text())
    assert "form" not in plan["dataset"]
    plan["dataset"]["form"] = True
    (run_copy / "plan.json").write_text(json.dumps(plan))
    assert seen() == (None, rules)


def test_figures_follow_from_their_receipts_and_are_of_these_questions():
    rows = json.loads(figures.PATH.read_text())
    assert rows == [json.loads(json.dumps(ceilings.figures_of(receipt))) for receipt in ceilings.receipts()]
    for row in rows:
        measured = figures.of(behaviours.load(row["behaviour"]))
        assert measured is not None, f"{row['behaviour']} was changed since it was measured"
        assert (ROOT / measured.receipt).is_file() and measured.test >= 40 and measured.groups >= 10


def test_questions_that_were_not_measured_have_no_figures():
    dataset = behaviours.load("antonym")
    assert figures.of(replace(dataset, items=dataset.items[1:])) is None


def test_the_page_of_behaviours_has_a_card_and_the_figures_of_each():
    page = (ROOT / "docs/behaviours.md").read_text()
    assert ceilings.table() in page
    for name in EMBEDDED:
        assert f"\n### {name}\n" in page


def test_the_command_lists_each_with_its_figures_and_receipt():
    result = CliRunner().invoke(app, ["behaviours"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    for name in EMBEDDED:
        (row,) = (line for line in result.output.splitlines() if line.startswith(f"│ {name} "))
        measured = figures.of(behaviours.load(name))
        assert measured.receipt == f"studies/behaviours/{name}.json" if measured else "not measured" in row
        assert ("form" if name in FORM else "content") in row
    assert "studies/behaviours/NAME.json" in result.output


def test_sides_can_be_exchanged(tmp_path):
    plain, turned = behaviours.load("bias"), behaviours.load("exchange:bias")
    assert turned.name == "exchange:bias" and turned.form and turned.sha256 != plain.sha256
    for one, other in zip(plain.items, turned.items, strict=True):
        assert (other.wanted, other.unwanted, other.best) == (one.unwanted, one.wanted, one.unwanted[0])
        assert (other.id, other.question, other.group) == (one.id, one.question, one.group)
    assert behaviours.load("exchange:exchange:antonym") == behaviours.load("antonym")
    (tmp_path / "x.jsonl").write_text('{"question": "Why?", "true": ["a"], "false": ["b", "c"]}\n')
    assert behaviours.load(f"exchange:{tmp_path / 'x.jsonl'}").items[0].wanted == ("b", "c")
    with pytest.raises(UserError, match="antonyms"):
        behaviours.load("exchange:antonyms")


def test_a_command_exchanges_the_sides_of_what_it_names(tmp_path):
    def refused(*more):
        return CliRunner().invoke(app, ["audit", "--out", str(tmp_path / "X"), "--exchange", *more]).exception

    assert isinstance(refused(), UserError) and "no --data" in str(refused())
    assert "'nothing.jsonl'" in str(refused("--data", "nothing.jsonl"))


def test_what_comes_with_the_package_is_opened_where_a_plan_names_it():
    from locus.report.consent import BUILT_IN

    for name in EMBEDDED:
        assert BUILT_IN["data"].fullmatch(name) and BUILT_IN["data"].fullmatch(f"exchange:{name}")
    for name in ("exchange:x.jsonl", "antonym\n", "truthfulqa", "exchange:", "exchange:truthfulqa"):
        assert not BUILT_IN["data"].fullmatch(name)
