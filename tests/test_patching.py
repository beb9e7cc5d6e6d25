"""Patched runs obey their laws on every family, and equal hooks written by hand on the Hugging Face model."""

import numpy as np
import pytest
import torch

from locus.errors import UserError
from locus.patching.component import HOOKED, Component
from locus.patching.corruptions import Ablation, Noise, embedding_deviation
from locus.patching.metrics import Divergence, LogitDifference, Probability
from locus.patching.pairs import PatchPair
from locus.patching.runs import batch_of, patched, run_batch
from locus.patching.sweep import Batching, against_sum, heads, outputs, sweep, window


def random_pairs(count=8, length=12, uneven=False):
    """Pairs of random tokens that differ at position 4 (span "key")."""
    rng = np.random.default_rng(3)
    pairs = []
    for index in range(count):
        clean = rng.integers(0, 250, size=length - (index % 4 if uneven else 0))
        corrupted = clean.copy()
        corrupted[4] = (clean[4] + 1 + index) % 250
        answer, other = rng.choice(250, size=2, replace=False)
        spans = {"key": (4,), "end": (len(clean) - 1,)}
        pairs.append(PatchPair(tuple(map(int, clean)), tuple(map(int, corrupted)), (int(answer),), (int(other),), spans))
    return pairs


def everywhere(layout):
    """Every single component of a model."""
    kinds = ("attention", "mlp", "residual")
    inputs = [patch for kind in ("query", "key", "value") for patch in heads(layout, kind=kind)]
    return heads(layout) + inputs + [patch for kind in kinds for patch in outputs(layout, kind)]


def two_runs(model, pairs):
    return (
        run_batch(model, batch_of(model, [pair.clean for pair in pairs], [dict(pair.spans) for pair in pairs]), HOOKED),
        run_batch(model, batch_of(model, [pair.corrupted for pair in pairs], [dict(pair.spans) for pair in pairs]), HOOKED),
    )


def test_a_run_is_the_models_own_forward(model):
    pairs = random_pairs(4)
    clean, _ = two_runs(model, pairs)
    with torch.no_grad():
        expected = model.hf(input_ids=torch.tensor([pair.clean for pair in pairs])).logits[:, -1]
    torch.testing.assert_close(clean.logits, expected.float(), rtol=1e-5, atol=1e-5)


def test_a_run_patched_with_itself_is_bit_equal(model):
    clean, corrupted = two_runs(model, random_pairs(4))
    patches = everywhere(model.layout)
    for held in (clean, corrupted):
        # One patch at a time has the held run's own shapes, and so its own rounding.
        same = patched(model, held, held, patches, lambda z, held=held: (z == held.logits).all(-1), 1, False)
        assert same.shape == (len(patches), 4) and bool(same.all())


def test_the_whole_residual_stream_gives_the_source_run_bit_for_bit(model):
    clean, corrupted = two_runs(model, random_pairs(4))
    assert not torch.equal(clean.logits, corrupted.logits)
    patches = [(Component("residual", layer),) for layer in range(model.layout.n_layers + 1)]
    same = patched(model, corrupted, clean, patches, lambda z: (z == clean.logits).all(-1), 1, False)
    assert bool(same.all())


def test_embeddings_and_every_output_together_give_the_source_run(model):
    clean, corrupted = two_runs(model, random_pairs(4))
    layers = range(model.layout.n_layers)
    # The key token is the only embedding that differs.
    everything = (Component("residual", 0, None, "key"), *(Component(kind, at) for kind in ("attention", "mlp") for at in layers))
    differences = patched(model, corrupted, clean, [everything], lambda z: (z - clean.logits).abs().amax(-1))
    assert float(differences.max()) < 1e-4
    # And what reads the past is not enough on its own: with only the last layer's parts in place, a difference is left.
    part = tuple(component for component in everything if component.layer == model.layout.n_layers - 1)
    left = patched(model, corrupted, clean, [part], lambda z: (z - clean.logits).abs().amax(-1))
    assert float(left.max()) > 1e-3


def test_all_heads_of_a_layer_are_its_attention_output(model):
    clean, corrupted = two_runs(model, random_pairs(4))
    for layer in range(model.layout.n_layers):
        joint = tuple(Component("head", layer, head) for head in range(model.layout.n_heads))
        values = patched(model, corrupted, clean, [joint, (Component("attention", layer),)], lambda z: z[..., :50].sum(-1))
        torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("position", [None, "key", -1])
