"""Behaviours that come with the package are made as their cards say: sizes, balance, groups, lengths, nothing twice."""

from collections import Counter

import pytest

from locus import behaviours, registry
from locus.behaviours.blind import logistic_baseline, negation_then_length
from locus.behaviours.embedded import LICENCE
from locus.behaviours.items import contradicted, problems, repeats

CONTENT = ["antonym", "agreement", "shutdown", "sentiment", "sycophancy"]
FORM = ["language", "refusal", "bias", "formality", "hedging"]
ALL = CONTENT + FORM


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
