"""Planted models of other sites: what does not know the bit is blind to it, whatever is done there; what does can be edited."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from locus.behaviours.items import problems
from locus.calibrate import table
from locus.calibrate.sited import draw_sited
from locus.errors import UserError
from locus.models.planted.bank import unedited
from locus.models.planted.certificate import questions_of
from locus.models.planted.direct import all_places, arbitrary, final_states_under, margins_under, optimal
from locus.models.planted.knowing import draw_bits, draw_names
from locus.models.planted.named import planted_named
from locus.models.planted.other_sites import build_sited, signs_of
from locus.models.planted.sited import SHAPES, SITED, sizes_of
from locus.patching.known import planted_pairs
from locus.plan.config import resolve
from locus.records.calibration import CalibrationSettings, Draw
from locus.sites.site import Location

KNOWING = [kind for kind in SITED if not kind.startswith(("neuron", "direction"))]
HIDDEN = [kind for kind in KNOWING if not kind.endswith("distributed")]
# Of the largest polarity that an edit makes: float32 rounds to 6e-8, and a forward of six layers to some 1e-6.
ROUNDED = 3e-5


@lru_cache(maxsize=64)
def drawn(kind, turned=()):
    small = {} if kind.startswith("neuron") else {"layers": 6}
    return build_sited(kind, 0, n_questions=24, turned=turned, **small)


def polarities_under(planted, numbers):
    """[K, n, polarities] coordinates of the final states."""
    with torch.no_grad():
        states = final_states_under(planted, numbers, questions_of(planted).ids)
    return states @ torch.tensor(planted.directions.polarities).float().T


def moved(kind, turned, places, scale):
    """How far turning bits moves the polarity under an arbitrary edit of some places, as a share of the largest polarity."""
    first, second = drawn(kind), drawn(kind, turned)
    numbers = arbitrary(first, [places], scale)
    here, there = polarities_under(first, numbers), polarities_under(second, numbers)
    return float((here - there).abs().max() / here.abs().max())


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_does_not_know_the_bits_is_blind_to_them(kind):
    planted = drawn(kind)
    rest = [place for place in all_places(planted) if place not in planted.truth]
    bits = tuple(range(planted.plan.n_polarities))
    for scale in (0.3, 30.0):
        assert moved(kind, bits, rest, scale) < ROUNDED
        assert moved(kind, bits, planted.truth, scale) > 1e-3


@pytest.mark.parametrize("site", ["attn", "mlp", "resid"])
def test_everywhere_but_at_the_later_of_two_is_blind_to_its_bit(site):
    kind = f"{site}-conjunctive"
    planted = drawn(kind)
    (half,) = planted.claims["half"].sites
    rest = [place for place in all_places(planted) if place != half]
    assert moved(kind, (1,), rest, 1.0) < ROUNDED
    assert moved(kind, (0,), rest, 1.0) > 1e-3, "the other bit is known there"


@pytest.mark.parametrize("kind", KNOWING)
def test_the_unedited_model_knows_and_does_not_say(kind):
    planted = drawn(kind)
    margins = unedited(planted.model, questions_of(planted))
    # The questions of a pair differ in the bit alone: where one leans to the wanted answer, the other leans from it as far.
    torch.testing.assert_close(margins[0::2], -margins[1::2], atol=1e-4, rtol=0)
    assert 0.02 < float(margins.std()) < 0.3, "margins of about .1 nats"
    assert not any(problems(item) for item in planted.dataset.items)
    groups = [item.group for item in planted.dataset.items]
    assert groups[0::2] == groups[1::2] and len(set(groups)) == 12


@pytest.mark.parametrize("shape", ["localized", "decoy", "redundant", "conjunctive"])
def test_no_edit_of_other_neurons_turns_the_sign(shape):
    planted = drawn(f"neuron-{shape}")
    questions = questions_of(planted)
    before = unedited(planted.model, questions)
    assert (before < 0).all()
    np.testing.assert_allclose(before.mean(dim=0).numpy(), -0.25, atol=1e-4)  # the push, 5 % of the target
    rest = [place for place in all_places(planted) if place not in planted.truth]
    for scale in (0.3, 3.0, 30.0):
        with torch.no_grad():
            assert (margins_under(planted, arbitrary(planted, [rest], scale), questions) < 1e-5).all()


def test_every_neuron_of_a_distributed_model_writes_the_polarity_and_no_other_of_a_localized_one():
    for shape, count in (("distributed", 48), ("localized", 1)):
        planted = drawn(f"neuron-{shape}")
        columns = torch.stack([layer.mlp.down_proj.weight.detach() for layer in planted.model.model.layers])
        along = torch.einsum("w,lwf->lf", torch.tensor(planted.directions["polarity0"]).float(), columns).abs()
        assert int((along > 0.5).sum()) == count and int((along < 1e-6).sum()) == 48 - count


@pytest.mark.parametrize("kind", ["attn-localized", "mlp-conjunctive", "resid-localized"])
def test_the_optimal_edit_by_plain_autograd(kind):
    planted = drawn(kind)
    train, new = questions_of(planted).part(tuple(range(16))), tuple(range(16, 24))
    rest = [place for place in all_places(planted) if place not in planted.truth]
    places = {"truth": list(planted.truth), "rest": rest, **({"half": [planted.truth[-1]]} if "conj" in kind else {})}
    numbers = optimal(planted, list(places.values()), train, steps=60, rate=0.1)

    def margins(turned=()):
        one = drawn(kind, turned)
        with torch.no_grad():
            return dict(zip(places, margins_under(one, numbers, questions_of(one).part(new)), strict=True))

    drawn_so, other_lot = margins(), margins(tuple(range(planted.plan.n_polarities)))
    assert (drawn_so["truth"] > 1).all(dim=1).float().mean() >= 0.9
    assert (other_lot["truth"] > 1).all(dim=1).float().mean() >= 0.9
    # Of four new pairs the lot alone may give some nats. With the bits drawn the other way round it takes as many, but for what
    # the norm betrays, 2 % of the target of 5.
    assert abs(float((drawn_so["rest"] + other_lot["rest"]).mean()) / 2) < 0.1
    if "half" in places:
        # Two bits (u, v): a pair of answers along u, which the half cannot move, and one along v, which it can.
        first_turned = margins((0,))["half"]
        assert abs(float((drawn_so["half"] + first_turned)[:, 0].mean()) / 2) < 0.1
        assert float(drawn_so["half"][:, 1].mean()) > 2


def test_bits_and_names():
    rng = np.random.default_rng(0)
    (bits,) = draw_bits(1, 24, rng)
    assert (bits[0::2] == -bits[1::2]).all() and bits[0::2].sum() == 0
    names = draw_names(60, rng)
    np.testing.assert_allclose(np.linalg.norm(names, axis=1), 1.0)
    cosines = names @ names.T - 2 * np.eye(60)
    assert cosines.max() < 0.97  # 60 points on a sphere have room for caps of 4 pi / 60, of radius 15 degrees: cos 15 = .966


def test_answers_to_two_bits_by_hand():
    # u = v = +1: (+, +) is wanted, (-, +) differs along the first polarity, (+, -) along the second.
    np.testing.assert_array_equal(signs_of(np.array([[1.0], [1.0]]), 3)[0], [[1, 1], [-1, 1], [1, -1]])
    # u = -1, v = +1: the second answer is wanted, and the third is (-, -).
    np.testing.assert_array_equal(signs_of(np.array([[-1.0], [1.0]]), 3)[0], [[1, 1], [-1, 1], [-1, -1]])
    np.testing.assert_array_equal(signs_of(np.array([[1.0]]), 2)[0], [[1], [-1]])


# --- names, sizes, claims


def test_a_planted_model_says_its_claim_in_the_notation_of_its_kind():
    for name, pattern in (("neuron", "n"), ("mlp", "mlp."), ("attn", "attn."), ("resid", "resid.")):
        planted = planted_named(f"planted:{name}-localized:3")
        assert str(planted.where).startswith(pattern)
        assert Location.parse(str(planted.where)) == planted.where == planted.located(planted.claims["planted"].sites)
        config, sizes = planted.model.config, sizes_of(f"planted:{name}-localized:3")
        assert sizes == {
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "inner width": config.intermediate_size,
        }
        assert len(all_places(planted)) >= 21


def test_same_seed_same_bits_and_a_twin_of_shuffled_labels():
    first, again = build_sited("mlp-decoy", 5, layers=6, n_questions=12), build_sited("mlp-decoy", 5, layers=6, n_questions=12)
    twin = build_sited("mlp-decoy", 5, layers=6, n_questions=12, shuffled=True)
    for other in (again, twin):
        for one, two in zip(first.model.state_dict().values(), other.model.state_dict().values(), strict=True):
            assert torch.equal(one, two)
    assert first.dataset.sha256 == again.dataset.sha256 != twin.dataset.sha256
    assert set(twin.expected.values()) == {"invalid"} and first.truth == twin.truth


def test_spans_of_the_stream():
    spans = {build_sited("resid-localized", seed, layers=6, n_questions=12).truth for seed in range(8)}
    assert spans == {((0, 0),), ((5, 0),)}  # eight draws are all alike with a chance of 1 in 128
    assert drawn("resid-conjunctive").truth == ((0, 0), (5, 0))
    (decoy,) = drawn("resid-decoy").plan.decoys
    assert 2 <= decoy[0] < 4 and drawn("resid-decoy").truth == ((0, 0),)


def test_what_cannot_be_planted_is_refused():
    for kind, options in (("mlp-dormant", {}), ("mlp-localized", {"layers": 3}), ("moe-localized", {})):
        with pytest.raises(UserError):
            build_sited(kind, 0, **options)
    with pytest.raises(UserError, match="planted model of heads"):
        planted_pairs(drawn("mlp-localized"), 4)
    with pytest.raises(UserError, match="mlp-localized"):
        planted_named("planted:mpl-localized:0")


def test_an_audit_of_modules_is_searched_by_whole_steps():
    assert resolve(model="planted:mlp-localized:3", claims=("mlp.15",)).search == "newton"
    assert resolve(model="planted:localized:3", claims=("1.1",)).search == "adamw"


# --- calibration


@pytest.mark.parametrize("kind", ["neuron-decoy", "mlp-localized"])
def test_an_audit_gives_the_known_verdicts(kind):
    result = draw_sited(kind, 3, False, resolve())  # whose metric is the margin: its least gain is no bound on MC2
    assert {claim.name for claim in result.claims} >= {"planted", "elsewhere"}
    for claim in result.claims:
        assert claim.standings == claim.expected, claim.name


def test_a_kind_of_site_stands_for_all_of_its_own(tmp_path):
    wanted = list(table._wanted(table.OF_SITE["mlp"], 6))
    assert len(wanted) == 36 and wanted[0] == ("mlp-localized", 0, False)
    assert [kind for kind, _, shuffled in wanted if shuffled] == [f"mlp-{SHAPES[seed % 5]}" for seed in range(6)]
    for kinds in (("mlp", "mlp-decoy"), ("moe",)):
        with pytest.raises(UserError, match="Mend --kinds"):
            table.calibrate(tmp_path, 1, kinds)


def test_rates_are_told_apart_by_kind_of_site():
    claim = {"name": "planted", "read": "layer", "metric": "mc2", "expected": {"special": "supported"}, "rank_p": 0.05}
    claim |= {"drawn": 19, "planned": 19}
    standings = dict.fromkeys(("works", "special", "unique", "necessary"), "supported")
    made = [
        Draw.parse(
            {
                "kind": f"{site}localized",
                "seed": seed,
                "shuffled": False,
                "named": {},
                "claims": [claim | {"standings": standings, "sequential": standings}],
            }
        )
        for site, count in (("", 1), ("mlp-", 3))
        for seed in range(count)
    ]
    tallied = table.tally(made, CalibrationSettings(alpha=0.05, margin=0.25, random=19))
    found = dict(table.aims(tallied.rows))
    assert found["special found at the planted place (localized)"].n == 1
    assert found["mlp: special found at the planted place (localized)"].n == 3
    assert "heuristic" not in table.table(tallied)
