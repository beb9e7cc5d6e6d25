"""Laws that every edit obeys on every family: null is the identity, detaching restores bits, only the named heads are written."""

import dataclasses

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import Edit, Rank1, Terms, ablate, complement, directions, full, load_edit, shift
from locus.engine.bank import Bank
from locus.engine.checks import plain_logprobs, tree_logprobs
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.sites.kind import kind_of
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

CLAIM = Location.parse("0.1,2.3")
KINDS = ("shift", "rank1-layer", "rank1-heads", "rank1-constant", "full", "full-free", "complement", "ablate-zero", "ablate-mean")


def make(kind: str, model, strength: float = 1.0, seed: int = 3) -> Edit:
    """An edit of a kind with non-trivial terms; strength 0 is its null setting."""
    layout = model.layout
    generator = torch.Generator().manual_seed(seed)
    if kind == "shift":
        rng = np.random.default_rng(seed)
        bank = rng.normal(size=(20, layout.n_layers, layout.n_heads, layout.d_head)).astype(np.float32)
        return shift(layout, CLAIM, directions(bank, np.arange(20) % 2 == 0), 5.0 * strength, positions="all")
    if kind.startswith("ablate"):
        means = np.random.default_rng(seed).normal(size=(layout.n_layers, layout.n_heads, layout.d_head)).astype(np.float32)
        location = CLAIM if strength else Location(())
        return ablate(layout, location, "mean" if kind.endswith("mean") else "zero", means)
    made = {
        "rank1-layer": lambda: Rank1(layout, CLAIM, "layer", seed=seed),
        "rank1-heads": lambda: Rank1(layout, CLAIM, "heads", seed=seed),
        "rank1-constant": lambda: Rank1(layout, CLAIM, "constant", seed=seed),
        "full": lambda: full(layout, seed=seed),
        "full-free": lambda: full(layout, form="free", seed=seed),
        "complement": lambda: complement(layout, CLAIM, seed=seed),
    }[kind]()
    if strength:
        with torch.no_grad():
            made.flat.add_(torch.randn(made.flat.shape, generator=generator) * 0.2)
    return made.frozen({})


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def logits(model, edit: Edit | None = None) -> torch.Tensor:
    tokens = torch.tensor([[1, 7, 42, 99, 3, 60, 200, 11]])
    with torch.no_grad():
        if edit is None:
            return model.hf(input_ids=tokens).logits
        with Bank([edit]).attach(model):
            return model.hf(input_ids=tokens).logits


def projection_changes(model, edit: Edit) -> dict[int, torch.Tensor]:
    """By layer, how the projection's input differs with and without the edit, given the *same* incoming features."""
    changes = {}
    for layer, projection in enumerate(model.projections):
        o = torch.randn(1, 5, model.layout.d_in(layer), generator=torch.Generator().manual_seed(layer))
        seen = []
        handle = None
        with torch.no_grad(), Bank([edit]).attach(model):
            handle = projection.register_forward_pre_hook(
                lambda _, args, seen=seen: seen.append(args[0])
            )  # after the edit's hook
            projection(o)
            handle.remove()
        changes[layer] = seen[0] - o
    return changes


def test_the_null_setting_is_the_identity(model, kind):
    assert torch.equal(logits(model, make(kind, model, strength=0.0)), logits(model))


def test_an_edit_changes_the_model(model, kind):
    assert (logits(model, make(kind, model)) - logits(model)).abs().max() > 1e-3


def test_detaching_restores_every_bit(model, kind):
    before, weights = logits(model), model.fingerprint
    logits(model, make(kind, model))
    assert torch.equal(logits(model), before)
    model._fingerprint = None
    assert model.fingerprint == weights
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())


def test_only_the_named_heads_are_written(model, kind):
    edit = make(kind, model)
    named = {(site.layer, site.index) for site in edit.location.sites}
    touched = set()
    for layer, change in projection_changes(model, edit).items():
        for head in range(model.layout.n_heads):
            if change[..., model.layout.slice(layer, head)].abs().max() > 0:
                touched.add((layer, head))
    assert touched <= named
    if kind != "full-free":  # the free form writes behind the projection, into the residual stream
        assert touched == named


def test_saving_and_loading_changes_nothing(model, kind, tmp_path):
    edit = make(kind, model)
    edit.save(tmp_path / "edit.safetensors")
    again = load_edit(tmp_path / "edit.safetensors")
    assert (again.kind, again.location, again.positions, again.about) == (edit.kind, edit.location, edit.positions, edit.about)
    assert torch.equal(logits(model, again), logits(model, edit))


