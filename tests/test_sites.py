"""Sites as data: how each kind is written, its places, and laws that hold of the edits at every kind."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import locus
from locus import registry
from locus.behaviours.prompts import prompt_format
from locus.claims import given
from locus.claims.forms import read_claim
from locus.edits import Rank1, ablate, directions, load_edit, shift
from locus.engine.activations import base_pass
from locus.engine.checks import plain_logprobs, tree_logprobs
from locus.engine.descent import descend
from locus.engine.linear import answers_of, gradients_of, jacobian_of
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.models.points import POINTS
from locus.sites import Location, Site, SiteSpace, kind_of, kinds
from tests.families import QUESTIONS, tiny

KINDS = [one.name for one in kinds() if one.by_name]
NAMES = {"head": "12.3", "neuron": "n12.345", "attn": "attn.12", "mlp": "mlp.12", "resid": "resid.12"}
PACKAGE = Path(__file__).parents[1] / "locus"
# What is of heads by its nature: what plants them, patches them, and counts the errors of verdicts about them. And what reads the
# names that others have published.
OF_HEADS = ("sites", "registry.py", "patching", "patch.py", "calibrate", "models/planted", "report/patching", "claims/importers")


def space_of(model, kind):
    return SiteSpace.of(kind, model.layout)


def some(space, *layers):
    """One site in each of some layers, the last that there is."""
    return Location.of(Site(space.kind.name, layer, space.counts[layer] - 1) for layer in layers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_read_as_it_is_written(kind):
    location = Location.parse(NAMES[kind])
    assert location.kind == kind and location.names == [NAMES[kind]] and given(NAMES[kind]).location == location
    for notation in kind_of(kind).notations:
        assert Location.parse(notation.format(12, location.sites[0].index)) == location
    assert read_claim([NAMES[kind]]).to_dict()[kind_of(kind).filed] == [NAMES[kind]]
    assert read_claim(given(NAMES[kind]).to_dict()).location == location


def test_no_text_names_two_kinds():
    texts = {notation.format(1, 2): one.name for one in kinds() for notation in one.notations}
    assert len(texts) == sum(len(one.notations) for one in kinds())
    assert {text: Location.parse(text).kind for text in texts} == texts


def test_neighbouring_neurons_are_written_as_a_run():
    location = Location.parse("n2.5-7,n2.9,n2.10,n3.0")
    assert [site.index for site in location.sites] == [5, 6, 7, 9, 10, 0]
    assert location.names == ["n2.5-7", "n2.9", "n2.10", "n3.0"] and Location.parse(location.names) == location
    for wrong in ("n2.7-5", "12.3-5", "mlp.1-2", "n2.5-7,n2.6"):
        with pytest.raises(UserError):
            Location.parse(wrong)


@pytest.mark.parametrize("text", ["12.3,mlp.4", "attn.1,mlp.1", "n1.2,L1H2", '["resid.1", "1.1"]'])
def test_kinds_are_not_mixed_in_one_claim(text):
    with pytest.raises(UserError, match="a claim of one kind of site"):
        given(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_that_the_model_lacks_is_named(kind):
    space = space_of(tiny("llama"), kind)
    last = space.everywhere.sites[-1]
    space.check(Location((last,)))
    for absent in (Site(kind, 3, 0), Site(kind, 0, 10_000)):
        if absent.index == 0 or len(kind_of(kind).notations[0].split("{}")) > 2:
            with pytest.raises(UserError, match=str(absent)):
                space.check(Location((absent,)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_and_the_rest_are_all_there_is(kind):
    model = tiny("llama")
    space, point = space_of(model, kind), kind_of(kind).point
    claim = some(space, 0, 2)
    rest = space.rest(claim)
    assert set(rest.sites) | set(claim.sites) == set(space.everywhere.sites) and not set(rest.sites) & set(claim.sites)
    for layer in range(3):
        taken = torch.zeros(model.layout.width(point, layer))
        for site in space.everywhere.sites:
            if site.layer == layer:
                taken[space.columns(site)] += 1
        assert (taken == 1).all(), "every entry is one site's"


@pytest.mark.parametrize("kind", KINDS)
def test_random_locations_are_other_places_of_the_size(kind):
    space = space_of(tiny("llama"), kind)
    claim = some(space, 0, 2)
    drawn = space.draw(claim, 30, seed=3)
    assert len(set(drawn)) == len(drawn) == min(30, space.capacity(claim)) and claim not in drawn
    assert all(len(one) == 2 and one.kind == kind for one in drawn)
    assert space.draw(claim, 2, seed=3) == drawn[:2]
    assert ("layer" in space.matches) == (kind in ("head", "neuron"))
    if "layer" in space.matches:
        assert {one.layers for one in space.draw(claim, 9, seed=3, match="layer")} == {(0, 2)}


def edited_by_hand(model, edit, sequences):
    """Log-probs of answers under an edit that plain hooks make, by transformers' own forward; differentiable in its terms."""
    point, handles = POINTS[edit.point], []
    for layer in edit.layers:
        own = model.hf.get_submodule(point.path(model.parts.layers[layer]))

        def changed(o, layer=layer):
            terms = edit.terms(layer)
            new = o if terms.keep is None else o * terms.keep
            new = new if terms.shift is None else new + terms.shift
            return new if terms.write is None else new + (o @ terms.read.T) @ terms.write

        if point.side == "input":
            handles.append(own.register_forward_pre_hook(lambda _, args, changed=changed: (changed(args[0]),)))
        elif point.side == "output":
            handles.append(own.register_forward_hook(lambda _, __, output, changed=changed: changed(output)))
        else:

            def entering(_, args, kwargs, changed=changed):
                key = model.parts.stream
                if isinstance(key, str):
                    return args, {**kwargs, key: changed(kwargs[key])}
                return (changed(args[0]), *args[1:]), kwargs

            handles.append(own.register_forward_pre_hook(entering, with_kwargs=True))
    try:
        return plain_logprobs(model, sequences, grad=True)
    finally:
        for handle in handles:
            handle.remove()


