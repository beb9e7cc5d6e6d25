"""Planted models of directions: what every place can reach is worked out by hand, and held against plain hooks; no optimiser."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from locus.behaviours.items import split
from locus.calibrate import table
from locus.calibrate.along import book_of, draw_along
from locus.calibrate.sited import SHARES
from locus.models.model import Model
from locus.models.planted.bank import unedited
from locus.models.planted.certificate import questions_of
from locus.models.planted.direct import Numbers, final_states_under, margins_under
from locus.models.planted.folder import load_planted, save_planted
from locus.models.planted.named import planted_named
from locus.models.planted.other_sites import build_sited
from locus.models.planted.sited import SHAPES, sizes_of
from locus.plan.config import resolve
from locus.records.calibration import CalibrationRow
from locus.sites.known import MEANS, drawn
from locus.sites.site import Location

ALONE = ("localized", "decoy", "conjunctive")  # shapes whose planted direction is the only one
TARGET, SPREAD, STRENGTH = 5.0, 6.0, 0.3


@lru_cache(maxsize=16)
def made(shape, seed=0):
    return build_sited(f"direction-{shape}", seed)


def vector(shape, claim="planted"):
    (place,) = made(shape).claims[claim].sites
    return torch.from_numpy(made(shape).vectors[place[1]])


def written(shape, vectors, strengths):
    """Edits that write as many vectors by strengths times the bit."""
    planted = made(shape)
    a = torch.zeros(len(vectors), planted.model.config.num_hidden_layers, planted.model.config.hidden_size)
    b, mask, layer = a.clone(), a.clone(), planted.truth[0][0]
    a[:, layer] = (
        torch.tensor(strengths, dtype=torch.float32)[:, None] / STRENGTH * torch.tensor(planted.directions["bit"]).float()
    )
    b[:, layer], mask[:, layer] = torch.stack(vectors), 1.0
    return Numbers(a, b, mask)


def states(shape, numbers):
    with torch.no_grad():
        return final_states_under(made(shape), numbers, questions_of(made(shape)).ids)


def margins(shape, vectors, strengths):
    with torch.no_grad():
        return margins_under(made(shape), written(shape, vectors, strengths), questions_of(made(shape)))


@lru_cache(maxsize=8)
def book(shape, seed=0):
    planted = made(shape, seed)
    model = Model(planted.model, planted.tokenizer, planted.dataset.name)
    return book_of(planted, model, split(planted.dataset.items, seed, SHARES), seed)


def random_ones(shape, way, count=19):
    return [book(shape)(made(shape).truth[0][0], drawn(way, number)) for number in range(count)]


# --- what places reach


@pytest.mark.parametrize("shape", SHAPES)
def test_the_unedited_model_is_indifferent(shape):
    rounded = 1e-3 if shape == "distributed" else 1e-5  # a head of gain 300 multiplies what float32 rounds, too
    assert float(unedited(made(shape).model, questions_of(made(shape))).abs().max()) < rounded


@pytest.mark.parametrize("shape", [*ALONE, "redundant"])
def test_nothing_off_the_planted_direction_moves_along_it(shape):
    barred = torch.stack([vector(shape), *([vector(shape, "either")] if shape == "redundant" else [])])
    for scale in (1.0, 100.0):
        generator = torch.Generator().manual_seed(0)
        read, write = torch.randn(2, 8, barred.shape[1], generator=generator)
        numbers = written(shape, list(scale * (write - write @ barred.T @ barred)), [0.0] * 8)
        layer = made(shape).truth[0][0]
        numbers.a[:, layer] = read
        final = states(shape, Numbers(numbers.a, numbers.b, numbers.mask, numbers.b))  # what is read, and a constant
        assert float((final @ barred[0]).abs().max() / final.norm(dim=-1).max()) < 1e-5
        assert float(final.norm(dim=-1).max()) > 3 * scale


@pytest.mark.parametrize("shape", ALONE)
def test_along_the_planted_direction_by_hand(shape):
    length = states(shape, written(shape, [vector(shape)], [0.0]))[0].norm(dim=-1)  # of the final state
    strengths = [1.0, 1.5 * float(length.mean()), 50.0]
    found = margins(shape, [vector(shape)] * 3, strengths)
    expected = torch.stack([SPREAD * one / (length**2 + one**2).sqrt() for one in strengths])
    torch.testing.assert_close(found, expected[:, :, None].expand_as(found), atol=2e-3, rtol=0)
    assert float(found[1].mean()) == pytest.approx(TARGET, abs=0.1)


@pytest.mark.parametrize("shape", ["localized", "redundant"])
def test_along_a_random_direction_by_hand(shape):
    ones = random_ones(shape, "shuffled", 8)
    base = states(shape, written(shape, ones[:1], [0.0]))[0]
    for strength in (3.0, -3.0, 300.0, -300.0):
        found, signs = margins(shape, ones, [strength] * 8)[:, :, 0], bits(shape)
        for one, row in zip(ones, found, strict=True):
            final = base + strength * signs[:, None] * one
            expected = SPREAD * signs * (final @ vector(shape)) / final.norm(dim=1)
            torch.testing.assert_close(row, expected, atol=2e-3, rtol=0)
            alpha = float(one @ vector(shape))
            inside = (base @ one / base.norm(dim=1)) ** 2
            assert (row <= SPREAD * abs(alpha) / (1 - inside).sqrt() + 2e-3).all()


def bits(shape):
    """[questions] of +1 and -1, as the wanted answers say them."""
    return torch.tensor([1.0 if item.best.startswith("upper") else -1.0 for item in made(shape).dataset.items])


def test_the_channel_by_hand():
    rows = {"redundant": (10.0, vector("redundant", "either"), 1.0), "distributed": (300.0, vector("distributed"), 0.5)}
    for shape, (gain, one, alpha) in rows.items():
        length = states(shape, written(shape, [one], [0.0]))[0].norm(dim=-1)
        best = SPREAD / (1 + (4 * length / (gain * alpha * 32**0.5)) ** 2).sqrt()
        found = margins(shape, [one] * 40, list(np.geomspace(0.05, 50, 40)))[:, :, 0]
        assert float((found.max(dim=0).values - best).abs().max()) < 0.3 and float(found.mean(dim=1).max()) > TARGET
    # Of distributed models most random directions do: those that have a hundredth of the channel.
    channel = torch.tensor(made("distributed").directions["channel"]).float()
    for way in ("covariance", "shuffled"):
        ones = [one if one @ channel > 0 else -one for one in random_ones("distributed", way)]
        reached = torch.stack(
            [margins("distributed", ones, [size] * 19)[:, :, 0].mean(dim=1) for size in np.geomspace(0.05, 20, 12)]
        )
        assert int((reached.max(dim=0).values > 0.75 * TARGET).sum()) >= 17


# --- what they are held against


@pytest.mark.parametrize("shape", ["localized", "conjunctive", "decoy"])
def test_random_directions_have_as_much_of_it_as_was_reckoned(shape):
    p, layer = vector(shape).numpy(), made(shape).truth[0][0]
    dealt, covariance = (
        np.stack([one.numpy() for one in random_ones(shape, way, 200)]) @ p for way in ("shuffled", "covariance")
    )
    means = abs(float(book(shape)(layer, MEANS).numpy() @ p))
    if shape == "decoy":  # along which no answers differ
        assert max(np.abs(dealt).max(), np.abs(covariance).max(), means) < 1e-5
        return
    # alpha / sqrt(1 - alpha^2) is sqrt 2 / 8 z, of three answers sqrt(3 / 2) times less; of the covariance about a third.
    wide = 2**0.5 / 8 / (1.5**0.5 if shape == "conjunctive" else 1.0)
    assert np.sqrt(np.mean(dealt**2 / (1 - dealt**2))) == pytest.approx(wide, rel=0.3)
    assert 0.02 < np.sqrt(np.mean(covariance**2)) < 0.5 * wide
    assert np.abs(dealt).max() < 5 / 6 and np.abs(covariance).max() < 0.32 and means > 0.7


# --- names and twins


def test_a_twin_of_shuffled_labels_has_the_same_weights():
    first, twin = made("redundant"), build_sited("direction-redundant", 0, shuffled=True)
    for one, two in zip(first.model.state_dict().values(), twin.model.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert first.vectors.keys() == twin.vectors.keys() and first.dataset.sha256 != twin.dataset.sha256
    assert {answer for claim in twin.claims.values() for answer in claim.expected.values()} == {"invalid"}


def test_names_sizes_and_a_folder(tmp_path):
    planted = planted_named("planted:direction-decoy:3")
    config, sizes = planted.model.config, sizes_of("planted:direction-decoy:3")
    assert sizes == {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "inner width": config.intermediate_size,
    }
    assert Location.parse(str(planted.where)) == planted.where and 2 <= planted.truth[0][0] < config.num_hidden_layers
    assert planted.claims["decoy"].sites == ((planted.truth[0][0], MEANS),)
    save_planted(planted, tmp_path)
    again = load_planted(tmp_path)
    assert again.claims == planted.claims and again.where == planted.where
    for number, one in planted.vectors.items():
        np.testing.assert_array_equal(again.vectors[number], one)


# --- calibration


@pytest.mark.parametrize("shape", SHAPES)
def test_an_audit_gives_the_known_verdicts(shape):
    result = draw_along(
        f"direction-{shape}", 0, False, resolve()
    )  # whose metric is the margin: its least gain is no bound on MC2
    assert {claim.name for claim in result.claims} == set(made(shape).claims)
    for claim in result.claims:
        found = {question: claim.standings[question] for question in claim.expected}
        assert found == claim.expected, (claim.name, claim.metric)


def test_a_rate_is_of_audits_where_it_is_a_rate():
    standing = {"supported": 0, "refuted": 3, "undecided": 0, "invalid": 0}
    about = {"claim": "planted", "read": "layer", "metric": "mc2", "question": "necessary", "n": 3, "all": standing}
    for kind, expected, counted in (("redundant", "supported", 1), ("direction-redundant", "refuted", 0)):
        row = CalibrationRow.parse({**about, "kind": kind, "expected": expected, "sequential": standing})
        assert len(table.aims([row])) == counted