def test_equal_to_hooks_written_by_hand(model, position):
    """Against plain hooks on the Hugging Face model: whole forwards, one component at a time, one prompt at a time."""
    pairs, layout = random_pairs(2), model.layout
    clean, corrupted = two_runs(model, pairs)
    patches = [(Component("head", layer, head, position),) for layer, head in ((0, 1), (2, 3))] + [
        (Component("attention", 1, None, position),),
        (Component("mlp", 1, None, position),),
    ]
    logits = patched(model, corrupted, clean, patches, lambda z: z[..., 17])
    column = {None: slice(None), "key": slice(4, 5), -1: slice(-1, None)}[position]
    for row, pair in enumerate(pairs):
        for index, (component,) in enumerate(patches):
            mlp = component.kind == "mlp"
            module = model.layers[component.layer].mlp if mlp else model.projections[component.layer]
            features = slice(None) if component.head is None else layout.slice(component.layer, component.head)
            held = []

            def before(_, args, held=held, features=features):
                if not held:
                    held.append(args[0].clone())
                    return None
                new = args[0].clone()
                new[:, column, features] = held[0][:, column, features]
                return (new,)

            def after(_, __, output, held=held):
                if not held:
                    held.append(output.clone())
                    return None
                new = output.clone()
                new[:, column] = held[0][:, column]
                return new

            add = module.register_forward_pre_hook if component.kind == "head" else module.register_forward_hook
            handle = add(before if component.kind == "head" else after)
            with torch.no_grad():
                model.hf(input_ids=torch.tensor([pair.clean]))
                expected = model.hf(input_ids=torch.tensor([pair.corrupted])).logits[0, -1, 17]
            handle.remove()
            torch.testing.assert_close(logits[index, row], expected.float(), rtol=1e-4, atol=2e-5)