def random_edit(model, space, location):
    edit = Rank1(model.layout, location)
    generator = torch.Generator().manual_seed(1)
    edit.flat.data = torch.randn(edit.flat.shape, generator=generator) / edit.flat.numel() ** 0.5
    return edit


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_and_its_gradient_are_those_of_plain_hooks(family, kind):
    model = tiny(family)
    space = space_of(model, kind)
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:2])
    edit = random_edit(model, space, some(space, 1, 2))
    plain = edited_by_hand(model, edit, trie.sequences)
    (slow,) = torch.autograd.grad(plain.sum(), edit.flat)
    base = base_pass(model, trie, layers=[1])
    fast = tree_logprobs(model, trie, [Rank1(model.layout, some(space, 2)), edit], base.residuals)
    torch.testing.assert_close(fast[1], plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(fast[0], torch.from_numpy(base.logprobs).float(), atol=2e-4, rtol=1e-4)
    # The search's linearisation, at the edit: the derivatives of each answer, summed, are the gradient.
    parts = [gradients_of(model, part, list(edit.layers), edit) for part in answers_of(trie, range(len(trie.sequences)))]
    jacobian, logprobs = jacobian_of(edit, parts, len(trie.sequences))
    torch.testing.assert_close(logprobs.float(), plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(jacobian.sum(dim=0), slow, atol=2e-4 * float(slow.abs().max()) + 1e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_shift_and_ablation_are_those_of_plain_hooks(kind):
    model = tiny("llama")
    space = space_of(model, kind)
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:2])
    found = base_pass(model, trie, features=space)
    assert found.features.shape[1:] == (3, max(space.counts), max(space.widths))
    truth = np.arange(len(trie.sequences)) % 2 == 0
    steer, place = directions(found.features, truth), some(space, 0, 2)
    steered = shift(model.layout, place, steer, 3.0, positions="all")
    for edit in (steered, ablate(model.layout, place), ablate(model.layout, place, "mean", found.features.mean(axis=0))):
        with torch.no_grad():
            plain = edited_by_hand(model, edit, trie.sequences)
        torch.testing.assert_close(tree_logprobs(model, trie, [edit])[0], plain, atol=2e-4, rtol=1e-4)
        assert float((plain - torch.from_numpy(found.logprobs).float()).abs().max()) > 1e-3, "the edit does something"
    site = place.sites[0]
    own = steered.layers[site.layer].shift[space.columns(site)]
    gap = found.features[truth, site.layer, site.index].mean(axis=0) - found.features[~truth, site.layer, site.index].mean(axis=0)
    assert np.allclose(np.sign(own.numpy()), np.sign(gap[: len(own)]))


@pytest.fixture(scope="module")
def material():
    model = tiny("llama")
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:4])
    base = base_pass(model, trie, layers=[0, 1, 2])
    return TrainingSet(model, trie, QUESTIONS[:4], base.logprobs, base.residuals)


