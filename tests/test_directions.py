"""Directions of the stream: how they are claimed, what they are held against, laws of their edits, and an audit of one."""

import base64

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import locus
from locus.behaviours.prompts import prompt_format
from locus.claims import direction, given
from locus.claims.book import Book
from locus.claims.forms import read_claim
from locus.claims.probe import Features
from locus.edits.rank1 import Rank1
from locus.edits.stream import Stream, projected_out
from locus.engine.activations import base_pass
from locus.engine.checks import tree_logprobs
from locus.engine.descent import descend
from locus.engine.linear import answers_of, gradients_of, jacobian_of
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.models.planted.named import planted_named
from locus.sites import Location, Site
from locus.sites.known import HASHED, MEANS, drawn, index_of, said
from locus.sites.space import holds, space_of
from tests.families import QUESTIONS, tiny
from tests.test_sites import edited_by_hand

RNG = np.random.default_rng(0)
READS = ("layer", "heads", "constant")
PLANTED = "planted:localized:3"


def unit(width):
    vector = RNG.normal(size=width).astype(np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def saved(tmp_path):
    def save(vector, name="refusal.npy"):
        np.save(tmp_path / name, vector)
        return str(tmp_path / name)

    return save


# --- claims


def test_a_vector_at_layers_is_a_claim_that_holds_it(saved):
    vector = unit(8)
    claim = given(f"{saved(vector)}@12-13")
    assert claim.location.layers == (12, 13) and claim.name == "refusal"
    assert {site.index for site in claim.location.sites} == {index_of(vector)} and index_of(vector) >= HASHED
    again = read_claim(claim.to_dict())
    assert again.location == claim.location == Location.parse(claim.location.names)
    np.testing.assert_allclose(direction.vectors_of([again], 8)[index_of(vector)], vector, atol=1e-7)


def test_a_tensor_of_several_is_named(tmp_path):
    one, other = unit(8), unit(8)
    path = str(tmp_path / "v.safetensors")
    save_file({"mean": one, "pca": other}, path)
    assert index_of(other) in direction.vectors_of([given(f"{path}:pca@3")])
    for wrong in (f"{path}:lda@3", f"{path}@3"):
        with pytest.raises(UserError, match="mean, pca"):
            given(wrong)


def test_class_means_and_all_layers():
    assert given("means@12").location.sites == (Site("direction", 12, MEANS),)
    everywhere = direction.over(given("means@all"), range(4))
    assert everywhere.location.layers == (0, 1, 2, 3) and not everywhere.about
    assert direction.over(everywhere, range(9)) is everywhere


@pytest.mark.filterwarnings("ignore::locus.claims.direction.NotUnit")
@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (np.zeros(4), "norm zero"),
        (np.array([1.0, np.nan]), "not finite"),
        (np.ones((3, 4)), "shape"),
        (np.ones(1), "shape"),
        (np.array([True, False]), "bool"),
    ],
)
def test_what_is_no_direction_is_refused(saved, vector, words):
    with pytest.raises(UserError, match=words):
        given(f"{saved(vector)}@1")


def test_what_is_not_unit_is_told_and_another_width_refused(saved):
    with pytest.warns(direction.NotUnit, match="norm 6"):
        claim = given(f"{saved(np.full(4, 3.0))}@1")
    np.testing.assert_allclose(next(iter(direction.vectors_of([claim]).values())), 0.5)
    with pytest.raises(UserError, match="of width 4"):
        direction.vectors_of([claim], 8)
    with pytest.raises(UserError, match="go up"):
        given(f"{saved(unit(4))}@3-1")


def test_a_vector_that_was_exchanged_is_found_out(saved):
    claim = given(f"{saved(unit(4))}@1")
    (name,) = claim.about["vectors"]
    claim.about["vectors"][name] = base64.b64encode(unit(4).tobytes()).decode()
    with pytest.raises(UserError, match="other content"):
        direction.vectors_of([claim])


# --- places


def test_ceiling_complement_and_draws_are_of_the_claims_layers():
    layout = tiny("llama").layout
    claim = Location((Site("direction", 1, MEANS),))
    space = space_of([claim], layout)
    assert space.everywhere.names == ["off-direction.1.000000000000"]
    assert space.rest(claim).names == [f"off-direction.1.{MEANS:012x}"]
    assert holds(set(space.everywhere.sites), claim.sites) and not holds(set(space.rest(claim).sites), claim.sites)
    for way in space.matches:
        places = space.draw(claim, 3, seed=0, match=way)
        assert [said(one.sites[0].index) for one in places] == [(way, number) for number in range(3)]
    with pytest.raises(UserError, match="same layers"):
        space_of([claim, Location((Site("direction", 2, MEANS),))], layout)
    with pytest.raises(UserError, match="layer 3"):
        space.check(Location((Site("direction", 3, MEANS),)))


