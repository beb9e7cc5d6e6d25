"""Graded planted models: what each place can reach, by hand; and the calibration over the share that the claimed head carries."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import locus
from locus.calibrate import grades
from locus.calibrate.graded import draw_graded
from locus.cli.app import app
from locus.errors import UserError
from locus.models.planted import GRADED, build, certify
from locus.models.planted.bank import Edits, Runner, Training, margins_after, masks, optimal_margins, unedited
from locus.models.planted.certificate import ROUNDING, answer_laws, parts_of, questions_of
from locus.models.planted.directions import laws
from locus.models.planted.graded import LEAK, percent_of
from locus.models.planted.named import load_named, planted_named
from locus.plan.config import resolve
from locus.records.calibration import GradedDraw, GradedSettings
from locus.report.terminal.results import _truth

GRADED_STUDY = Path(__file__).parents[1] / "studies" / "graded"
SMALL = {"width": 32, "layers": 2, "heads": 16, "n_questions": 80}  # 31 other heads: six of each m, and one more that serves two


@pytest.fixture(scope="module")
def forty():
    return build("graded-40", 1, **SMALL)


def everywhere(planted):
    return [(layer, head) for layer in range(planted.model.config.num_hidden_layers) for head in range(16)]


# --- the construction


def test_what_every_place_can_reach(forty):
    # s = .4; the rest, .6, in 8 parts of .075. Others serve m = 0 to 4 of these, six heads each, and the last one serves 2.
    plan, (site,) = forty.plan, forty.truth
    others = [place for place in everywhere(forty) if place != site]
    reached = sorted(round(plan.reach([place]), 6) for place in others)
    assert reached == sorted([0.0, 0.075, 0.15, 0.225, 0.3] * 6 + [0.15])
    assert plan.reach([site]) == pytest.approx(0.4)
    assert plan.reach(others) == pytest.approx(0.6)
    assert plan.reach(everywhere(forty)) == pytest.approx(1.0)
    # Two heads reach the union of what they serve, not the sum: the first head's parts once.
    assert plan.reach([site, others[0]]) == pytest.approx(0.4 + plan.reach([others[0]]))
    assert plan.reach([others[1], others[1]]) == plan.reach([others[1]])


@pytest.mark.parametrize(
    ("percent", "works", "special", "unique", "necessary"),
    [
        # Lead s - (1 - s) / 4 against .25; shares of others that reach s - .25; what the rest loses is s.
        (0, False, False, False, False),  # lead -.25
        (20, False, False, False, False),  # lead 0: an average place
        (30, False, False, False, True),  # lead .125; others reach up to .35
        (40, False, False, False, True),  # lead .25, on the bound; others reach .3, three of five reach .15
        (41, False, True, False, True),  # lead .2625
        (50, False, True, False, True),  # one of five reaches .25, which is s - .25
        (60, False, True, True, True),  # none reaches .35
        (75, False, True, True, True),  # 1 - s = .25, on the bound
        (76, True, True, True, True),
        (100, True, True, True, True),
    ],
)
def test_answers_by_hand(percent, works, special, unique, necessary):
    claims = build(f"graded-{percent:02d}", 0, **{**SMALL, "n_questions": 10}).claims
    right = {"works": works, "special": special, "unique": unique, "necessary": necessary}
    assert claims["planted"].expected == {name: "supported" if true else "refuted" for name, true in right.items()}
    # Any other head reaches (1 - s) / 2 at most, and leads by (1 - s) / 4 at most.
    assert {claims["other"].expected[name] for name in ("works", "special")} == {"refuted"}


@pytest.mark.parametrize("size", [SMALL, GRADED])
def test_the_weights_keep_the_laws(size):
    planted = build("graded-60", 2, **{**size, "n_questions": 20})
    assert max(laws(planted.model, planted.directions, planted.plan).values()) <= ROUNDING
    assert max(answer_laws(planted, questions_of(planted)).values()) <= 3 * ROUNDING


def test_parts_are_of_whole_questions_and_the_unedited_model_prefers_every_false_answer(forty):
    questions = questions_of(forty)
    # 80 questions: 32 of part 0, and 48 in 8 parts of 6.
    assert np.bincount(parts_of(forty, questions)).tolist() == [32] + [6] * 8
    margins = unedited(forty.model, questions)
    assert float(margins.max()) < 0
    assert float(margins.mean()) == pytest.approx(LEAK, abs=0.005)
    none = build("graded-00", 0, **SMALL)
    assert set(parts_of(none, questions_of(none))) == set(range(1, 9)), "no question is the claimed head's"


def test_no_edit_elsewhere_turns_a_question_of_the_claimed_head(forty):
    # Not a trained edit but any edit of all other heads, and the other way round, up to 100 times what heads put out.
    questions, (site,) = questions_of(forty), forty.truth
    mine = parts_of(forty, questions) == 0
    generator = torch.Generator().manual_seed(0)
    here = masks([(site,)], 2, 16, 4)
    for mask, untouched in ((1 - here, mine), (here, ~mine)):
        for scale in (0.1, 1.0, 10.0, 100.0):
            a, b = (torch.randn(mask.shape, generator=generator) for _ in "ab")
            margins = margins_after(Runner(forty.model), Edits(0, mask, a, scale * b * mask, "layer"), questions)[0, :, 0]
            assert float(margins[untouched].max()) < 1e-5
            assert scale < 10 or float(margins[~untouched].abs().max()) > 1, "it moves what it can"


def test_the_trained_edit_reaches_its_share_and_no_more(forty):
    questions, (site,) = questions_of(forty), forty.truth
    others = [role for role in forty.plan.roles if len(role.writes) == 4]
    places = [(site,), (others[0].place,)]
    margins = optimal_margins(forty.model, masks(places, 2, 16, 4), questions, questions, Training(steps=60))
    gains = (margins - unedited(forty.model, questions))[:, :, 0].numpy()
    parts = parts_of(forty, questions)
    for gain, served in zip(gains, [{0}, set(others[0].writes)], strict=True):
        mine = np.isin(parts, list(served))
        assert gain[mine].mean() == pytest.approx(5, abs=0.3)  # the target
        assert np.abs(gain[~mine]).max() < 3 * abs(LEAK)  # the norm alone
    assert gains[0].mean() == pytest.approx(0.4 * 5, abs=0.2)
    assert gains[1].mean() == pytest.approx(0.3 * 5, abs=0.2)


def test_a_graded_model_is_certified(forty):
    certificate = certify(build("graded-60", 0, **{**SMALL, "layers": 2, "heads": 16, "n_questions": 160}), Training(steps=60))
    assert certificate["failures"] == []
    broken = build("graded-60", 0, **SMALL)
    (layer, head) = broken.truth[0]
    with torch.no_grad():  # an accomplice that can write the claimed head's polarity
        weight = broken.model.model.layers[layer].self_attn.o_proj.weight
        weight[:, (head + 1) % 16 * 4] += torch.tensor(broken.directions["polarity0"]).float()
    assert any("should win" in sentence for sentence in certify(broken, Training(steps=60))["failures"])


def test_names():
    assert (percent_of("graded-05"), percent_of("graded-100"), percent_of("graded-5"), percent_of("graded-101")) == (
        5,
        100,
        None,
        None,
    )
    assert planted_named("planted:graded-40:3").plan.parts[0] == 0.4
    model = load_named("planted:graded-40:3")
    assert model.layout.n_layers * model.layout.n_heads == 128  # 99 random heads beside a claim
    assert _truth("planted:graded-40:3").startswith("Planted: 40 % of the work is done at ")
    with pytest.raises(UserError, match="graded-00 to graded-100"):
        planted_named("planted:graded-4:3")
    with pytest.raises(UserError, match="at least 24 heads"):
        build("graded-40", 0, width=32, layers=2, heads=8, n_questions=20)


# --- the calibration


@pytest.fixture(scope="module")
def ninety():
    return draw_graded(90, 0, resolve(search="newton", random=19), 15)


def test_a_draw_of_a_clear_case_gives_the_known_verdicts(ninety):
    planted, other = ninety.claims
    assert planted.standings == planted.expected == dict.fromkeys(("works", "special", "unique", "necessary"), "supported")
    assert other.standings == other.expected == dict.fromkeys(("works", "special", "unique", "necessary"), "refuted")
    # Lead: .9 less the mean of others, .1 / 4.
    assert (planted.reach, planted.lead, planted.rank_p) == (0.9, pytest.approx(0.875), 0.05)
    assert ninety.ceiling > 0.95
    assert set(ninety.unsettled) == {"claim", "random", "complement", "ceiling"}
    # The ceiling contains 21 single heads, and so do the two complements but for their own claim; one other may be drawn.
    assert 19 + 19 + 19 <= ninety.compared <= 21 + 20 + 20
    assert ninety.beaten == 0


def test_an_under_trained_audit_is_recognised():
    draw = draw_graded(40, 0, resolve(search="newton", random=19), 1)
    assert draw.ceiling < 0.95
    assert draw.unsettled["claim"] == 1.0
    assert draw.claims[0].standings["works"] == "invalid"
    assert "supported" not in draw.claims[0].standings.values()


def test_by_epochs_too():
    draw = draw_graded(90, 0, resolve(search="adamw", random=3, alpha=0.25), 40)  # the best of four: p = .25
    assert [claim.standings["special"] for claim in draw.claims] == ["supported", "refuted"]


def test_a_calibration_goes_on_and_takes_more_shares(tmp_path, monkeypatch):
    config = resolve(search="newton", random=3, alpha=0.25)
    first = grades.grade(tmp_path, 1, (0.9,), config, 1, workers=1)
    lines = (tmp_path / "draws.jsonl").read_text()
    (tmp_path / "draws.jsonl").write_text(lines + '{"percent": 4')  # killed while writing
    second = grades.grade(tmp_path, 1, (0.4, 0.9), config, 1, workers=1)
    assert (first.draws, second.draws) == (1, 2)
    kept = (tmp_path / "draws.jsonl").read_text().splitlines()
    assert kept[0] == lines.strip()
    assert [(one["percent"], one["seed"]) for one in map(json.loads, kept)] == [(90, 0), (40, 0)]
    assert json.loads((tmp_path / "graded.json").read_text())["draws"] == 2
    assert "| 0.4 | 1 |" in (tmp_path / "graded.md").read_text()
    monkeypatch.setattr(grades, "_work", lambda *_: pytest.fail("nothing is drawn twice"))
    assert grades.grade(tmp_path, 1, (0.4,), config, 1, workers=1) == second
    with pytest.raises(UserError, match="Give another --out"):
        grades.grade(tmp_path, 1, (0.9,), config, 2, workers=1)


def drawn(percent, seed, special, ceiling=0.99, unsettled=0.0):
    standing = dict.fromkeys(("works", "unique", "necessary"), "refuted") | {"special": special}
    right = dict.fromkeys(standing, "refuted")
    claim = {"name": "planted", "random": 19, "reach": percent / 100, "lead": 0.0, "expected": right, "standings": standing}
    claim |= {"sequential": standing, "rank_p": 0.05}
    parts = dict.fromkeys(("claim", "random", "complement"), 0.0) | {"ceiling": unsettled}
    fields = {"percent": percent, "seed": seed, "claims": [claim], "ceiling": ceiling, "unsettled": parts}
    return GradedDraw.parse({**fields, "compared": 10, "beaten": seed, "seconds": 1.0})


def test_the_tally_by_hand():
    setting = GradedSettings(
        rule="rule/4", alpha=0.05, margin=0.25, random=19, metric="mc2", search="newton", steps=15, near=0.95
    )
    draws = [
        drawn(20, 0, "supported"),
        drawn(20, 1, "refuted", 0.5, 1.0),
        drawn(20, 2, "invalid", 0.5),
        drawn(30, 0, "undecided"),
    ]
    tallied = grades.tally(draws, setting)
    cells = {(cell.percent, cell.question): cell for cell in tallied.cells}
    special = cells[20, "special"]
    assert (special.n, special.false.count, special.missed.count, special.all.invalid) == (3, 1, 0, 1)
    # Clopper-Pearson of 0 of 1 at 95 %: upper bound 1 - .025.
    assert cells[30, "special"].false.high == pytest.approx(0.975)
    twenty, thirty = tallied.searches
    assert (twenty.short, twenty.recognised.count, twenty.compared, twenty.beaten) == (2, 1, 30, 3)
    assert thirty.recognised is None
    text = grades.table(tallied)
    assert "| 0.2 | 3 | 2 | 50.0 [" in text
    # Special was said once in four audits in which it is false.
    assert "| 19 | planted | special | 25.0 [0.6, 80.6] of 4 | - |" in text


def test_what_cannot_be_graded_is_refused(tmp_path):
    out = tmp_path / "X"
    for more, named in (
        ({"shares": "0,1.1"}, "--shares"),
        ({"shares": "0.123"}, "--shares"),
        ({"shares": "some"}, "--shares"),
        ({"shares": []}, "--shares"),
        ({"shares": "0.4", "kinds": "decoy"}, "--kinds or --shares"),
        ({"shares": "0.4", "steps": 0}, "--steps"),
        ({"shares": "0.4", "random": 127}, "--random"),
        ({"steps": 3}, "--shares"),
    ):
        with pytest.raises(UserError, match=named):
            locus.calibrate(out, progress=False, **more)
    refused = CliRunner().invoke(app, ["calibrate", "--out", str(out), "--shares", "0.4", "--draws", "0"]).exception
    assert isinstance(refused, UserError) and "--draws" in str(refused)
    assert not out.exists()


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in GRADED_STUDY.glob("*/settings.json")), ids=lambda path: path.name
)
def test_the_committed_tables_follow_from_their_draws(folder):
    lines = (folder / "draws.jsonl").read_text().splitlines()
    draws = [GradedDraw.parse(json.loads(line)) for line in lines]
    assert [json.dumps(draw.to_json()) for draw in draws] == lines
    assert len({draw.key for draw in draws}) == len(draws)
    tallied = grades.tally(draws, GradedSettings.parse(json.loads((folder / "settings.json").read_text())))
    assert json.dumps(tallied.to_json(), indent=1) + "\n" == (folder / "graded.json").read_text()
    assert grades.table(tallied) == (folder / "graded.md").read_text()
    # No place of an audit ended above one that lies inside it.
    assert sum(draw.beaten for draw in draws) == 0
