"""The schedule of banks, played through: by hand where nothing is left to chance, by its law where something is, and the verb."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import locus
from locus.cli.app import app
from locus.door import forecasting
from locus.door.forecasting import Load, Machine
from locus.engine.cost import Sizes, Work
from locus.errors import UserError
from locus.plan.shape import shape_of
from locus.run.executors import Tasks, executor
from locus.run.executors.base import AHEAD, TRIES
from locus.run.simulated import Fleet, play, played
from studies import forecast as study

SHAPES = Path(__file__).parents[1] / "docs" / "shapes"


def seconds(waves, count=1, alone=0.0, **fleet):
    (one,) = played(alone, waves, Fleet(count, **fleet))
    return one.seconds


def test_one_device_takes_the_sum_and_many_take_the_longest_of_each_wave():
    waves = [[3.0, 1.0, 2.0], [4.0]]
    assert seconds(waves, alone=5.0) == 5 + 6 + 4
    assert seconds(waves, 3, alone=5.0) == seconds(waves, 1000, alone=5.0) == 5 + 3 + 4
    assert seconds(waves, 2) == 3 + 4  # 3 beside 1 and 2, in the order of the plan
    assert seconds([[1.0, 1.0, 4.0]], 2) == 5 and seconds([[4.0, 1.0, 1.0]], 2) == 4  # the longest last, or first
    assert seconds([[], [2.0]]) == 2 and seconds([]) == 0


def test_workers_open_once_and_no_more_of_them_than_there_are_banks():
    assert seconds([[1.0], [1.0]], 9, opening=10.0) == 12  # the second wave finds the worker of the first
    assert seconds([[1.0], [1.0, 1.0, 1.0]], 2, opening=10.0) == 14  # another would open until 21
    assert seconds([[1.0], [30.0, 30.0]], 2, opening=10.0) == 51  # 11 + 10 + 30
    assert seconds([[8.0] * 3], 3, opening=10.0) == 18


def test_no_more_than_a_few_banks_a_worker_are_begun_ahead():
    """The first takes long: the other worker does what it may, AHEAD for each of the two, and then waits for it."""
    waves = [[100.0, *[1.0] * (3 * AHEAD)]]
    free = 2 * AHEAD  # places that may be begun while the first is not finished, itself included
    assert seconds(waves, 2) == 100 + math.ceil((3 * AHEAD + 1 - free) / 2)
    assert seconds([[100.0, *[1.0] * (free - 1)]], 2) == 100


def test_the_schedule_is_the_one_that_executors_keep():
    """Which jobs the serial executor does, and in which order, is what is played through with one device."""
    order = []
    jobs = [3.0, 1.0, 2.0]
    list(executor("serial").run(Tasks(jobs, lambda job, say: order.append(job), 1)))
    assert order == jobs and seconds([jobs]) == sum(order)


def test_spread_leaves_the_order_and_moves_what_it_should():
    """The mean of a log-normal factor is exp(s²/2); the longest of many grows with them."""
    many = [play(0.0, [[1.0] * 400], Fleet(1, spread=0.5), np.random.default_rng(draw)).seconds / 400 for draw in range(64)]
    assert np.mean(many) == pytest.approx(math.exp(0.125), rel=0.02)
    assert play(0.0, [[1.0] * 400], Fleet(400, spread=0.5), np.random.default_rng(0)).seconds > 3
    assert [one.seconds for one in played(0.0, [[1.0] * 9], Fleet(2, spread=0.1))] == [
        one.seconds for one in played(0.0, [[1.0] * 9], Fleet(2, spread=0.1))
    ]


def test_deaths_cost_what_was_begun_and_the_opening_and_the_second_of_a_bank_ends_the_run():
    """A worker lives through a bank of t hours at a rate r with probability exp(-rt), and a bank fails twice with the square."""
    bank, deaths = 3600.0, 0.2
    runs = [play(0.0, [[bank]], Fleet(1, opening=60.0, deaths=deaths), np.random.default_rng(draw)) for draw in range(2000)]
    dies = 1 - math.exp(-deaths)
    assert np.mean([one.ended for one in runs]) == pytest.approx(dies**TRIES, abs=0.015)
    assert np.mean([one.deaths > 0 for one in runs]) == pytest.approx(dies, abs=0.03)
    whole = [one for one in runs if not one.ended]
    assert all(one.seconds == bank + 60 for one in whole if not one.deaths)
    assert all(bank + 120 < one.seconds < 2 * bank + 120 and one.busy == bank for one in whole if one.deaths)


def test_a_bank_of_a_dead_worker_goes_first_to_whoever_is_free():
    runs = [
        play(0.0, [[10.0, 1.0, 1.0]], Fleet(2, opening=1000.0, deaths=90.0), np.random.default_rng(draw)) for draw in range(300)
    ]
    once = [one for one in runs if one.deaths == 1 and not one.ended]
    assert once and all(one.seconds < 1030 for one in once)  # by the other, not by the one that opens anew


def test_efficiency_bends_where_devices_outnumber_what_there_is_to_share():
    load = Load(10.0, ((5.0,) * 20,))
    points = {one.devices: one for one in forecasting.points_of([load], (1, 2, 4, 20, 40), Machine(1.0, spread=0.0))}
    assert points[1].efficiency == 1 and points[1].seconds == 110
    assert points[20].seconds == points[40].seconds == 15 and points[40].efficiency == pytest.approx(110 / (40 * 15))
    made = forecasting.Forecasted("x", 1, tuple(points.values()), 20, 3e9, Machine(1.0, memory=2e9, spread=0.0), ())
    assert made.bend.devices == 4 and points[4].efficiency == 110 / (4 * 35) and made.at(2).seconds == 60
    assert "used up to 4: 35 s." in repr(made) and "20 banks: more devices are of no use" in repr(made)
    assert "On a device: 3.0 GB; it does not fit into 2 GB." in repr(made)
    with pytest.raises(KeyError, match="no forecast for 3"):
        made.at(3)


def test_audits_of_a_sweep_are_dealt_whole():
    loads = [Load(1.0, ((float(number),),)) for number in (1, 2, 3, 4, 5)]
    points = {one.devices: one for one in forecasting.points_of(loads, (1, 2, 5, 9), Machine(1.0, spread=0.0))}
    assert points[1].seconds == 5 + 15 and points[2].seconds == 3 + 1 + 3 + 5  # the first, third and fifth
    assert points[5].seconds == points[9].seconds == 6
    opened = [Load(1.0, ((2.0,),), loading=7.0, opening=9.0)] * 4
    assert [one.seconds for one in forecasting.points_of(opened, (1, 2), Machine(1.0, spread=0.0))] == [7 + 12, 7 + 6]
    # One audit: by one process alone, or by workers, each of which opens the model after the first has read the questions.
    assert [one.seconds for one in forecasting.points_of(opened[:1], (1, 2), Machine(1.0, spread=0.0))] == [10, 8 + 9 + 2]


def test_devices_that_share_cores_take_turns_and_a_worker_beside_the_driver_opens_the_model():
    load = Load(1.0, ((3.0,) * 8,), opening=2.0)
    shared = Machine(1.0, spread=0.0, cores=2)
    assert [one.seconds for one in forecasting.points_of([load], (1, 2, 4), shared)] == [25, 1 + 2 + 12, 1 + 4 + 12]
    (one,) = forecasting.points_of([replace(load, apart=True)], (1,), shared)
    assert one.seconds == 1 + 2 + 24
    several = [Load(0.0, ((2.0,),))] * 4
    assert [one.seconds for one in forecasting.points_of(several, (1, 2, 4), shared)] == [8, 4, 4]
    told = {"rate": 1e9, "devices": (1, 2), "spread": 0.0, "loading": 5.0, "opening": 3.0, "progress": False}
    made = locus.forecast("planted:localized:3", claim="1.1", **told)
    ray = locus.forecast("planted:localized:3", claim="1.1", executor="ray", **told)
    assert ray.at(1).seconds == pytest.approx(made.at(1).seconds + 3) and ray.at(2).seconds == made.at(2).seconds
    assert made.at(1).seconds > 5


def test_a_shape_is_counted_as_the_model_itself(llama, tmp_path):
    """Of the tiny model, whose matrices can be counted, and of an 8-billion one, whose number of parameters is known."""
    llama.hf.config.save_pretrained(tmp_path)
    assert shape_of(tmp_path).sizes == Sizes.of(llama) and shape_of(tmp_path).d_model == llama.layout.d_model
    assert shape_of(SHAPES / "8b.json").parameters == pytest.approx(8.03e9, rel=0.001)
    assert shape_of(SHAPES / "70b.json").parameters == pytest.approx(70.55e9, rel=0.001)
    work = Work(tokens=10, layers=40, pairs=100, scored=3)
    taken = forecasting.seconds_of({"score": work}, Sizes(8, 100, 50, 30, 16, 1000), 2.0, 1.0, Machine(2.0))
    assert taken == {"score": (80 * 100 + 200 * 16 + 3 * 1000) / 2}
    spoken = forecasting.seconds_of({"speak": Work(scored=64)}, Sizes(1, 1, 1, 1, 1, 1), 1.0, 100.0, Machine(1e9, bandwidth=10.0))
    assert spoken == {"speak": 10.0}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    path = tmp_path_factory.mktemp("forecast") / "SWEEP.toml"
    settings = "[settings]\nepochs = 4\ntrain = 36\nrandom = 11\nalpha = 0.25\n"
    path.write_text(f'models = ["planted:localized:3"]\nclaims = ["1.1", "0.2"]\nseeds = [0, 1, 2, 3]\n{settings}')
    return path


def test_a_larger_machine_and_a_larger_model_take_what_they_should(tmp_path):
    asked = {"claim": "1.1", "devices": (1, 4), "spread": 0.0, "progress": False, "epochs": 4, "train": 36}
    slow, fast = (locus.forecast("planted:localized:3", rate=rate, **asked) for rate in (1e9, 2e9))
    assert slow.at(1).seconds == pytest.approx(2 * fast.at(1).seconds)
    plan = locus.plan("planted:localized:3", claim="1.1", epochs=4, train=36, progress=False)
    assert slow.at(1).seconds == pytest.approx(plan.macs / 1e9)
    large = locus.forecast("planted:localized:3", rate=1e9, shape=SHAPES / "8b.json", memory=80, link=10, **asked)
    assert large.held > 16e9 and large.at(1).seconds > 1e3 * slow.at(1).seconds and "8.0 billion parameters" in large.what


def test_the_command_says_what_a_sweep_takes(sweep):
    made = locus.forecast(sweep=sweep, rate=1e9, devices=(1, 2, 4, 8), spread=0.0, progress=False)
    assert made.audits == 4 and made.at(4).seconds == made.at(8).seconds == made.at(1).seconds / 4
    done = CliRunner().invoke(app, ["forecast", "--sweep", str(sweep), "--rate", "1e9", "--devices", "1,4", "--spread", "0"])
    assert done.exit_code == 0, done.output
    assert "Forecast: 4 audits of" in done.stdout and "used up to 4" in done.stdout


def test_the_pages_tables_are_those_of_what_was_counted():
    made = study.table()
    assert f"{study.BEGIN}\n{made}\n{study.END}" in study.PAGE.read_text()
    large = {one["title"]: one for one in json.loads(study.LOADS.read_text())}
    assert large["70 billion parameters, a pair of H200 each"]["held"] > 141e9


WRONG = {
    "1 to 100,000 devices": {"devices": 0},
    "a rate above 0": {"rate": -1.0},
    "a link above 0": {"link": float("nan")},
    "cores above 0": {"cores": 0},
    "spread from 0 to 3": {"spread": 4.0},
    "failures from 0 to 3600": {"failures": -0.1},
    "no layers, heads": {"shape": "config.json"},
    "config.json": {"shape": "nowhere.json"},
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_machines_are_one_sentence(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match=said):
        locus.forecast("planted:localized:3", claim="1.1", progress=False, **WRONG[said])
    done = CliRunner().invoke(app, ["forecast", "--devices", "one"])
    assert isinstance(done.exception, UserError) and "whole numbers such as 1,8,64" in str(done.exception)
