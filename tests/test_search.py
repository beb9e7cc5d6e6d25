"""Audits whose optimal edits are searched for to their end: stages, nestedness, exact resuming, and what a verdict says of it."""

import json
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch

import locus
from locus import behaviours
from locus.conclude import nested
from locus.conclude.derive import derive, gain, recorded
from locus.conclude.rule import conclude
from locus.conclude.scores import ceiling_of
from locus.conclude.tests import Scores
from locus.edits.base import load_edit
from locus.engine.cost import Sizes
from locus.errors import PreconditionsError, UserError, VerificationError
from locus.models.load import load
from locus.plan.config import resolve
from locus.plan.forecast import Forecast
from locus.plan.preconditions import early
from locus.plan.reading import read_plan
from locus.records.store import Store
from locus.report.consent import Given
from locus.report.rerun import rerun
from locus.report.verify import verify
from tests import wide
from tests.test_exact_resume import audited, content, cut_back

NEWTON = {"search": "newton", "rounds": 6, "bank": 3, "lengths": (2,)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return wide.settings(tmp_path_factory.mktemp("searched"), full_forms=("heads", "free"), **NEWTON)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "RUN"
    audited(settings, out, 2, page=True)
    return out


def plan_of(out):
    return json.loads((out / "plan.json").read_text())


def test_ceiling_and_complement_come_after_what_they_start_from(whole):
    plan = plan_of(whole)
    trials = {trial["id"]: trial for trial in plan["trials"]}
    starting = {trial["arm"]: [trials[one] for one in trial["starts"]] for trial in plan["trials"] if "starts" in trial}
    assert set(starting) == {"ceiling:heads", "ceiling:free", "complement"}
    assert {one["role"] for one in starting["ceiling:heads"]} == {"claim", "random"}
    claimed = set(plan["claims"][0]["heads"])
    for one in starting["complement"]:
        assert one["role"] == "random" and not claimed & set(one["location"])
    order = [identity for bank in plan["banks"] for identity in bank]
    for trial in plan["trials"]:
        for start in trial.get("starts", ()):
            assert order.index(start) < order.index(trial["id"])
        assert set(trial.get("starts", ())).isdisjoint(*[b for b in plan["banks"] if trial["id"] in b])


def test_no_place_ends_above_one_inside_it(whole):
    found = json.loads((whole / "verdict.json").read_text())["nested"]
    assert found["compared"] > 5 and found["violated"] == 0 and found["beaten"] == {}
    with recorded(whole) as record:
        losses = {(arm.role, arm.name): arm.trials[0].fit for arm in record.arms if arm.trials[0].fit.loss is not None}
    ceiling = losses["ceiling", "ceiling:heads"]
    (tau,) = plan_of(whole)["taus"]
    assert ceiling.start == pytest.approx((1 / (2 * tau)) ** 2)
    assert all(ceiling.loss <= fit.loss + 0.01 * 25 for (role, _), fit in losses.items() if role in ("claim", "random"))


@pytest.mark.parametrize("threads", [2])
def test_wherever_it_was_cut_it_goes_on_to_the_same_bits(settings, whole, tmp_path, threads):
    for upto in range(1, len(plan_of(whole)["banks"])):
        out = cut_back(whole, tmp_path / f"RUN-{upto}", upto)
        audited(settings, out, threads)
        assert content(out) == content(whole), upto


def test_what_it_takes_is_foretold_at_most(settings, whole):
    """The base model's linearisation exactly; rounds as many as there may be, the more so where two ways lead to an edit."""
    model = load(settings["model"])
    told = Forecast(read_plan(whole), behaviours.load(settings["data"]), model).trials()
    store = Store(whole / "trials.sqlite")
    counts, roles = store.costs(), {row.id: row.role for row in store.trials()}
    store.close()
    sizes = Sizes.of(model)
    for trial, works in counts.items():
        for kind, work in works.items():
            most = told[trial][kind].counts(sizes)
            if kind in ("train", "gradient"):
                assert work["macs"] <= most["macs"] * (1 + 1e-9), (roles[trial], kind)
            elif kind != "read":
                assert most == pytest.approx(work), (roles[trial], kind)
    assert [roles[trial] for trial, works in counts.items() if "linearise" in works] == ["base"]


def test_it_verifies_and_its_trials_can_be_repeated(settings, whole, tmp_path):
    assert verify(whole).kind == "run"
    given = Given(model=settings["model"], data=settings["data"])
    found = rerun(whole, 100, seed=0, given=given)
    assert found["repeated"] == len(plan_of(whole)["trials"]) and max(found["largest"].values()) == 0
    lacking = tmp_path / "RUN"
    shutil.copytree(whole, lacking)
    for trial in plan_of(whole)["trials"]:
        if trial["role"] == "claim":
            (lacking / "edits" / f"{trial['id']}.safetensors").unlink()
    with pytest.raises(VerificationError, match="from which it starts, is not there"):
        rerun(lacking, 100, seed=0, given=given)


def test_a_place_that_one_inside_it_beats_makes_no_ceiling(whole, tmp_path):
    """As if the ceiling's search had ended early: what leans on it is not answered, what does not is."""
    out = tmp_path / "RUN"
    shutil.copytree(whole, out)
    with recorded(out) as record:
        before = derive(record)
    with sqlite3.connect(out / "trials.sqlite") as db:
        for identity, fit in db.execute("SELECT id, fit FROM trials WHERE role = 'ceiling'").fetchall():
            db.execute("UPDATE trials SET fit = ? WHERE id = ?", (json.dumps({**json.loads(fit), "loss": 255.0}), identity))
    db.close()
    with recorded(out) as record:
        found = derive(record)
        arms = {name: nested.beaten_in_training(record, record.find(name)[0]) for name in ("ceiling", "complement")}
    assert before.nested.violated == 0
    assert found.nested.violated == 2 and set(found.nested.beaten) == {"ceiling:heads", "ceiling:free"}
    assert "the optimum was not reached at ceiling:heads" in arms["ceiling"] and "--set rounds=12" in arms["ceiling"]
    assert arms["complement"] == ""


def test_two_claims_complements_are_told_apart(tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "RUN"
    audited(wide.settings(out.parent, claims=("0.1", "2.3"), random=9, alpha=0.25, **{**NEWTON, "lengths": ()}), out, 2)
    with sqlite3.connect(out / "trials.sqlite") as db:
        rows = db.execute("SELECT id, claim, fit FROM trials WHERE role = 'complement'").fetchall()
        identity, claim, fit = rows[0]
        db.execute("UPDATE trials SET fit = ? WHERE id = ?", (json.dumps({**json.loads(fit), "loss": 255.0}), identity))
    db.close()
    assert len(rows) == 2
    with recorded(out) as record:
        assert set(derive(record).nested.beaten) == {f"complement of {claim}, read layer"}
        for arm in record.find("complement"):
            assert bool(nested.beaten_in_training(record, arm)) == (arm.claim == claim)


SMOOTH = np.random.default_rng(0).normal(0, 0.02, size=(4, 60))


def scores(claim=0.6, ceiling=0.6, complement=0.2, random=0.25, **more) -> Scores:
    """Scores of sixty questions over a base of .2, with small noise."""
    values = {"claim": claim, "ceiling": ceiling, "complement": complement}
    parts = {name: (value + SMOOTH[number])[None] for number, (name, value) in enumerate(values.items())}
    places = np.array([[random + np.roll(SMOOTH[3], number)] for number in range(19)])
    return Scores(base=np.full(60, 0.2), random=places, groups=[str(one) for one in range(60)], **parts, **more)


def config(**more):
    return resolve("quick", search="newton", sequential=False, metric="mc2", **more)


def test_what_leans_on_a_beaten_ceiling_is_not_answered():
    sound = conclude([scores()], config()).findings[0]
    assert [sound.finding(name).standing for name in ("works", "special", "necessary")] == ["supported"] * 3
    one = conclude([scores(beaten={"ceiling": "the optimum was not reached at X"})], config()).findings[0]
    assert one.works.standing == one.necessary.standing == "invalid" and one.special.standing == "supported"
    assert one.works.sentence.startswith("Cannot be answered: the optimum was not reached at X")
    other = conclude([scores(beaten={"complement": "the optimum was not reached at X"})], config()).findings[0]
    assert other.works.standing == "supported" and other.necessary.standing == "invalid"


def test_a_ceiling_that_is_beaten_on_test_questions_has_overfitted():
    """A lead of .2 over a gain of .4 is more than the margin of a quarter; .05 is less, and equal for our purposes."""
    one = conclude([scores(claim=0.8)], config()).findings[0]
    assert one.works.standing == one.necessary.standing == "invalid" and one.special.standing == "supported"
    assert "the ceiling has overfitted" in one.works.sentence and "the claim is +20.0 points ahead" in one.works.sentence
    assert conclude([scores(claim=0.65)], config()).findings[0].works.standing == "supported"
    randoms = conclude([scores(claim=0.6, random=0.8)], config()).findings[0]
    assert "the mean of random Locations" in randoms.works.sentence and randoms.special.standing == "refuted"
    by_epochs = conclude([scores(claim=0.8)], resolve("quick", epochs=1, sequential=False)).findings[0]
    assert by_epochs.works.standing == "supported", "the rule of audits by epochs is as it was"


def test_nothing_that_a_search_cannot_do_is_asked_of_it():
    with pytest.raises(PreconditionsError) as wrong:
        early(resolve("quick", search="newton", objective="logit", seeds=2))
    assert "an objective that has an optimum" in str(wrong.value) and "one training seed" in str(wrong.value)


@pytest.mark.parametrize("further", [0, 1])
def test_a_budget_in_which_no_search_can_settle_is_refused(further):
    """A search has settled when its last three steps brought nothing: not within two."""
    with pytest.raises(UserError, match=r"3 rounds or more.*rounds = [12]"):
        early(resolve("quick", rounds=2 - further, lengths=(), further=further))
    early(resolve("quick", rounds=3, lengths=()))


def test_a_shorter_search_is_the_first_part_of_the_whole_one(settings, whole, tmp_path):
    """What was looked at on the way is what an audit of so few rounds finds."""
    audited({**settings, "rounds": 2, "lengths": (), "further": 1}, tmp_path / "RUN", 2, page=False)
    alone = {trial["arm"]: trial for trial in plan_of(tmp_path / "RUN")["trials"] if trial["role"] in ("claim", "random")}
    shorter = {t["arm"]: t for t in plan_of(whole)["trials"] if t["recipe"] and t["recipe"]["rounds"] == 2 and t["arm"] in alone}
    assert shorter.keys() == alone.keys() and len(alone) == 5
    for arm, trial in alone.items():
        first, second = (
            load_edit(out / "edits" / f"{one['id']}.safetensors")
            for out, one in ((tmp_path / "RUN", trial), (whole, shorter[arm]))
        )
        for layer, terms in first.layers.items():
            for name, values in vars(terms).items():
                if values is not None:
                    assert torch.allclose(values, getattr(second.layers[layer], name), atol=1e-5), (arm, layer, name)
    verdict = json.loads((whole / "verdict.json").read_text())
    points = verdict["curve"]
    assert [point["rounds"] for point in points] == [2, 6] and points[0]["share"]["claim"] < points[1]["share"]["claim"] == 1
    assert points[1]["claims"][0]["special"] != points[0]["claims"][0]["special"]
    stopped = [place.get("stopped") for part in ("claimed", "random", "ceiling", "complement") for place in verdict[part]]
    assert set(stopped) <= {None, 2} and len(stopped) == 8


def test_a_second_search_says_what_the_first_one_left(settings, whole, tmp_path):
    """The same edits as without it, to the bit; what it gains is what a search of so many more rounds finds, at least half."""
    audited({**settings, "rounds": 2, "lengths": (), "further": 4}, tmp_path / "RUN", 2, page=True)
    audited({**settings, "rounds": 2, "lengths": (), "further": 1}, tmp_path / "ONCE", 2, page=False)
    plan, once = plan_of(tmp_path / "RUN"), plan_of(tmp_path / "ONCE")
    twice = {trial["arm"] for trial in plan["trials"] if trial.get("further")}
    assert twice == {"given", "random-00", "random-01", "random-02", "ceiling:heads", "ceiling:free"}
    alike = {trial["arm"]: trial["id"] for trial in once["trials"]}
    for trial in plan["trials"]:
        if trial["role"] in ("claim", "random", "ceiling"):
            edits = [
                out / "edits" / f"{one}.safetensors"
                for out, one in ((tmp_path / "RUN", trial["id"]), (tmp_path / "ONCE", alike[trial["arm"]]))
            ]
            first, second = map(load_edit, edits)
            for layer, terms in first.layers.items():
                for name, values in vars(terms).items():
                    assert values is None or torch.equal(values, getattr(second.layers[layer], name))
    verdict = json.loads((tmp_path / "RUN" / "verdict.json").read_text())
    gained = verdict["second"]["gained"]
    assert gained.keys() == {"given of given, read layer", "ceiling:heads", "ceiling:free"} | {
        f"random-0{number} of given, read layer" for number in range(3)
    }
    with recorded(tmp_path / "RUN") as short, recorded(whole) as long:
        ends = {
            (arm.role, arm.name): max(arm.trials, key=lambda one: one.spec.recipe.rounds).fit
            for arm in long.arms
            if arm.role in ("claim", "random")
        }
        for arm in short.arms:
            fit = arm.trials[0].fit
            if (arm.role, arm.name) in ends and fit.second is not None:
                assert fit.second <= fit.loss and fit.loss - fit.second > 0.5 * (fit.loss - ends[arm.role, arm.name].loss) > 0, (
                    arm.name
                )
    assert "A second search from the ends of 6 of them" in (tmp_path / "RUN" / "report.html").read_text()


def test_validation_questions_choose_how_far_and_the_ceiling_among_what_lies_inside(whole):
    with recorded(whole) as record:
        arms = {(arm.role, arm.name): arm for arm in record.arms}
        ceilings = [arm for arm in record.arms if arm.role == "ceiling"]
        inside = {one for arm in ceilings for trial in arm.trials for one in trial.spec.starts}
        known = [*ceilings, *(arm for arm in record.arms if inside & {trial.id for trial in arm.trials})]
        assert {arm.role for arm in known} == {"ceiling", "claim", "random"} and len(known) == 2 + 1 + 3

        def on_validation(trials):
            return np.mean([record.values(trial, record.selector, "validation") for trial in trials])

        best = max(known, key=lambda arm: on_validation(arm.chosen))
        assert ceiling_of(record) is best and gain(record).inner == (None if best.role == "ceiling" else best.name)
        for arm in (*known, arms["complement", "complement"]):
            assert {trial.spec.recipe.rounds for trial in arm.trials} == {2, 6}
            assert [trial.spec.recipe.rounds for trial in arm.ends] == [6]
            best = max(arm.trials, key=lambda trial: on_validation([trial.id]))  # the whole search where they are equal
            assert arm.chosen == [best.id] and arm.stopped == (None if best.spec.recipe.rounds == 6 else 2)


def test_audits_by_epochs_are_planned_as_before():
    """Neither setting is in the identity of a trial by epochs."""
    from locus.engine.train import TrainingRecipe
    from locus.plan.trials import Trial
    from locus.sites import Location

    trial = Trial("claim", "x", "x", Location.parse("0.1"), "rank1", "0" * 64, recipe=TrainingRecipe())
    assert {"search", "rounds"}.isdisjoint(trial.to_dict()["recipe"]) and "starts" not in trial.to_dict()
    searched = replace(trial, recipe=TrainingRecipe(search="newton", rounds=4))
    assert searched.id != trial.id and replace(searched, starts=("0" * 16,)).id != searched.id


def test_a_budget_curve_looks_at_what_is_shorter_than_the_search():
    run = locus.audit(
        "planted:localized:3", claim="1.1", search="newton", rounds=3, budget_curve=True, progress=False, sign=False
    )
    assert run.config.lengths == (1, 2) and [point.rounds for point in run.verdict.curve] == [1, 2, 3]
    assert run.verdict.special.standing == "supported"