def test_effects_do_not_depend_on_batch_or_padding(model):
    pairs = random_pairs(8, uneven=True)
    patches = [*everywhere(model.layout), (Component("head", 1, 2, "key"),), (Component("mlp", 0, None, -1),)]
    maps = [
        sweep(model, pairs, patches, batching=batching)
        for batching in (Batching(1), Batching(8), Batching(8, "left"), Batching(8, "right"), Batching(3, "left", 60))
    ]
    assert np.abs(maps[0].effects("none").values).max() > 1e-2
    for other in maps[1:]:
        np.testing.assert_allclose(other.patched, maps[0].patched, rtol=0, atol=2e-4)
        np.testing.assert_allclose(other.clean, maps[0].clean, rtol=0, atol=2e-4)
        np.testing.assert_allclose(other.corrupted, maps[0].corrupted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_starting_at_the_first_token_that_differs_changes_nothing(model, direction):
    pairs = random_pairs(8, uneven=True)
    patches = [*everywhere(model.layout), (Component("head", 1, 2, "key"),), (Component("mlp", 0, None, -1),)]
    for side in (None, "left", "right"):
        whole, short = (sweep(model, pairs, patches, direction, batching=Batching(4, side, 4096, how)) for how in (False, True))
        assert np.abs(whole.effects("none").values).max() > 1e-2
        np.testing.assert_allclose(short.patched, whole.patched, rtol=0, atol=2e-4)


def test_denoising_mirrors_noising_of_the_exchanged_pairs(model):
    """Putting A's values into B is the same run, whether A is called clean or corrupted."""
    pairs = random_pairs(6)
    patches = everywhere(model.layout)
    denoised = sweep(model, pairs, patches, "denoise")
    noised = sweep(model, [pair.swapped for pair in pairs], patches, "noise")
    np.testing.assert_allclose(denoised.patched, -noised.patched, atol=1e-6)
    np.testing.assert_allclose(denoised.effects().values, noised.effects().values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", [LogitDifference(), LogitDifference("mean"), Divergence(), Probability()])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_whole_is_an_effect_of_one_and_nothing_of_zero(llama, metric, direction):
    pairs = random_pairs(6)
    patches = [(Component("residual", 0),), (Component("residual", 3),), ()]
    effects = sweep(llama, pairs, patches, direction, metric=metric).effects("example")
    np.testing.assert_allclose(effects.values, [[1.0] * 6, [1.0] * 6, [0.0] * 6], atol=1e-4)


def test_all_queries_keys_and_values_of_a_layer_are_its_heads(model):
    """What a layer's attention gives depends on its queries, keys and values alone; its heads only on their own."""
    clean, corrupted = two_runs(model, random_pairs(4))
    layout = model.layout
    inputs = [(kind, layout.n_kv_heads if kind != "query" else layout.n_heads) for kind in ("query", "key", "value")]
    joint = tuple(Component(kind, 1, head) for kind, count in inputs for head in range(count))
    outputs_ = tuple(Component("head", 1, head) for head in range(layout.n_heads))
    values = patched(model, corrupted, clean, [joint, outputs_], lambda z: z[..., :50].sum(-1))
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-4)
    # The inputs of query head 1 (its own query, and the key and value it shares) reach its output and no other key-value group.
    shared = 1 * layout.n_kv_heads // layout.n_heads
    mine = (Component("query", 1, 1), Component("key", 1, shared), Component("value", 1, shared))
    group = [head for head in range(layout.n_heads) if head * layout.n_kv_heads // layout.n_heads == shared]
    group_inputs = (*mine, *(Component("query", 1, head) for head in group if head != 1))
    group_outputs = tuple(Component("head", 1, head) for head in group)
    values = patched(model, corrupted, clean, [group_inputs, group_outputs], lambda z: z[..., :50].sum(-1))
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-4)


def test_windows_and_their_sum(llama):
    pairs, layout = random_pairs(6), llama.layout
    assert [component.layer for component in window(layout, "mlp", 1, 3)] == [0, 1, 2]
    assert [component.layer for component in window(layout, "mlp", 0, 2)] == [0]  # [0 - 1, 1) cut at 0
    assert [component.layer for component in window(layout, "mlp", 2, 2)] == [1, 2]
    single = outputs(layout, "mlp")
    windows = [window(layout, "mlp", centre, 1) for centre in range(3)] + [window(layout, "mlp", 1, 3)]
    patch_map = sweep(llama, pairs, single + windows)
    parts = [sweep(llama, pairs, some).effects() for some in (windows, single)]
    compared = against_sum(parts[0], parts[1], windows, single)
    np.testing.assert_allclose(compared.ratio[:3], 1.0, rtol=1e-4)  # a window of one layer is that layer
    np.testing.assert_allclose(compared.summed[3], patch_map.effects().values[:3].sum(axis=0), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="mlp 2"):
        against_sum(parts[0], parts[1], windows, single[:2])


def test_noise_is_as_large_as_said_and_the_same_in_every_batch(llama):
    weight = llama.hf.get_input_embeddings().weight
    assert embedding_deviation(llama) == pytest.approx(float(weight.double().std(correction=0)), rel=1e-6)
    pairs = random_pairs(8)
    plain = two_runs(llama, pairs)[0]
    runs = Noise(nu=2.0, draws=40).over(llama, pairs, ())(range(8), plain)
    moved = torch.stack([spoilt.residual[0] - plain.residual[0] for spoilt in runs])
    assert bool((moved[:, :, [0, 1, 2, 3, 5, 6]] == 0).all())
    # 40 x 8 x 32 = 10240 draws: the standard deviation's own error is 0.7 %.
    assert float(moved[:, :, 4].std()) == pytest.approx(2.0 * embedding_deviation(llama), rel=0.03)
    one, many = (sweep(llama, pairs, heads(llama.layout), corruption=Noise(draws=2), batching=Batching(rows)) for rows in (1, 8))
    np.testing.assert_allclose(one.patched, many.patched, atol=2e-4)


def test_ablations(llama):
    pairs = random_pairs(4)
    plain, spoilt = two_runs(llama, pairs)
    zero, mean, other = (Ablation(how).over(llama, pairs, ("mlp",))(range(4), plain)[0] for how in ("zero", "mean", "resample"))
    assert not zero.value("mlp", 1).any()
    torch.testing.assert_close(mean.value("mlp", 1)[2], spoilt.value("mlp", 1).mean(0))
    for row in range(4):
        where = [k for k in range(4) if torch.allclose(other.value("mlp", 1)[row], spoilt.value("mlp", 1)[k])]
        assert len(where) == 1 and where != [row]
    patch_map = sweep(llama, pairs, outputs(llama.layout, "mlp"), "noise", corruption=Ablation("zero"))
    assert np.isfinite(patch_map.effects("none").values).all()
    assert np.isnan(patch_map.effects("mean").values).all() and patch_map.effects("mean").reason
    with pytest.raises(UserError, match="noise"):
        sweep(llama, pairs, outputs(llama.layout, "mlp"), "denoise", corruption=Ablation("zero"))
    with pytest.raises(UserError, match="at least 2 pairs of every group and length"):
        sweep(llama, pairs[:1], outputs(llama.layout, "mlp"), "noise", corruption=Ablation("mean"))


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_an_ablation_does_not_depend_on_the_batch(llama, how):
    pairs = random_pairs(8, uneven=True)
    patches = heads(llama.layout)
    layouts = (Batching(1), Batching(8), Batching(8, "left"), Batching(3, "right"))
    maps = [sweep(llama, pairs, patches, "noise", Ablation(how), batching=batching) for batching in layouts]
    assert np.abs(maps[0].effects("none").values).max() > 1e-2
    for other in maps[1:]:
        np.testing.assert_allclose(other.patched, maps[0].patched, rtol=0, atol=2e-4)


def test_what_cannot_be_patched_is_refused(llama):
    pairs = random_pairs(2)
    absent = (Component("head", 3, 0), Component("head", 0, 4), Component("key", 0, 2), Component("residual", 4))
    for component in (*absent, Component("mlp", 3)):
        with pytest.raises(UserError, match="counted from zero"):
            sweep(llama, pairs, [(component,)])
    for position in ("S2", 12, -13):
        with pytest.raises(UserError, match="position"):
            sweep(llama, pairs, [(Component("head", 0, 0, position),)])
    with pytest.raises(UserError, match="at least one"):
        sweep(llama, [], heads(llama.layout))
    with pytest.raises(UserError, match="1 to 512 tokens"):
        batch_of(llama, [[1] * 513])
