"""What made a verdict invalid or left it open, with the remedy: read off the verdict's own numbers."""

import json
import re
from pathlib import Path

import pytest

from locus import stats, units
from locus.conclude import diagnosis
from locus.patching.settings import PatchConfig
from locus.plan.config import AuditConfig
from locus.records.beside import Nested
from locus.records.findings import QUESTIONS as ASKED
from locus.records.findings import Finding
from locus.records.place import Measured, PlaceResult
from locus.records.verdict import Baseline, Gain, Verdict
from tests.families import QUESTIONS

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "tests" / "runs" / "first-edition"


def finding(standing, estimate=0.0, low=0.0, high=0.0, **more):
    empty = {"level": 0.9, "n": 100, "n_random": 19, "margin": 0.1, "to_decide": "", "sentence": ""}
    return Finding(standing=standing, estimate=estimate, interval=(low, high), **{**empty, **more})


def entry(mean, half=0.05, converged=(True,)):
    one = Measured(mean=mean, interval=(mean - half, mean + half), n=100)
    return PlaceResult(
        name="",
        setting="",
        read="",
        location="",
        measures={"mc1": one, "mc2": one},
        trials=("x",),
        converged=converged,
        reasons=(),
    )


def verdict(base=0.5, ceiling=0.6, chance=0.2, metric="mc2", test=100, **ceiling_more):
    """A run's verdict with other numbers."""
    whole = Verdict.parse(json.loads((FIRST / "planted" / "verdict.json").read_text()))
    blind = whole.baseline.blind[0].model_copy(update={"mc1": 0.3, "mc1_chance": chance})
    places = {"claimed": entry(0.55), "complement": entry(0.58), "random": entry(0.52), "ceiling": entry(ceiling, **ceiling_more)}
    more = {kind: (place,) for kind, place in places.items()}
    more |= {"baseline": Baseline(base=(entry(base),), blind=(blind,)), "n": whole.n.model_copy(update={"test": test})}
    return whole.model_copy(update={"metric": metric, **more})


def claim(findings):
    return verdict().claims[0].model_copy(update=findings)


def invalid(estimate=-0.01, low=-0.02, high=0.01):
    return dict.fromkeys(ASKED, finding("invalid", estimate, low, high, margin=None))


def test_next_steps_are_those_of_the_tests():
    settled = dict.fromkeys(ASKED, finding("supported"))
    assert "Nothing is undecided" in diagnosis.next_steps(claim(settled), verdict())[0]
    open_ = {**settled, "special": finding("undecided", to_decide="about 60 random Locations")}
    assert diagnosis.next_steps(claim(open_), verdict()) == [
        "Special is undecided; what would settle it: about 60 random Locations."
    ]
    assert "Finish the run" in diagnosis.next_steps(claim({**settled, "works": finding("undecided")}), verdict())[0]
    assert diagnosis.next_steps(claim({**settled, "unique": finding("invalid")}), verdict())[0].startswith(
        "Unique has no answer. Train longer"
    )


def test_an_effect_that_is_not_clear_says_how_many_questions_show_it():
    # An interval of half-width 0.0164485 at level 0.9 with n = 100 means a standard error of 0.01 and an sd of 0.1.
    (text,) = diagnosis.next_steps(claim(invalid(0.01, 0.01 - 0.0164485, 0.01 + 0.0164485)), verdict())
    wanted = stats.questions_for_effect(0.01, 0.1, 0.05, 0.8, two_sided=False).n
    assert re.search(r"about (\d+) test", text).group(1) == str(wanted) and 610 < wanted < 630
    (text,) = diagnosis.next_steps(claim(invalid()), verdict())
    assert "gains nothing" in text


def test_of_a_direction_it_is_the_claimed_layers_that_gain_nothing():
    of = {"kind": "direction", "location": ("direction.1.8c562ddb6644", "direction.3.8c562ddb6644"), **invalid()}
    found = verdict()
    one = found.claims[0].model_copy(update=of)
    (text,) = diagnosis.next_steps(one, found.model_copy(update={"claims": (one,)}))
    assert text.startswith("No edit of the stream at layer 1, 3 gains anything: claim one at another layer.")


