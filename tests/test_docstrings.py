"""Every example in a public docstring runs, and gives what it says."""

import doctest
import inspect

import pytest

import locus

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC = [name for name in locus.__all__ if callable(getattr(locus, name))]


def examples(name):
    found = getattr(locus, name)
    return [test for test in doctest.DocTestFinder(recurse=True).find(found, name, globs={}) if test.examples]


@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_examples_run(name):
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in examples(name):
        assert runner.run(test).failed == 0, test.name


def test_everything_public_says_what_it_takes_and_raises():
    for name in PUBLIC:
        found = getattr(locus, name)
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            told = inspect.getdoc(found)
            for parameter in inspect.signature(found).parameters:
                assert f"{parameter}:" in told, f"{name} does not explain {parameter}"
            assert "Raises:" in told, name