@pytest.mark.parametrize("kind", KINDS)
def test_searches_keep_the_laws_of_places(material, kind, tmp_path):
    """From the identity; in a bank as alone; masks hold to the bit; a place never ends above one inside it."""
    model = material.model
    space = space_of(model, kind)
    claim, recipe = some(space, 1), TrainingRecipe(search="newton", rounds=6)
    rest = space.rest(claim)
    shared = FirstOrder(model, material.trie, point=space.kind.point)
    assert Rank1(model.layout, claim).is_identity

    def found(places, starts=()):
        edits = [Rank1(model.layout, place) for place in places]
        return [fits[6] for fits in descend(material, edits, [recipe] * len(edits), shared, starts=starts)]

    mine, others = found([claim, rest])
    (alone,) = found([claim])
    assert alone.certificate.loss == pytest.approx(mine.certificate.loss, abs=1e-4 * alone.certificate.start)
    assert mine.certificate.loss < mine.certificate.start
    padded = [Rank1(model.layout, space.everywhere) for _ in range(2)]
    for outer, inner in zip(padded, (mine, others), strict=True):
        outer.pad(inner.edit, lambda layer: model.weight(layer, space.kind.point))
    (whole,) = found([space.everywhere], starts=[padded])
    assert whole.certificate.loss <= min(mine.certificate.loss, others.certificate.loss) * (1 + 1e-5)
    for fit, place in ((mine, claim), (others, rest)):
        for layer, terms in fit.edit.layers.items():
            free = torch.ones(terms.write.shape[-1], dtype=torch.bool)
            for index in place.indices(layer):
                free[space.columns(Site(kind, layer, index))] = False
            assert not terms.write[:, free].any(), "nothing is written anywhere else"
    mine.edit.save(tmp_path / "edit")
    back = load_edit(tmp_path / "edit")
    assert back.location == claim and back.point == space.kind.point and back.layout == model.layout
    assert all(torch.equal(back.layers[layer].write, mine.edit.layers[layer].write) for layer in claim.layers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bank_trains_each_edit_as_alone(material, kind):
    model = material.model
    space, recipe = space_of(model, kind), TrainingRecipe(lr=1e-2, epochs=2, batch=2)
    places = [some(space, 2), some(space, 0), some(space, 1, 2)]
    together = train(material, [Rank1(model.layout, place) for place in places], [recipe] * 3)
    for place, fit in zip(places, together, strict=True):
        (alone,) = train(material, [Rank1(model.layout, place)], [recipe])
        np.testing.assert_allclose(fit.losses, alone.losses, rtol=2e-4)


def test_edits_of_several_kinds_share_a_bank():
    model = tiny("gemma3")
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:2])
    edits = [random_edit(model, space_of(model, kind), some(space_of(model, kind), 1)).frozen({}) for kind in KINDS]
    together = tree_logprobs(model, trie, edits)
    for edit, logprobs in zip(edits, together, strict=True):
        torch.testing.assert_close(tree_logprobs(model, trie, [edit])[0], logprobs, atol=1e-4, rtol=1e-4)


def test_no_room_but_the_sites_own_names_a_kind():
    """No string of the code is a kind's name, and nothing imports a kind's file: whoever wants one asks the registry."""
    ours, wrong = {one.name for one in registry.OWN["sites"]}, []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith(OF_HEADS):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in ours
            if named and node.value not in (vars(locus).get("_PUBLIC", {}) if place == "__init__.py" else ()):
                wrong.append(f"{place}:{node.lineno} says {node.value!r}")
            if isinstance(node, ast.ImportFrom) and node.module in {f"locus.sites.{name}" for name in ours}:
                wrong.append(f"{place}:{node.lineno} imports {node.module}")
    assert not wrong