def book(claimed=(), width=6, seed=0):
    """Twenty answers of five questions, the first two of each wanted, which lie apart along the first dimension."""
    truth = np.tile([True, True, False, False], 5)
    bank = np.random.default_rng(1).normal(size=(20, 2, 1, width)).astype(np.float32) * np.arange(1, width + 1, dtype=np.float32)
    bank[truth, :, :, 0] += 9.0
    features = Features(bank, bank, truth, np.repeat(np.arange(5), 4))
    return Book({index_of(one): one for one in claimed}, features, seed)


def test_what_directions_stand_for():
    mine = unit(6)
    held = book([mine])
    np.testing.assert_array_equal(held(0, index_of(mine)).numpy(), mine)
    stream = held.features.bank[:, 1, 0]
    gap = stream[held.features.truth].mean(0) - stream[~held.features.truth].mean(0)
    np.testing.assert_allclose(held(1, MEANS).numpy(), gap / np.linalg.norm(gap), atol=1e-6)
    np.testing.assert_allclose(held.spread(1, MEANS), (stream @ gap / np.linalg.norm(gap)).std(), rtol=1e-5)
    for way in ("covariance", "shuffled", "isotropic"):
        one = held(1, drawn(way, 7))
        assert abs(float(one.norm()) - 1) < 1e-6 and torch.equal(one, book()(1, drawn(way, 7)))
        assert not torch.allclose(one, held(1, drawn(way, 8))) and not torch.allclose(one, book(seed=1)(1, drawn(way, 7)))
    for unknown in (index_of(unit(6)), 5):
        with pytest.raises(UserError, match="a direction"):
            held(0, unknown)


def test_random_directions_lie_as_they_should():
    held = book()
    squares = {
        way: np.mean([held(0, drawn(way, n)).numpy() ** 2 for n in range(300)], axis=0) for way in ("covariance", "isotropic")
    }
    stream = held.features.bank[:, 0, 0].astype(np.float64)
    covariance = np.cov(stream.T)
    # Where activations vary most, directions drawn from their covariance lie; isotropic ones lie anywhere.
    assert np.corrcoef(squares["covariance"], np.diag(covariance))[0, 1] > 0.8
    assert abs(squares["isotropic"] - 1 / 6).max() < 0.05 < squares["covariance"].max() - 1 / 6
    # Labels dealt within questions: each has as many wanted answers as before, and the classes lie apart along nothing.
    dealt = held._dealt(np.random.default_rng(0))
    assert (dealt.reshape(5, 4).sum(axis=1) == 2).all() and not (dealt == held.features.truth).all()
    means = held(0, MEANS).numpy()
    assert np.mean([abs(held(0, drawn("shuffled", n)).numpy() @ means) for n in range(50)]) < 0.8


# --- edits


@pytest.fixture(scope="module")
def material():
    model = tiny("llama")
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS)
    base = base_pass(model, trie, layers=range(model.layout.n_layers))
    return TrainingSet(model, trie, QUESTIONS, base.logprobs, base.residuals)


class Vectors:
    """Two directions of the tiny model, by index 1 and 2."""

    def __init__(self, width):
        self.known = {index: torch.from_numpy(unit(width)) for index in (1, 2)}

    def __call__(self, layer, index):
        return self.known[index]

    def spread(self, layer, index):
        return 2.0


def stream(material, kind, *sites, read="layer", moved=True):
    layout = material.model.layout
    place = Location(tuple(Site(kind, layer, index) for layer, index in sites))
    edit = Stream(layout, place, VECTORS, read)
    if moved:
        noise = torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(1))
        edit.flat.data = noise / edit.flat.numel() ** 0.5
    return edit


