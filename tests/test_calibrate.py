"""Calibration: the audit's own rule on models whose truth is known, counted, and never lost."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from locus.calibrate import draws
from locus.calibrate import table as calibrate
from locus.calibrate.power import power
from locus.cli.app import app
from locus.errors import UserError
from locus.models.planted.kinds import COMPACT
from locus.models.planted.named import planted_named
from locus.plan.config import AuditConfig
from locus.records.calibration import Calibration, CalibrationRow, CalibrationSettings, Draw
from locus.sites.kind import default, kinds
from studies.sited import table as kinds_table


@pytest.fixture(scope="module")
def localized():
    return draws.draw_audits("localized", 3, False, AuditConfig())


def test_a_draw_gives_the_known_verdicts(localized):
    seen = {(claim.name, claim.metric): claim for claim in localized.claims}
    assert set(seen) == {(name, metric) for name in ("planted", "elsewhere") for metric in ("mc2", "margin")}
    for claim in seen.values():
        assert claim.standings == claim.sequential == claim.expected
    assert seen["planted", "mc2"].drawn == 19, "support needs every place"
    assert localized.named == dict.fromkeys(("probe", "mass mean", "ablation", "patching"), True)


def test_stopping_early_saves_most_of_a_distributed_audit():
    (first, *_) = draws.draw_audits("distributed", 0, False, AuditConfig()).claims
    assert first.sequential["special"] == "refuted"
    assert first.drawn < 19 / 2


def test_the_planted_edits_score_as_the_ordinary_measures_do():
    from locus.behaviours.prompts import prompt_format
    from locus.engine.activations import base_pass
    from locus.engine.trie import build_trie
    from locus.metrics.choice import measures
    from locus.models.planted.bank import unedited
    from locus.models.planted.certificate import questions_of
    from locus.models.planted.named import load_named

    planted = planted_named("planted:conjunctive:2")
    model = load_named("planted:conjunctive:2")
    items = planted.dataset.items[:20]
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "bare"), items)
    base = base_pass(model, trie, layers=[], features=None)
    ordinary = measures(items, trie, base.logprobs, base.logprobs)["mc2"]
    ours = draws.truth_share(unedited(planted.model, questions_of(planted)).double().numpy()[:20])
    np.testing.assert_allclose(ours, ordinary, atol=1e-5)


def test_a_calibration_resumes_and_counts_each_draw_once(tmp_path):
    config = AuditConfig()
    first = calibrate.calibrate(tmp_path, 1, ("localized",), config, workers=1)
    lines = (tmp_path / "draws.jsonl").read_text()
    (tmp_path / "draws.jsonl").write_text(lines + '{"kind": "loc')  # killed while writing
    second = calibrate.calibrate(tmp_path, 2, ("localized",), config, workers=1)
    assert (first.draws, second.draws) == (1, 2)
    kept = (tmp_path / "draws.jsonl").read_text().splitlines()
    assert kept[0] == lines.strip() and len(kept) == 2 and json.loads(kept[1])["seed"] == 1
    assert "| localized | planted | layer |" in (tmp_path / "calibration.md").read_text()
    with pytest.raises(UserError, match="Give another --out"):
        calibrate.calibrate(tmp_path, 2, ("localized",), AuditConfig(tolerance=0.5), workers=1)
    with pytest.raises(UserError, match="Mend --kinds"):
        calibrate.calibrate(tmp_path, 1, ("imaginary",))


def test_the_tally_by_hand():
    def one(seed, special, rank):
        standing = dict.fromkeys(("works", "unique", "necessary"), "supported") | {"special": special}
        early = standing | {"special": "undecided"}
        claim = {"name": "planted", "read": "layer", "metric": "mc2", "expected": {"special": "refuted"}, "standings": standing}
        claim |= {"sequential": early, "rank_p": rank, "drawn": 5, "planned": 20}
        named = {"probe": seed == 0}
        return Draw.parse({"kind": "distributed", "seed": seed, "shuffled": False, "claims": [claim], "named": named})

    seen = [one(0, "supported", 0.05), one(1, "refuted", 0.5), one(2, "undecided", 0.2), one(3, "refuted", 1.0)]
    tallied = calibrate.tally(seen, CalibrationSettings(alpha=0.05, margin=0.25, random=20))
    (row,) = [row for row in tallied.rows if row.question == "special"]
    assert (row.all.wrong.share, row.all.right.share) == (0.25, 0.5)
    assert (row.sequential.wrong.share, row.sequential.undecided) == (0.0, 4)
    # Clopper-Pearson of 0 of 4 at 95 %: upper bound 1 - 0.025^(1/4) = 0.602.
    assert row.sequential.wrong.high == pytest.approx(1 - 0.025**0.25)
    assert tallied.saved == {"distributed planted": 0.75}
    assert tallied.rank_p == {"distributed planted": (0.05, 0.5, 0.2, 1.0)}
    assert tallied.named["distributed"]["probe"].share == 0.25


def test_only_support_counts_against_places_that_are_not_special():
    def row(kind, claim, **counts):
        full = dict.fromkeys(("supported", "refuted", "undecided", "invalid"), 0) | counts
        about = {"kind": kind, "claim": claim, "read": "layer", "metric": "mc2", "question": "special"}
        about["expected"] = "supported" if claim == "planted" else "refuted"
        return CalibrationRow.parse({**about, "n": sum(full.values()), "all": full, "sequential": full})

    rows = [
        row("decoy", "decoy", supported=1, refuted=7),
        row("borrowed", "decoy", supported=0, refuted=3, undecided=2),
        row("decoy", "elsewhere", refuted=10, invalid=1),
        row("decoy", "planted", supported=8),
        row("localized", "planted", supported=5, refuted=1),
    ]
    shares = dict(calibrate.aims(rows))
    counts = {label: (share.count, share.n) for label, share in shares.items()}
    # A rate is given for what was drawn only; claims that share a model are not pooled.
    assert counts == {
        "special said of a decoy (decoy, borrowed)": (1, 13),
        "special said of an idle head (claim elsewhere)": (0, 11),
        "special denied of the planted place (localized)": (1, 6),
        "special found at the planted place (localized)": (5, 6),
    }


def test_no_aim_counts_a_model_twice():
    from locus.models.planted import build

    for kind in ("decoy", "borrowed", "redundant"):
        names = set(build(kind, 0, **COMPACT).claims)
        for aim in calibrate.AIMS:
            assert kind not in aim.kinds or len(names & set(aim.claims)) <= 1


def test_power_refuses_what_cannot_be_reached_and_names_what_can():
    with pytest.raises(UserError, match="at least 19 random Locations"):
        power(16, 100)
    with pytest.raises(UserError, match="at least 39 random Locations"):
        power(19, 100, n_claims=2)


def test_power_grows_with_effect_and_with_places():
    sizes = power(19, 100, effect=3.0)
    for curve in sizes["curve"].values():
        assert all(low <= high + 1e-12 for low, high in itertools.pairwise(curve))
    assert sizes["special"]["power"] < power(39, 100, effect=3.0)["special"]["power"]
    # The smallest effect is where the power is the wanted one.
    again = power(19, 100, effect=sizes["special"]["smallest_effect"])
    assert again["special"]["power"] == pytest.approx(0.8, abs=1e-4)


def test_four_seeds_halve_the_noise():
    four, half = power(19, 100, noise=0.8, seeds=4), power(19, 100, noise=0.4)
    assert four["special"] == half["special"] and four["special"]["power"] > power(19, 100, noise=0.8)["special"]["power"]
    with pytest.raises(UserError, match="--seeds"):
        power(19, 100, seeds=0)


def test_the_power_command_prints_and_writes(tmp_path):
    result = CliRunner().invoke(app, ["power", "--random", "19", "--out", str(tmp_path / "power.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "power.json").read_text())["least_p"] == 0.05


STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("name", ["calibration", *(f"sited/{path.name}" for path in sorted((STUDIES / "sited").glob("*/")))])
def test_the_committed_calibration_follows_from_its_draws(name):
    folder = STUDIES / name
    with gzip.open(folder / "draws.jsonl.gz", "rt", encoding="utf-8") as file:
        seen = [Draw.parse(json.loads(line)) for line in file]
    tallied = calibrate.tally(seen, CalibrationSettings.parse(json.loads((folder / "settings.json").read_text())))
    assert json.dumps(tallied.to_json(), indent=1) + "\n" == (folder / "calibration.json").read_text()
    assert calibrate.table(tallied) == (folder / "calibration.md").read_text()
    if name == "calibration":
        page = (STUDIES.parent / "docs" / "verdicts.md").read_text()
        assert " ".join(calibrate.table(tallied).split()) in " ".join(page.split()), "the page quotes the study, wrapped"


def test_what_is_calibrated_was_measured_on_enough_audits_and_keeps_to_the_aims():
    """False *special* at most 5 %, its upper limit at most 8 %; found in at least 95 % where the case is clear."""
    for kind in (one.name for one in kinds() if one.calibrated and one != default()):
        found = Calibration.parse(json.loads((STUDIES / "sited" / kind / "calibration.json").read_text()))
        counts = {label: count for metric in ("mc2", "margin") for label, count in calibrate.aims(found.rows, metric)}
        assert found.draws >= 400, kind
        for label, count in counts.items():
            if "special said" in label:
                assert count.share <= 0.05 and count.high <= 0.08, (kind, label)
            if "special found" in label or "works found" in label:
                assert count.share >= 0.95, (kind, label)


def test_the_page_has_the_table_of_all_kinds():
    page = (STUDIES.parent / "docs" / "verdicts.md").read_text(encoding="utf-8")
    assert f"{kinds_table.BEGIN}\n{kinds_table.table()}{kinds_table.END}" in page, "python -m studies.sited.table"
