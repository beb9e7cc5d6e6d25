"""The examples run as they stand, and say what they promise."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test():
    tested = {"audit_planted", "plan_an_audit", "own_questions"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_the_planted_head_stands_out_and_another_does_not(tmp_path):
    said = example("audit_planted").main(tmp_path)
    assert said["planted"].startswith("Editing the claimed Location works and beats random Locations; hardly any other Location")
    assert said["elsewhere"].startswith("Editing the claimed Location falls short of editing everywhere")


def test_planning_names_more_places_for_smaller_effects():
    small, middle, large = example("plan_an_audit").main()
    assert small is None or small > middle
    assert middle >= large


def test_own_questions_become_an_audit(tmp_path, llama_folder):
    assert example("own_questions").main(tmp_path / "out", llama_folder)
    assert (tmp_path / "out" / "run" / "report.html").exists()