VECTORS = Vectors(tiny("llama").layout.d_model)
PLACES = {"direction": ((0, 1), (2, 2)), "off-direction": ((0, 1), (2, 0))}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", PLACES)
def test_derivatives_are_those_of_plain_hooks(material, kind, read):
    model, edit = material.model, stream(material, kind, *PLACES[kind], read=read)
    texts = material.trie.sequences[:3]
    edit.flat.grad = None
    by_hand = edited_by_hand(model, edit, texts)
    (expected,) = torch.autograd.grad(by_hand.sum(), [edit.flat])
    torch.testing.assert_close(
        tree_logprobs(model, material.trie, [edit.frozen({})])[0][:3], by_hand.detach(), atol=1e-4, rtol=1e-4
    )
    parts = [gradients_of(model, part, edit.location.layers, edit) for part in answers_of(material.trie, range(3))]
    jacobian, _ = jacobian_of(edit, parts, len(material.trie.sequences))
    torch.testing.assert_close(jacobian[:3].sum(dim=0), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("read", READS)
def test_an_edit_writes_along_its_direction_alone_and_the_complement_off_it(material, read):
    along, off = (stream(material, kind, (1, 1), read=read).terms(1) for kind in PLACES)
    v = VECTORS(1, 1)
    for terms, inside in ((along, True), (off, False)):
        for name in ("write", "shift") if read != "constant" else ("shift",):
            written = getattr(terms, name).detach()
            part = (written @ v) * v
            kept, lost = (part, written - part) if inside else (written - part, part)
            assert float(lost.norm()) < 1e-5 * float(kept.norm()) and float(kept.norm()) > 0
    if read == "heads":  # an edit that reads its own part of the stream alone
        assert (
            float((along.read.detach() - (along.read.detach() @ v) * v).norm()) < 1e-6
            and abs(float(off.read.detach() @ v)) < 1e-5
        )


@pytest.mark.parametrize("kind", PLACES)
def test_it_begins_at_the_identity(material, kind):
    edit = stream(material, kind, *PLACES[kind], moved=False)
    assert edit.is_identity and not stream(material, kind, *PLACES[kind]).is_identity
    same = tree_logprobs(material.model, material.trie, [edit.frozen({})])[0]
    np.testing.assert_allclose(same.numpy(), material.reference, atol=1e-4)


def test_the_ceiling_is_never_above_a_direction_inside_it(material):
    model, recipe = material.model, TrainingRecipe(tau=0.1, search="newton", rounds=4)
    shared = FirstOrder(model, material.trie, point="resid_pre")
    (found,) = descend(material, [stream(material, "direction", (1, 1), moved=False)], [recipe], shared)
    inner = found[4]
    outer = stream(material, "off-direction", (1, 0), moved=False)
    outer.pad(inner.edit)
    assert not outer.is_identity
    torch.testing.assert_close(
        *(tree_logprobs(model, material.trie, [one])[0] for one in (outer.frozen({}), inner.edit)), atol=1e-4, rtol=1e-4
    )
    begun = stream(material, "off-direction", (1, 0), moved=False)
    (best,) = descend(material, [begun], [recipe], shared, starts=[[outer]])
    assert best[4].certificate.loss <= inner.certificate.loss * (1 + 1e-6)
    assert inner.certificate.loss < inner.certificate.start


def test_the_stream_without_a_direction_has_none_of_it(material):
    edit = projected_out(material.model.layout, Location((Site("direction", 1, 1),)), VECTORS)
    terms, r, v = edit.terms(1), torch.randn(5, material.model.layout.d_model), VECTORS(1, 1)
    left = r + r @ terms.read.T @ terms.write
    assert float((left @ v).abs().max()) < 1e-5 and float((left - r).norm()) > 0.1


def test_a_rank1_edit_of_the_stream_is_still_its_own():
    model = tiny("llama")
    edit = Rank1(model.layout, Location((Site("resid", 1),)))
    assert edit.flat.numel() == 2 * model.layout.d_model  # no constant: as it was


# --- an audit


def test_an_audit_of_a_direction_that_does_the_work(tmp_path):
    vector = planted_named(PLANTED).directions["polarity0"].astype(np.float32)
    np.save(tmp_path / "polarity.npy", vector)
    settings = {"train": 8, "validation": 4, "test": 8, "text_passages": 0, "shift_random": 0, "iti_strengths": (5.0,)}
    settings |= {"search": "newton", "rounds": 4, "lengths": (), "alpha": 0.34, "least_gain": 0.001, "random": 2}
    run = locus.audit(PLANTED, claim=f"{tmp_path / 'polarity.npy'}@2", out=tmp_path / "RUN", progress=False, **settings)
    (mine,) = run.verdict.claims
    assert mine.kind == "direction" and mine.sentence.startswith("No verdict")
    # Whatever is written into the stream entering the last layer, only what lies along the polarity tells.
    assert abs(mine.works.estimate) < 0.2 and mine.necessary.estimate > 3
    assert set(mine.special_by) == {"shuffled", "isotropic"} and mine.special_by["isotropic"].estimate > 1
    assert "by shuffled labels" in mine.special.sentence and mine.special.n_random == 2
    assert mine.special.p == max(mine.special.p, mine.special_by["shuffled"].p)
    assert not run.verdict.nested.beaten
    assert "isotropic" in (run.folder / "report.html").read_text()
    assert [one.special for one in locus.verify(run.folder).claims] == ["withheld"]