def test_the_same_seed_gives_the_same_edit(llama, kind):
    first, second, other = (make(kind, llama, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(logits(llama, first), logits(llama, second))
    if kind != "ablate-zero":
        assert not torch.equal(logits(llama, first), logits(llama, other))


def test_a_bank_gives_each_edit_what_it_gives_alone(model, items):
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items[:3])
    edits = [make(kind, model) for kind in KINDS]
    together = tree_logprobs(model, trie, edits)
    for place, edit in enumerate(edits):
        with Bank([edit]).attach(model):
            alone = plain_logprobs(model, trie.sequences)
        torch.testing.assert_close(together[place], alone, rtol=1e-4, atol=3e-4)


def test_a_rank1_edit_is_the_formula(llama):
    # o' = o + <a, o> b by hand, in float64, on one vector
    o = torch.arange(1.0, llama.layout.d_in(0) + 1) / 10
    a, b = torch.zeros_like(o), torch.zeros_like(o)
    a[0], a[5] = 2.0, -1.0  # <a, o> = 2 * 0.1 - 1 * 0.6 = -0.4
    b[3] = 10.0  # so only feature 3 moves, by -4
    edit = Edit("rank1", Location.parse("0.0"), llama.layout, {0: Terms(read=a, write=b)})
    change = []
    with Bank([edit]).attach(llama):
        handle = llama.projections[0].register_forward_pre_hook(lambda _, args: change.append(args[0] - o))
        llama.projections[0](o[None, None])
        handle.remove()
    expected = torch.zeros_like(o)
    expected[3] = -4.0
    torch.testing.assert_close(change[0][0, 0], expected, atol=1e-5, rtol=0)


def test_a_shift_is_an_output_bias(llama):
    edit = make("shift", llama)
    o = torch.randn(1, 4, llama.layout.d_in(2))
    projection, terms = llama.projections[2], edit.layers[2]
    with Bank([edit]).attach(llama):
        moved = projection(o)
    torch.testing.assert_close(moved, projection(o) + llama.weight(2) @ terms.shift)


def test_directions_by_hand(llama):
    # two true answers at (1, 0) and (3, 0), two false at (0, 1) and (0, -1): means (2, 0) and (0, 0), unit (1, 0);
    # projections 1, 3, 0, 0 have mean 1 and population variance (0 + 4 + 1 + 1) / 4 = 1.5
    bank = np.array([[1, 0], [3, 0], [0, 1], [0, -1]], dtype=np.float32).reshape(4, 1, 1, 2)
    found = directions(bank, np.array([True, True, False, False]))
    np.testing.assert_allclose(found.unit[0, 0], [1, 0])
    np.testing.assert_allclose(found.sigma[0, 0], np.sqrt(1.5), rtol=1e-6)
    second = directions(bank, np.array([True, True, False, False]), spread=2 * bank)
    np.testing.assert_allclose(second.sigma, 2 * found.sigma, rtol=1e-6)


def test_an_answer_only_edit_leaves_the_prompt_alone(model, items):
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items[:2])
    everywhere = make("shift", model)
    only = dataclasses.replace(everywhere, positions="answer")
    both = tree_logprobs(model, trie, [everywhere, only])
    assert (both[0] - both[1]).abs().max() > 1e-4
    sequence = trie.sequences[0]
    with torch.no_grad(), Bank([only]).attach(model) as bank_state:
        bank_state.where = {"answer": torch.tensor([float(k >= sequence.start - 1) for k in range(len(sequence.ids))])}
        logprobs = model.hf(input_ids=torch.tensor([sequence.ids])).logits[0].log_softmax(-1)
    expected = sum(logprobs[k - 1, sequence.ids[k]] for k in range(sequence.start, len(sequence.ids)))
    torch.testing.assert_close(both[1, 0], expected, rtol=1e-4, atol=3e-4)


def test_parameters_are_counted_inside_the_masks(llama):
    layout = llama.layout  # 4 heads of 12 features
    assert Rank1(layout, CLAIM, "layer").n_parameters == 2 * 48 + 2 * 12
    assert Rank1(layout, CLAIM, "heads").n_parameters == 2 * 12 + 2 * 12
    assert Rank1(layout, CLAIM, "constant").n_parameters == 2 * 12
    assert full(layout, form="free").n_parameters == 3 * (48 + 32)


def test_a_foreign_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="locus-edit/1"):
        load_edit(tmp_path / "other.safetensors")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(UserError, match="saved edit"):
        load_edit(tmp_path / "text")


def test_locations():
    location = Location.parse("2.3, 0.1")
    assert str(location) == "0.1,2.3" and location.layers == (0, 2) and location.indices(2) == (3,)
    space = SiteSpace(kind_of("head"), (4,) * 3)
    assert len(space.rest(location)) == 10 and Site("head", 0, 1) not in space.rest(location).sites
    with pytest.raises(UserError, match=r"12\.3.*'1-2'"):
        Location.parse("0.1,1-2")
    with pytest.raises(UserError, match="more than once"):
        Location.parse("0.1,0.1")
    with pytest.raises(UserError, match=r"2\.4"):
        space.check(Location.parse("2.4"))