def test_each_cause_is_named_with_its_remedy():
    (full,) = diagnosis.next_steps(claim(invalid()), verdict(base=0.98))
    assert "already reaches 98.0 % by mc2" in full and "--metric margin" in full
    # 0.22 with an interval of 0.17 to 0.27 contains the 0.2 of guessing.
    chance, _ = diagnosis.next_steps(claim(invalid()), verdict(base=0.22, chance=0.2))
    assert "at chance (MC1 22.0 %, where guessing gives 20.0 %)" in chance and "stronger model" in chance
    loose, _ = diagnosis.next_steps(claim(invalid()), verdict(converged=(True, False)))
    assert "ceiling had not settled" in loose and "lr_multipliers" in loose


def test_where_edits_were_searched_for_the_remedy_is_a_longer_search():
    """Epochs and rates are nothing to a search; the sentence of the finding says which of the two it is."""
    searched = verdict().model_copy(
        update={"nested": Nested(compared=3, violated=1, most=0.1, beaten={"ceiling:heads": "probe"})}
    )
    standings = dict.fromkeys(ASKED, finding("supported")) | {"works": finding("invalid")}
    (step,) = diagnosis.next_steps(claim(standings), searched)
    assert step.startswith("Works has no answer. Search further (--set rounds=") and "epochs" not in step
    nothing = finding("invalid", -0.01, -0.02, 0.01, margin=None)
    assert "rounds" in " ".join(diagnosis.causes(nothing, searched))
    assert "rounds" not in " ".join(diagnosis.causes(nothing, verdict()))


def test_remedies_name_settings_by_the_names_they_have():
    sources = [path for path in (ROOT / "locus").rglob("*") if path.suffix in (".py", ".j2")]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert path.name == "config.py" or "lr_scales" not in text, path
        for name in re.findall(r"--set '?([a-z_]+)=", text):
            assert name in AuditConfig.model_fields or name in PatchConfig.model_fields, (path, name)


def test_few_questions_are_blamed_before_the_model():
    first, second = diagnosis.next_steps(
        claim({name: one.model_copy(update={"n": 6}) for name, one in invalid().items()}), verdict(base=0.22, chance=0.2, test=6)
    )
    assert first.startswith(
        "6 test questions cannot tell the unedited model from guessing (MC1 22.0 %, 95 % interval 17.0 to 27.0;"
    )
    assert "take more questions" in first and "take more questions, a stronger model" in second


def test_small_differences_are_told_to_a_tenth_of_their_margin():
    # Margins of 2.1, 0.23 and 0.021 points: one decimal, two, three; a third of a nat has the usual three.
    said = [units.difference(0.00012, "mc2", margin=margin) for margin in (0.021, 0.0023, 0.00021)]
    assert said == ["+0.0 points", "+0.01 points", "+0.012 points"]
    assert units.difference(0.012, "margin", margin=0.33) == "+0.012 nats"
    assert units.difference(0.00012, "mc2", margin=0.0) == "+0.0 points"


def test_the_gain_is_said_with_what_the_margin_is():
    gain = Gain(estimate=0.009, interval=(0.0012, 0.0181), level=0.9, n=50, margin_share=0.25)
    assert diagnosis.gained(gain, "mc2") == (
        "The optimal edit everywhere gains +0.90 points over no edit (90 % interval +0.12 to +1.81); the margin is 25 % of that."
    )


def test_scores_that_are_all_the_same_are_said():
    found = verdict(base=0.5, ceiling=0.5)
    assert not diagnosis.same(found)
    found = found.model_copy(update={kind: (entry(0.5),) for kind in ("claimed", "complement", "random")})
    assert diagnosis.same(found) and "scores the same by mc2" in diagnosis.next_steps(claim(invalid()), found)[0]


def test_text_that_a_model_does_not_know_is_said(recwarn):
    from locus.models.planted.named import planted_named
    from locus.plan.preconditions import ForeignText, warn_of_foreign

    planted = planted_named("planted:localized:0")
    warn_of_foreign("planted:localized:0", planted.tokenizer, planted.dataset.items)
    assert not recwarn.list, "its own questions are no foreign text"
    with pytest.warns(ForeignText, match=r"100 % of the words .* unknown to the tokenizer of planted:localized:0"):
        warn_of_foreign("planted:localized:0", planted.tokenizer, QUESTIONS)
